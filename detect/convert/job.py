"""What to convert, and the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conversion:
    """What to convert.

    Attributes:
        source: file or folder of annotations or results.
        form: the format to write.
        out: folder for the new files.
        splits: splits of the annotations; none takes all with usual names. For VOC's results, the first is part of the
            file names.
        images: folder of the photos, if they are not in one of the usual ones.
        ground_truth: annotated photos of the results, for photo sizes and COCO's ids.
        classes: class names in label order, as `read_class_names` takes them.
        copy_photos: whether to copy the photos.
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
    """The outcome of a conversion.

    Attributes:
        what: "annotations" or "results".
        photos: number of photos.
        objects: number of annotated objects, or of detections.
        classes: class names in label order.
        notes: what looked wrong in the source, one line each.
        losses: what the new format cannot hold, one line for each kind.
    """

    what: str
    photos: int
    objects: int
    classes: Sequence[str]
    notes: Sequence[str]
    losses: Sequence[str]
