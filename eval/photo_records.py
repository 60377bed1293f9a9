"""What readers of annotated photos do alike when all is read: hand out the objects of each photo, and the notes."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from eval.notes import Notes
from structures.errors import InputError
from structures.records import Dataset, GroundTruth


class PhotoRecords:
    """Photos with their objects; a reader fills in the attributes.

    Attributes:
        image_ids: names of the photos.
        truths: their objects, in the same order.
    """

    image_ids: Sequence[str]
    truths: Sequence[GroundTruth]
    _notes: Notes

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[GroundTruth]:
        return iter(self.truths)

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations: one line per kind, with its count and first place."""
        return self._notes.lines()

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the annotated objects of one photo.

        Raises:
            InputError: there is no such photo.
        """
        if image_id not in self._places:
            raise self._unknown(image_id)
        return self.truths[self._places[image_id]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: place for place, image_id in enumerate(self.image_ids)}

    def _unknown(self, image_id: str) -> InputError:
        """Return what is wrong with a name that no photo has."""
        raise NotImplementedError


def truths_of(dataset: Dataset) -> Sequence[GroundTruth]:
    """Return the objects of all photos of a dataset, in its order."""
    return dataset.truths if isinstance(dataset, PhotoRecords) else list(dataset)
