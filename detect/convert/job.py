"""What is to be converted, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conversion:
    """What to convert.

    Attributes:
        source: file or folder of annotations or results.
        form: the format to write.
        out: folder of what is written.
        splits: parts of the annotations; none takes all that have a usual name. Of VOC's results the first is part of
            the files' names.
        images: folder of the photos, if they are in none of the usual ones.
        ground_truth: annotated photos that results are of: it knows sizes, and COCO's numbers.
        classes: names in the order of the labels, as `read_class_names` takes them.
        copy_photos: write the photos, too.
    """

    source: Path
    form: str
    out: Path
    splits: Sequence[str] = ()
    images: Path | None = None
    ground_truth: Path | None = None
    classes: Sequence[str] | None = None
    copy_photos: bool = False


@dataclass(frozen=True)
class Converted:
    """What came of a conversion.

    Attributes:
        what: annotations or results.
        photos: that were written about.
        objects: annotated objects, or detections.
        classes: names in the order of the labels.
        notes: what was odd about what was read.
        losses: what the new format cannot hold, a line for each kind.
    """

    what: str
    photos: int
    objects: int
    classes: Sequence[str]
    notes: Sequence[str]
    losses: Sequence[str]
