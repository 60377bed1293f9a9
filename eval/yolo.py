"""YOLO: read the photos and label files of a folder; write label files. The only place with boxes as shares of a photo.

Reading needs the photos: a box is written as shares of the photo's sides, as displayed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.checks import note_beyond, note_repeated, refuse_background, with_area
from eval.notes import Notes
from eval.photo_records import PhotoRecords
from eval.yolo_layout import yolo_layout
from eval.yolo_txt import NO_ROWS, RowForm, YoloError, YoloRows, read_rows
from structures.boxes import Doubles, ImageSize, area, as_boxes
from structures.errors import InputError
from structures.images import read_size
from structures.records import GroundTruth
from structures.text import number_of

DECIMALS = 10  # of a share: 0.00001 pixels on a photo of 100,000


class YoloDataset(PhotoRecords):
    """One split of a YOLO folder, in one of the layouts of `eval.yolo_layout`.

    A photo without a label file has no objects, as in Ultralytics' training.

    Args:
        path: the folder, its data.yaml or its obj.data.
        split: such as "val"; None takes the usual one, the only one there is, or all photos where there is no split.
        images: folder of the photos; None looks for them in the usual ones.
        usual: the split where none is named.

    Attributes:
        classes: names in the order of their numbers.
        image_ids: names of the photos below the folder of the split, with suffix.
        layout: where photos and labels lie.

    Raises:
        YoloError: something is missing or malformed; names the file and the line.
        ImageError: a photo cannot be read, so that its boxes have no size.
    """

    def __init__(self, path: Path, split: str | None = None, *, images: Path | None = None, usual: str = "val") -> None:
        self.root = Path(path)
        self._notes = Notes()
        self.layout = yolo_layout(self.root, split, usual, images, self._notes)
        self.classes: Sequence[str] = tuple(self.layout.classes)
        self.split, found = self.layout.split, self.layout.photos
        there = {image_id: photo for image_id, photo in found.items() if self._is_there(photo)}
        if not there:
            raise YoloError(f"{self.root}: none of the {number_of(len(found), 'photo')} of split {self.split!r} exists")
        for labels in self.layout.unlabelled:
            self._notes.add("file of labels without a photo left out", labels)
        self.image_ids: Sequence[str] = tuple(there)
        self.truths = [self._read(image_id) for image_id in there]
        self._refuse_background()

    def image_path(self, image_id: str) -> Path:
        """Return the path of the photo."""
        return self.layout.photos[image_id]

    def _unknown(self, image_id: str) -> YoloError:
        return YoloError(f"{self.root}: no image {image_id!r} in split {self.split!r}")

    def _is_there(self, photo: Path) -> bool:
        if not photo.is_file():
            self._notes.add("photo missing, left out together with any labels", photo)
        return photo.is_file()

    def _refuse_background(self) -> None:
        used = np.unique(np.concatenate([truth.labels for truth in self.truths]))
        try:
            refuse_background((self.classes[label] for label in used), self.root)
        except InputError as error:
            raise YoloError(str(error)) from None

    def _read(self, image_id: str) -> GroundTruth:
        path = self.layout.labels(image_id)
        rows = self._rows(path)
        size = read_size(self.image_path(image_id))
        boxes = as_boxes(rows.boxes(size))
        kept = with_area(boxes, self._notes, rows.place(path))
        note_beyond(self._notes, boxes, size, rows.place(path))
        note_repeated(self._notes, boxes, rows.labels, rows.place(path))
        boxes, labels = boxes[kept], rows.labels[kept]
        return GroundTruth(image_id, boxes, labels, np.zeros(len(boxes), bool), area(boxes), size)

    def _rows(self, path: Path) -> YoloRows:
        if path.is_file():
            return read_rows(path, len(self.classes), self._notes, RowForm(keypoints=self.layout.keypoints))
        self._notes.add("photo without a label file, taken to show no objects", path)
        return NO_ROWS


def yolo_lines(
    corners: Doubles, labels: Sequence[int], image_size: ImageSize, scores: Sequence[float] | None = None
) -> str:
    r"""Return the label file of a photo.

    Args:
        corners: (N, 4) x1, y1, x2, y2 in pixels.
        labels: N numbers of classes.
        image_size: (height, width) of the photo.
        scores: N of results; None for annotations.

    >>> yolo_lines(np.array([[0, 0, 50, 20.0]]), [3], (40, 100))
    '3 0.25 0.25 0.5 0.5\n'
    """
    height, width = image_size
    shares = corners / np.array([width, height, width, height], np.float64)
    centres, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    ends = [""] * len(labels) if scores is None else [f" {score:.9g}" for score in scores]
    rows = np.concatenate([centres, sides], axis=1).tolist()
    return "".join(
        f"{label} {' '.join(map(_decimal, row))}{end}\n" for label, row, end in zip(labels, rows, ends, strict=True)
    )


def _decimal(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
