"""What every training run shares: its photos, where it runs, and the record that goes into the weights."""

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from classifier.engines import DType, Placement, place
from classifier.weights import Checkpoint, save_checkpoint
from detect.defaults import VAL_PHOTOS
from detect.runs import commit
from detect.validation import RECORD
from eval.coco import CocoDataset
from eval.selection import Selection, class_names
from eval.voc import VocDataset
from structures.boxes import ImageSize
from structures.images import ImageError, read_size
from structures.records import Dataset, GroundTruth

SPLIT = "train"  # of a VOC folder, where none is named
COMPLAINTS = 3  # about photos, in one error
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def open_dataset(
    *, voc: Path | None, split: str | None, coco: Path | None, images: Path | None, classes: str | None = None
) -> Dataset:
    """Open the one dataset that the options name, with only the classes that are listed, "a,b", if some are.

    Raises:
        ValueError: none or both are named, COCO photos have no folder, a class is unknown, no photo shows an object, or
            photos cannot be read or are not those that were annotated.
    """
    if (voc is None) == (coco is None):
        raise ValueError("name the photos to learn from: either --voc FOLDER or --coco FILE with --images FOLDER")
    refuse_idle(
        {
            "--images is the folder of --coco; --voc has its own": voc is not None and images is not None,
            "--split is a list of --voc": voc is None and split is not None,
        }
    )
    dataset = _open(voc, split or SPLIT, coco, images, "--coco needs --images, the folder of its photos")
    _check_photos(dataset)
    chosen = dataset if classes is None else Selection(dataset, classes=class_names(classes))
    if not any(len(truth.boxes) for truth in chosen):
        raise ValueError(f"no objects to learn from on the {len(chosen)} photos")
    return chosen


def _check_photos(dataset: Dataset) -> None:
    """Refuse, before hours of work, photos that are missing or of another size than was annotated."""
    complaints = [complaint for truth in dataset if (complaint := _complaint(dataset, truth))]
    if complaints:
        raise ValueError(some_of(complaints))


def _complaint(dataset: Dataset, truth: GroundTruth) -> str | None:
    path = dataset.image_path(truth.image_id)
    try:
        height, width = read_size(path)
    except ImageError as error:
        return str(error)
    return _misfit(path, truth, height, width)


def _misfit(path: Path, truth: GroundTruth, height: int, width: int) -> str | None:
    high, wide = truth.image_size
    if (height, width) == (high, wide) or (not truth.size_known and height >= high and width >= wide):
        return None
    remedy = " (if its EXIF turns it wrongly, exiftool -Orientation= FILE)" if (width, height) == (high, wide) else ""
    return f"{path}: is {width} x {height} pixels, but {wide} x {high} were annotated{remedy}"


def some_of(complaints: Sequence[str]) -> str:
    """Join the first complaints, and say how many there are.

    >>> some_of(["a: no such file", "b: no such file", "c: no such file", "d: no such file"])
    'a: no such file; b: no such file; c: no such file; and 1 more'
    """
    more = len(complaints) - COMPLAINTS
    return "; ".join([*complaints[:COMPLAINTS], *([f"and {more} more"] if more > 0 else [])])


def open_validation(
    learned_from: Dataset,
    *,
    voc: Path | None,
    val: str | None,
    coco: Path | None,
    images: Path | None,
    usual_images: Path | None = None,
    photos: int | None = None,
) -> Selection | None:
    """Open the photos to validate on, with the classes of those learned from; None if no option names any.

    Args:
        learned_from: dataset of the training.
        voc: its VOC folder.
        val: list of the VOC folder.
        coco: COCO annotations.
        images: folder of the COCO photos.
        usual_images: the same where none is named.
        photos: so many, evenly spread; 0 takes all, None as many as are usual.

    Raises:
        ValueError: both kinds are named, the list has no VOC folder, the photos lack a class, there is nothing to find
            on them, none can be read, or some are not those that were annotated.
    """
    refuse_idle({"--val-images is the folder of --val-coco": coco is None and images is not None})
    if val is None and coco is None:
        return None
    if val is not None and coco is not None:
        raise ValueError("name the photos to validate on once: either --val LIST or --val-coco FILE")
    if val is not None and voc is None:
        raise ValueError("--val names a list of the --voc folder; COCO photos are named by --val-coco FILE")
    folder, complaint = images or usual_images, "--val-coco needs --val-images, a folder"
    whole = _open(voc if val is not None else None, val or "", coco, folder, complaint)
    chosen = Selection(whole, classes=learned_from.classes, photos=VAL_PHOTOS if photos is None else photos)
    if all(truth.ignore.all() for truth in chosen):
        raise ValueError(f"no object that counts on the {len(chosen)} photos to validate on")
    _check_sizes(chosen)
    return chosen


def _check_sizes(dataset: Dataset) -> None:
    """Refuse photos to validate on of another size than was annotated, or none at all; single ones may be missing."""
    sizes, unread = _sizes(dataset)
    misfits = (
        _misfit(dataset.image_path(truth.image_id), truth, *sizes[truth.image_id])
        for truth in dataset
        if truth.image_id in sizes
    )
    complaints = [complaint for complaint in misfits if complaint]
    if complaints:
        raise ValueError(f"photos to validate on: {some_of(complaints)}")
    if not sizes:
        raise ValueError(f"none of the {len(dataset)} photos to validate on can be read: {some_of([*unread.values()])}")


def unreadable(dataset: Dataset) -> dict[str, str]:
    """Return why photos of a dataset cannot be read, by their names."""
    return _sizes(dataset)[1]


def _sizes(dataset: Dataset) -> tuple[dict[str, ImageSize], dict[str, str]]:
    """Return the sizes of the photos, and why others have none, by their names."""
    sizes, reasons = dict[str, ImageSize](), dict[str, str]()
    for image_id in dataset.image_ids:
        try:
            sizes[image_id] = read_size(dataset.image_path(image_id))
        except ImageError as error:
            reasons[image_id] = str(error)
    return sizes, reasons


def summary(dataset: Dataset, judged: Dataset | None) -> list[str]:
    """Say what there is to learn from, a line each, and what looks wrong about it."""
    objects = Counter(label for truth in dataset for label in truth.labels.tolist())
    by_class = ", ".join(f"{name} {objects[label]}" for label, name in enumerate(dataset.classes))
    lines = [f"{len(dataset)} photos with {objects.total()} objects: {by_class}"]
    nothing = [name for label, name in enumerate(dataset.classes) if not objects[label]]
    if nothing:
        lines.append(f"warning: no object of {', '.join(nothing)}, which will not be learned")
    lines += [f"warning: {note}" for note in getattr(dataset, "notes", [])]
    learned = {os.path.realpath(dataset.image_path(image_id)) for image_id in dataset.image_ids}
    ids = [] if judged is None else judged.image_ids
    both = [i for i in ids if judged is not None and os.path.realpath(judged.image_path(i)) in learned]
    if both:
        told = f"{len(both)} of {len(ids)} photos to validate on are learned from"
        lines.append(f"warning: {told}; the figure will flatter")
    return lines


def refuse_idle(idle: Mapping[str, bool]) -> None:
    """Refuse options that would change nothing.

    Args:
        idle: complaint -> whether it holds.

    Raises:
        ValueError: one holds.
    """
    for complaint, is_idle in idle.items():
        if is_idle:
            raise ValueError(complaint)


def _open(voc: Path | None, split: str, coco: Path | None, images: Path | None, complaint: str) -> Dataset:
    if voc is not None:
        return VocDataset(voc, split)
    if coco is None or images is None:
        raise ValueError(complaint)
    return CocoDataset(coco, images)


def check_out(out: Path) -> None:
    """Refuse, before hours of work, a file that weights cannot be written to.

    Raises:
        ValueError: another suffix, or a folder that cannot be written to.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out}: weights are written as .safetensors")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK) or out.is_dir():
        raise ValueError(f"--out {out}: cannot be written")


def note(checkpoint: Checkpoint, data: Mapping[str, Any]) -> Checkpoint:
    """Add to a checkpoint how it was made: data, command, commit; of paths in the command only the last part."""
    command = " ".join(["rcnn", *map(_without_folders, sys.argv[1:])])
    return replace(checkpoint, training={**checkpoint.training, **data, "command": command, "commit": commit()})


def _without_folders(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + equals + (Path(value).name or value)


def training_placement(device: str, dtype: str) -> Placement:
    """Choose where to train, in torch: bfloat16 where it is native, float32 elsewhere.

    On a CPU the process keeps the memory that it frees from now on.

    Raises:
        ValueError: float16 was asked for, whose gradients would vanish, or a device that cannot be had.
    """
    if dtype == "float16":
        raise ValueError("--dtype float16 is for testing; train in bfloat16 or float32")
    placement = place(device=device, engine="torch", dtype=cast(DType, dtype))
    if placement.device.type == "cpu":
        _keep_freed_memory()
    return placement if placement.dtype != "float16" else place(device=device, engine="torch", dtype="float32")


def _keep_freed_memory() -> None:
    """Let the C library keep what torch frees after every batch; taken back from the system it must be cleared anew.

    Only glibc can; elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def frozen_placement(training: Placement, device: torch.device, dtype: str) -> Placement:
    """Choose how stages that are not trained run: on the device of the training, in the quickest engine.

    Args:
        training: where the training runs; its reason becomes part of this one's.
        device: of this process.
        dtype: precision that was asked for, or "auto".

    Raises:
        ValueError: the engine cannot be had.
    """
    chosen = place(device=str(device), dtype=cast(DType, dtype))
    return replace(chosen, reason=f"{training.reason}; frozen stages: {chosen.engine} {chosen.dtype}")


def save_weights(out: Path, weights: Checkpoint, last: Checkpoint | None) -> list[str]:
    """Write the weights to use, and the last ones beside them if the training was judged; say so, a line each."""
    save_checkpoint(weights, out)
    lines = [f"weights written to {out}{_judged(weights)}"]
    if last is not None:
        beside = out.with_suffix(f".last{out.suffix}")
        save_checkpoint(last, beside)
        lines.append(f"the last of the training to {beside}{_judged(last)}")
    return lines


def what_stays(work: Path) -> str:
    """Say how much the folder of a finished run holds."""
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    return f"{size / 1e9:.1f} GB stay in {work} for another training on the same regions; remove it when you are done"


def _judged(weights: Checkpoint) -> str:
    record = weights.training.get(RECORD)
    if record is None:
        return ""
    stage = f"stage {weights.training['stage']}, " if "stage" in weights.training else ""
    return f" ({stage}iteration {record['iteration']}, {record['figure']} {100 * record['value']:.2f})"
