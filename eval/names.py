"""Which image of a dataset a name means: VOC names images by stem, COCO by file name, other programs by number."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from structures.errors import InputError
from structures.photo_names import PhotoNames
from structures.records import Dataset

LEAVE_OUT = "`allow_extra=True` leaves it out"  # a photo that the ground truth lacks
NUMBER = re.compile("[0-9]{1,18}")  # as 64 bits hold


class ImageNames:
    """Finds the image of a dataset that a name means, as `PhotoNames` has it.

    Args:
        dataset: the images.
        numbers: an image may also be called by its number: COCO's image id, or a stem of digits without zeros in front.
            Only a whole name is a number: 7.jpg never means the image with id 7.
    """

    def __init__(self, dataset: Dataset, *, numbers: bool = False) -> None:
        self._names = PhotoNames(dataset.image_ids)
        self._numbers = _numbers(dataset) if numbers else {}

    def find(self, name: str) -> str | None:
        """Return the image id that a name means; None if there is none."""
        if name in self._numbers:
            return self._numbers[name]
        maybe_number = bool(self._numbers) and NUMBER.fullmatch(name) is not None and not name.startswith("0")
        return self._names.find(name, without_suffix=not maybe_number)  # 17, an id that is not there, is not 17.jpg


def _numbers(dataset: Dataset) -> dict[str, str]:
    given: Mapping[str, int] = getattr(dataset, "image_numbers", {}) or _stem_numbers(dataset.image_ids)
    return {str(number): image_id for image_id, number in given.items()}


def _stem_numbers(image_ids: Sequence[str]) -> dict[str, int]:
    digits = {image_id: int(image_id) for image_id in image_ids if NUMBER.fullmatch(image_id)}
    counts = Counter(digits.values())
    return {image_id: number for image_id, number in digits.items() if counts[number] == 1}


def match_names(names: Sequence[str], dataset: Dataset) -> tuple[dict[str, str], list[str]]:
    """Match the names in another program's file, which may be numbers, with the images of a dataset.

    Returns:
        The name of every image id that has one, in the order of the names, and the names that no image has.

    Raises:
        InputError: two names mean the same image, or no name means any.
    """
    images = ImageNames(dataset, numbers=True)
    found, extra = dict[str, str](), list[str]()
    for name in names:
        image_id = images.find(name)
        if image_id is None:
            extra.append(name)
        elif image_id in found:
            raise InputError(f"{name} and {found[image_id]} are both image {image_id} of the ground truth")
        else:
            found[image_id] = name
    if not found:
        raise InputError(
            f"none of the photos is in the ground truth, such as {', '.join(names[:3]) or '(the file is empty)'}"
        )
    return found, extra
