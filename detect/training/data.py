"""Opens the annotated photos of a training, and checks them before hours of work."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from detect.defaults import VAL_PHOTOS, refuse_options_without_effect
from eval.ground_truth import AnyDataset, has_crowds, has_split, open_ground_truth
from eval.joined import JoinedDataset, folder_names
from eval.notes import notes_of
from eval.selection import Selection
from eval.sizes import misfit
from structures.boxes import ImageSize
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.images import ImageError, read_size
from structures.records import Dataset, GroundTruth
from structures.text import number_of, some_of

SPLIT = "train"  # the default


def open_dataset(
    ground_truth: Sequence[Path],
    *,
    split: str | None = None,
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    ignored: Sequence[str] | None = None,
    use_difficult: bool = False,
) -> Selection:
    """Open the photos to learn from.

    Args:
        ground_truth: folders or files as `eval.ground_truth.open_ground_truth` takes them; several are joined.
        split: a split of each; None takes "train", or the only one.
        images: folder of the photos; None takes the usual ones of the format.
        classes: classes to learn, as `read_class_names` takes them; None learns all.
        ignored: classes whose objects count neither as objects nor as background, likewise.
        use_difficult: where there are such classes, VOC's difficult objects of the others count as objects.

    Raises:
        InputError: no photos are named, the classes of several datasets differ, a class is unknown, no photo shows an
            object, or photos cannot be read or have another size than annotated.
    """
    if not ground_truth:
        raise InputError("name the photos to learn from as `ground_truth`")
    dataset = _open(ground_truth, split, images, usual=SPLIT)
    _check_photos(dataset)
    names = None if classes is None else read_class_names(classes, known=dataset.classes)
    unclear = [] if ignored is None else read_class_names(ignored, known=dataset.classes)
    alone = use_difficult and bool(unclear) and not has_crowds(dataset)
    chosen = Selection(dataset, classes=names, to_learn=True, ignored=unclear, ignored_alone=alone)
    if not any(len(truth.boxes) for truth in chosen):
        raise InputError(
            "; ".join([f"no objects to learn from on the {number_of(len(chosen), 'photo')}", *notes_of(chosen)])
        )
    return chosen


def _check_photos(dataset: Dataset) -> None:
    """Refuse, before hours of work, photos that are missing or have another size than annotated."""
    complaints = [complaint for truth in dataset if (complaint := _complaint(dataset, truth))]
    if complaints:
        raise InputError(some_of(complaints))


def _complaint(dataset: Dataset, truth: GroundTruth) -> str | None:
    path = dataset.image_path(truth.image_id)
    try:
        size = read_size(path)
    except ImageError as error:
        return str(error)
    return misfit(path, truth, size)


def open_validation(
    learned_from: Dataset,
    *,
    ground_truth: Sequence[Path],
    val: str | None = None,
    val_ground_truth: Path | None = None,
    val_images: Path | None = None,
    usual_images: Path | None = None,
    photos: int | None = None,
) -> Selection | None:
    """Open the photos to validate on, with the classes of those to learn from; None if none are named.

    Args:
        learned_from: photos to learn from.
        ground_truth: their folders or files.
        val: list or folder of the photos to validate on, in `val_ground_truth`, or else in those of `ground_truth` that
            have it.
        val_ground_truth: other annotated photos.
        val_images: folder of the photos of `val_ground_truth`.
        usual_images: default for `val_images`.
        photos: most photos, evenly spread; 0 takes all, None the default number.

    Raises:
        InputError: the photos lack a class, show no object that counts, cannot be read, or have another size than
            annotated.
    """
    alone = val_images is not None and val_ground_truth is None
    refuse_options_without_effect({"`val_images` is the folder of `val_ground_truth`": alone})
    paths = [val_ground_truth] if val_ground_truth is not None else _having(ground_truth, val)
    if not paths:
        return None
    try:
        whole = _open(paths, val, val_images or usual_images, keep=learned_from.classes)
        chosen = Selection(whole, classes=learned_from.classes, photos=VAL_PHOTOS if photos is None else photos)
    except InputError as error:
        said = str(error).replace("`split`", "`val`").replace("`images`", "`val_images`")
        raise InputError(f"photos to validate on ({', '.join(map(str, paths))}): {said}") from None
    if all(truth.ignore.all() for truth in chosen):
        raise InputError(f"no object that counts on the {number_of(len(chosen), 'photo')} to validate on")
    _check_sizes(chosen)
    return chosen


def _check_sizes(dataset: Dataset) -> None:
    """Refuse validation photos of another size than annotated, or if none can be read; single ones may be missing."""
    sizes, unread = _sizes(dataset)
    misfits = (
        misfit(dataset.image_path(truth.image_id), truth, sizes[truth.image_id])
        for truth in dataset
        if truth.image_id in sizes
    )
    complaints = [complaint for complaint in misfits if complaint]
    if complaints:
        raise InputError(f"photos to validate on: {some_of(complaints)}")
    if not sizes:
        raise InputError(
            f"none of the {number_of(len(dataset), 'photo')} to validate on can be read: {some_of([*unread.values()])}"
        )


def unreadable(dataset: Dataset) -> dict[str, str]:
    """Return the photos of a dataset that cannot be read: image id -> reason."""
    return _sizes(dataset)[1]


def _sizes(dataset: Dataset) -> tuple[dict[str, ImageSize], dict[str, str]]:
    """Return the sizes of the photos by image id, and the reasons for those that cannot be read."""
    sizes, reasons = dict[str, ImageSize](), dict[str, str]()
    for image_id in dataset.image_ids:
        try:
            sizes[image_id] = read_size(dataset.image_path(image_id))
        except ImageError as error:
            reasons[image_id] = str(error)
    return sizes, reasons


def summary(dataset: Dataset, validation_set: Dataset | None) -> list[str]:
    """Return lines about the photos to learn from, and warnings about what looks wrong."""
    objects = Counter(label for truth in dataset for label in truth.labels.tolist())
    by_class = ", ".join(f"{name} {objects[label]}" for label, name in enumerate(dataset.classes))
    lines = [f"{number_of(len(dataset), 'photo')} with {number_of(objects.total(), 'object')}: {by_class}"]
    nothing = [name for label, name in enumerate(dataset.classes) if not objects[label]]
    if nothing:
        lines.append(f"warning: no object of {', '.join(nothing)}, which will not be learned")
    lines += [f"warning: {note}" for note in notes_of(dataset)]
    learned = set(_real_paths(dataset))
    paths = [] if validation_set is None else _real_paths(validation_set)
    both = learned.intersection(paths)
    if both:
        told = f"{len(both)} of {len(paths)} validation photos are also learned from"
        lines.append(f"warning: {told}; the score will be too high")
    return lines


def _real_paths(dataset: Dataset) -> list[str]:
    return [os.path.realpath(dataset.image_path(image_id)) for image_id in dataset.image_ids]


def _having(ground_truth: Sequence[Path], val: str | None) -> Sequence[Path]:
    """Return the paths that have a list or folder of this name; if none has, the first, whose error says so."""
    return [] if val is None else [path for path in ground_truth if has_split(path, val)] or ground_truth[:1]


def _open(
    paths: Sequence[Path],
    split: str | None,
    images: Path | None,
    *,
    usual: str = "val",
    keep: Collection[str] = (),
) -> AnyDataset | JoinedDataset:
    names = folder_names(paths)  # refuses a folder that is named twice, too
    parts = [open_ground_truth(path, split, images, usual=usual, keep=keep) for path in paths]
    return parts[0] if len(parts) == 1 else JoinedDataset(dict(zip(names, parts, strict=True)))
