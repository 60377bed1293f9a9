"""Boxes that were made before, as a proposal generator: `file:PATH`.

A folder of stored proposals knows its photos by their pixels. Files of other programs know them by name only: they can
be measured as they are, and `proposals_of` gives what a `StoreWriter` needs to turn them into such a folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from proposals.protocol import TELLS_FIT
from proposals.stored.checks import BoxChecks
from proposals.stored.foreign import ForeignBoxes, read_foreign
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.reader import ProposalStore, StoreError, file_key
from proposals.tidy import clean_proposals
from structures.boxes import Boxes, Floats
from structures.records import Image, Proposals

MADE = ("generator", "parameters", "exif", "max_boxes", TELLS_FIT)  # what the manifest says about how boxes were made


class NamedBoxes(Protocol):
    """Boxes by the name of the photo."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the photos."""

    def boxes_of(self, image_id: str) -> tuple[Boxes, Floats]:
        """Return the boxes (N, 4) and scores (N,) of a photo, best first, but for a union.

        Raises:
            InputError: there is no such photo.
        """


def open_boxes(path: str | Path) -> NamedBoxes:
    """Open a folder of stored proposals, or a file of another program (see `proposals.stored.foreign`).

    Raises:
        InputError: neither.
        OSError: the file cannot be opened.
    """
    return ProposalStore(path) if Path(path).is_dir() else read_foreign(path)


class StoredProposals:
    """Looks boxes up instead of making them.

    Args:
        path: as for `open_boxes`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.boxes = open_boxes(path)
        self._content = "" if self.path.is_dir() else file_key(path)
        self._given: dict[str | int, str] = {}  # entry of a file -> the photo that has its boxes
        self._checks = BoxChecks()

    @property
    def name(self) -> str:
        """`file:` and the name of the file."""
        return f"file:{self.path.name}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How the boxes were made, as far as the file tells."""
        if isinstance(self.boxes, ProposalStore):
            manifest = self.boxes.manifest
            return {key: manifest[key] for key in MADE if key in manifest}
        return {"file": self.path.name, "photos": len(self.boxes.image_ids), "content": self._content}

    @property
    def scores_tell_fit(self) -> bool:
        """Whether the scores say how well a box fits an object: as with the generator that made them."""
        return isinstance(self.boxes, ProposalStore) and bool(self.boxes.manifest.get(TELLS_FIT, False))

    @property
    def notes(self) -> list[str]:
        """What was odd about the boxes of the photos so far, one line each."""
        return [f"{self.path}: {line}" for line in self._checks.lines()]

    def __call__(self, image: Image) -> Proposals:
        """Return the stored proposals of a photo with these pixels.

        Raises:
            StoreError: it has no boxes of the photo, or knows photos by name only.
        """
        if not isinstance(self.boxes, ProposalStore):
            raise StoreError(
                f"{self.path}: knows photos by name only; "
                "turn it into a folder of stored proposals, which knows them by their pixels"
            )
        found = self.boxes.find(image)
        if found is None:
            raise StoreError(f"{self.path}: holds no boxes of this photo")
        return found

    def proposals_of(self, image_id: str, image: Image) -> Proposals:
        """Return the proposals of a photo by its pixels, or by its name where the file knows only names.

        Raises:
            StoreError: the folder has no boxes of these pixels.
            ForeignError: the file has none of this name, or another photo has them, of the same name in another folder.
        """
        if isinstance(self.boxes, ForeignBoxes):
            entry = self.boxes.entry_of(image_id)
            other = self._given.setdefault(entry, image_id)
            if other != image_id:
                raise ForeignError(
                    f"{self.path}: lists {entry}, which may be {other!r} or {image_id!r}; name one of them"
                )
            boxes, scores = self.boxes.boxes_of(image_id)
            size = (image.shape[0], image.shape[1])
            self._checks.look(image_id, boxes, size)
            return clean_proposals(boxes, scores, size, self.path.stem)
        return self(image)
