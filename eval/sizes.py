"""Do photos have the sizes that were annotated?"""

from pathlib import Path

from structures.boxes import ImageSize
from structures.images import ImageError, read_size
from structures.records import Dataset, GroundTruth


def misfit(path: Path, truth: GroundTruth, size: ImageSize) -> str | None:
    """Return what is wrong if a photo of this size is not as annotated; a size that was not stated need only suffice.

    Args:
        path: of the photo.
        truth: its annotation.
        size: (height, width) of the photo as it is read.
    """
    (height, width), (high, wide) = size, truth.image_size
    if (height, width) == (high, wide) or (not truth.size_known and height >= high and width >= wide):
        return None
    remedy = " (if its EXIF turns it wrongly, exiftool -Orientation= FILE)" if (width, height) == (high, wide) else ""
    return f"{path}: is {width} x {height} pixels, but {wide} x {high} were annotated{remedy}"


def misfits(dataset: Dataset) -> list[str]:
    """Return what is wrong with the photos whose size can be read, and is not the annotated one."""
    found = ((dataset.image_path(truth.image_id), truth) for truth in dataset)
    complaints = (misfit(path, truth, size) for path, truth in found if (size := size_of(path)))
    return [complaint for complaint in complaints if complaint]


def size_of(path: Path) -> ImageSize | None:
    """Return the (height, width) of a photo as it is read; None if it cannot be read."""
    try:
        return read_size(path)
    except ImageError:
        return None
