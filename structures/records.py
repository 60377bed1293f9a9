"""The records that flow between the rooms: frozen columns of NumPy arrays, checked when made."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, SupportsFloat, overload

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, ImageSize, Mask, as_boxes
from structures.errors import InputError
from structures.names import ClassNames
from structures.text import aligned, number_of

if TYPE_CHECKING:
    from typing_extensions import Self

Image = npt.NDArray[np.uint8]
"""An RGB photo: uint8, shape (H, W, 3)."""

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[Any] | slice | Sequence[int] | Sequence[bool]
"""Some rows of a record: indices, a mask or a slice."""

PRINTED = ("label", "score", "x1", "y1", "x2", "y2", "source")
SHOWN = 20  # detections that `print` shows
SHOWN_IN_REPR = 3


def _column(values: npt.ArrayLike, dtype: npt.DTypeLike, length: int, name: str) -> npt.NDArray[Any]:
    column = np.asarray(values, dtype=dtype)
    if column.shape != (length,):
        raise InputError(f"{name} must have shape ({length},), got {column.shape}")
    return column


def _check_finite(values: npt.NDArray[Any], name: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds values that are not finite")


def _check_source(source: npt.NDArray[np.uint8], names: Sequence[str]) -> None:
    if len(source) and source.max() >= len(names):
        raise InputError(f"source {source.max()} has no name in {names}")


@dataclass(frozen=True, eq=False)
class _Rows:
    """What all records can do: give some of their rows.

    Attributes:
        COLUMNS: the arrays that have one value or one box for each row.
    """

    COLUMNS: ClassVar[tuple[str, ...]]

    def take(self, rows: Rows) -> "Self":
        """Return the chosen rows, by indices, by a mask or by a slice."""
        index = rows if isinstance(rows, slice) or len(rows) else slice(0)  # NumPy takes [] for fractions
        return replace(self, **{name: getattr(self, name)[index] for name in self.COLUMNS})


@dataclass(frozen=True, eq=False)
class Proposals(_Rows):
    """Where objects might be in one image: best first, but for a union, which lists its parts one after the other.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        scores: (N,) float32, higher is better; comparable within one source only.
        image_size: (height, width) of the original image.
        source: (N,) uint8 index into source_names: which generator made the box.
        source_names: names of the generators.
        left_out: boxes that the generator made, but does not propose, best first; None where it names none.

    Raises:
        InputError: columns of different lengths, or values that are not finite.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("boxes", "scores", "source")

    boxes: Boxes
    scores: Floats
    image_size: ImageSize
    source: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    source_names: tuple[str, ...] = ("",)
    left_out: "Proposals | None" = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        source = self.source if len(self.source) else np.zeros(len(boxes), np.uint8)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", _column(self.scores, np.float32, len(boxes), "scores"))
        object.__setattr__(self, "source", _column(source, np.uint8, len(boxes), "source"))
        _check_finite(self.boxes, "boxes")
        _check_finite(self.scores, "scores")
        _check_source(self.source, self.source_names)

    def __len__(self) -> int:
        return len(self.boxes)

    def first(self, count: int) -> "Proposals":
        """Return the first boxes; the others come before those that are left out already."""
        behind = self.take(slice(count, None))
        return replace(self.take(slice(count)), left_out=behind.followed_by(self.left_out))

    def followed_by(self, others: "Proposals | None") -> "Proposals":
        """Return these boxes followed by others of the same photo; nothing is left out of the two."""
        if others is None:
            return replace(self, left_out=None)
        names = tuple(dict.fromkeys([*self.source_names, *others.source_names]))
        source = [np.array([names.index(n) for n in p.source_names], np.uint8)[p.source] for p in (self, others)]
        return Proposals(
            np.concatenate([self.boxes, others.boxes]),
            np.concatenate([self.scores, others.scores]),
            self.image_size,
            np.concatenate(source),
            names,
        )


class Detection(NamedTuple):
    """One object that was found.

    Attributes:
        label: name of its class; the number of the class where names are not known.
        score: probability of the class, times how well the box fits where its proposal tells.
        box: x1, y1, x2, y2 in pixels of the original image.
        source: which generator proposed the box; "" where that is not known.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    source: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Detections(_Rows):
    """What was found in one image, best first: columns of arrays, and a sequence of `Detection`.

    `for each in found` and `found[0]` give one `Detection` each; `found[mask]`, `found[2:5]` and `found[[0, 3]]` give
    the record of those rows.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        labels: (N,) int64, 0..C-1: the probability column of the class.
        scores: (N,) float32 in 0..1: probability of the class, times how well the box fits where its proposal tells.
        image_size: (height, width) of the original image.
        source: (N,) uint8 index into source_names: which generator proposed the box.
        source_names: names of the generators.
        classes: names of the labels; empty where they are not known.

    Raises:
        InputError: columns of different lengths, values that are not finite, or a label that has no name.

    >>> found = Detections(as_boxes([[0, 0, 9, 9]]), np.array([1]), np.float32([0.5]), (20, 30), classes=("cat", "dog"))
    >>> found[0]
    Detection(label='dog', score=0.5, box=(0.0, 0.0, 9.0, 9.0), source='')
    >>> print(found)
    1 object in 30 x 20 pixels
    label  score   x1   y1   x2   y2  source
    dog     0.50  0.0  0.0  9.0  9.0
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("boxes", "labels", "scores", "source")

    boxes: Boxes
    labels: Labels
    scores: Floats
    image_size: ImageSize
    source: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    source_names: tuple[str, ...] = ("",)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        source = self.source if len(self.source) else np.zeros(len(boxes), np.uint8)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _column(self.labels, np.int64, len(boxes), "labels"))
        object.__setattr__(self, "scores", _column(self.scores, np.float32, len(boxes), "scores"))
        object.__setattr__(self, "source", _column(source, np.uint8, len(boxes), "source"))
        _check_finite(self.boxes, "boxes")
        _check_finite(self.scores, "scores")
        _check_source(self.source, self.source_names)
        if self.classes and len(boxes) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise InputError(
                f"labels {self.labels.min()} to {self.labels.max()}, expected 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Detection: ...
    @overload
    def __getitem__(self, rows: Rows) -> "Self": ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> "Detection | Self":
        rows = np.asarray(rows) if hasattr(rows, "__array__") else rows  # a column of pandas, a tensor
        if isinstance(rows, slice | Sequence) or (isinstance(rows, np.ndarray) and rows.ndim):
            return self.take(rows)
        row = range(len(self))[rows]  # an IndexError beyond the last
        shortest = map(float, map(str, np.append(self.scores[row], self.boxes[row])))  # 0.9, not 0.899999976
        score, x1, y1, x2, y2 = shortest
        return Detection(self._name(self.labels[row]), score, (x1, y1, x2, y2), self.source_names[self.source[row]])

    def __repr__(self) -> str:
        best = [f"{each.label} {each.score:.2f}" for each in self[:SHOWN_IN_REPR]]
        more = ["..."] * (len(self) > SHOWN_IN_REPR)
        return f"<{type(self).__name__}: {', '.join([self._summary(), *best, *more])}>"

    def __str__(self) -> str:
        rows = [(label, f"{score:.2f}", *map("{:.1f}".format, box), by) for label, score, box, by in self[:SHOWN]]
        table = aligned([PRINTED, *rows], left={0, 6}) if rows else []
        return "\n".join([self._summary(), *table, *([f"... and {len(self) - SHOWN} more"] * (len(self) > SHOWN))])

    def where(self, *, score: float | None = None, labels: str | Sequence[str] | None = None) -> "Self":
        """Return the detections that are good enough, of some classes, or both.

        Args:
            score: the weakest to keep; None keeps all.
            labels: names of classes, or of one; None keeps all. Upper and lower case count as equal if no two classes
                differ in nothing else.

        Raises:
            InputError: a name is not one of the classes; the message says which is most like it. Or the score is not a
                number.
        """
        if score is not None and not (isinstance(score, SupportsFloat) and float(score) == float(score)):
            raise InputError(f"`score` {score!r} must be a number")
        keep = np.ones(len(self), np.bool_) if score is None else self.scores >= np.float32(score)
        if labels is not None:
            known = ClassNames(self.classes)
            named = labels if isinstance(labels, Iterable) and not isinstance(labels, str) else [labels]
            chosen = [known.label(name) for name in named]
            keep &= np.isin(self.labels, chosen)
        return self.take(keep)

    def names(self) -> list[str]:
        """Return the label of each detection by its name; by its number where names are not known."""
        return [self._name(label) for label in self.labels]

    def _name(self, label: np.int64) -> str:
        return self.classes[label] if self.classes else str(label)

    def _summary(self) -> str:
        """Say how many objects were found, and where."""
        height, width = self.image_size
        return f"{number_of(len(self), 'object') if len(self) else 'no objects'} in {width} x {height} pixels"


@dataclass(frozen=True, eq=False)
class GroundTruth(_Rows):
    """The annotated objects of one image.

    Attributes:
        image_id: name of the image within its dataset.
        boxes: (N, 4) float32 xyxy in pixels.
        labels: (N,) int64 index into the dataset's classes.
        ignore: (N,) bool: VOC's difficult or COCO's crowd objects.
        area: (N,) float32 in square pixels: COCO's mask area, or the area of the box.
        image_size: (height, width) of the image.
        size_known: whether image_size was stated; else the boxes reach so far, and the image may be larger.

    Raises:
        InputError: columns of different lengths, or values that are not finite.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("boxes", "labels", "ignore", "area")

    image_id: str
    boxes: Boxes
    labels: Labels
    ignore: Mask
    area: Floats
    image_size: ImageSize
    size_known: bool = True

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _column(self.labels, np.int64, len(boxes), "labels"))
        object.__setattr__(self, "ignore", _column(self.ignore, np.bool_, len(boxes), "ignore"))
        object.__setattr__(self, "area", _column(self.area, np.float32, len(boxes), "area"))
        _check_finite(self.boxes, "boxes")

    def __len__(self) -> int:
        return len(self.boxes)


class Dataset(Protocol):
    """Annotated photos: what evaluation and training read. The readers of VOC, COCO and YOLO are in eval/."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names; a label is an index into them."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the images, in a fixed order."""

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the annotated objects of one image."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[GroundTruth]: ...
