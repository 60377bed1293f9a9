"""Which format are annotated photos in? The one place that recognises it, for every command that takes ground truth."""

from collections.abc import Collection, Iterator
from glob import escape
from pathlib import Path
from typing import TypeAlias

from eval import voc_layout, yolo_layout
from eval.coco import CocoDataset
from eval.joined import JoinedDataset
from eval.layout import SPLITS, spellings_of
from eval.selection import Selection
from eval.voc import VocDataset
from eval.voc_layout import has_lists, has_xml
from eval.yolo import YoloDataset
from eval.yolo_config import DARKNET, NAME_LISTS, names_files, yolo_config
from structures.errors import InputError
from structures.records import Dataset

AnyDataset: TypeAlias = VocDataset | CocoDataset | YoloDataset

ROBOFLOW = "_annotations.coco.json"
COCO_NAMES = (ROBOFLOW, "instances*.json", "annotations/instances*.json", "*coco*.json", "annotations/*.json")
SPLIT_NAMES = (
    f"{{split}}/{ROBOFLOW}",
    "annotations/instances_{split}*.json",
    "instances_{split}*.json",
    "annotations/{split}.json",
    "{split}.json",
)
LOOKED_FOR = (
    "ImageSets/Main or *.xml (VOC); "
    f"instances*.json, annotations/*.json or SPLIT/{ROBOFLOW} (COCO); "
    f"data.yaml, {DARKNET} or a list of classes such as {NAME_LISTS[0]} (YOLO)"
)


def open_ground_truth(
    path: Path,
    split: str | None = None,
    images: Path | None = None,
    *,
    usual: str = "val",
    keep: Collection[str] = (),
) -> AnyDataset:
    """Open annotated photos, whatever their format: VOC's, COCO's or YOLO's, as tools export them.

    Args:
        path: a folder; or COCO's JSON file, YOLO's data.yaml or obj.data.
        split: a part of the photos; None takes the usual one, or the only one there is.
        images: folder of the photos, if they are in none of the usual ones.
        usual: the split where none is named.
        keep: names of COCO's classes that stay, even as supercategories without objects.

    Raises:
        InputError: it is of no such format, has no such split, or cannot be used.
        OSError: it is not there, or cannot be read.
    """
    if path.is_file() or path.suffix.lower() == ".json":
        return _open_file(path, split, images, usual, keep)
    if has_lists(path):
        return VocDataset(path, split, images=images, usual=usual)
    annotations = coco_file(path, split, usual)
    if annotations is not None:
        return CocoDataset(annotations, images, keep=keep)
    if yolo_config(path) is not None:
        return YoloDataset(path, split, images=images, usual=usual)
    if has_xml(path):
        return VocDataset(path, split, images=images, usual=usual)
    if path.is_dir() and names_files(path):
        return YoloDataset(path, split, images=images, usual=usual)
    if files := _coco_files(path):
        names = ", ".join(file.relative_to(path).as_posix() for file in files[:20])
        raise InputError(f"{path}: no split {split or usual!r}; its files are {names}; name one of them, or its split")
    there = "no annotations in it" if path.is_dir() else "no such file or folder"
    raise InputError(f"{path}: {there}; looked for {LOOKED_FOR}")


def _open_file(
    path: Path, split: str | None, images: Path | None, usual: str, keep: Collection[str]
) -> CocoDataset | YoloDataset:
    if yolo_config(path) is not None:
        return YoloDataset(path, split, images=images, usual=usual)
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: not a known format of annotations; expected a folder, .json, .yaml or {DARKNET}")
    if split is not None:
        raise InputError(f"{path}: is one file without lists, so `split` {split!r} has no meaning")
    return CocoDataset(path, images, keep=keep)


def splits_of(path: Path) -> list[str]:
    """Return the names of the splits of annotated photos; empty if there are none, or a single one of another name.

    Raises:
        InputError: the file that names them cannot be used.
    """
    if path.is_file() and yolo_config(path) is None:
        return []
    if has_lists(path):
        return voc_layout.splits_of(path)
    of_coco = [split for split in SPLITS if path.is_dir() and coco_file(path, split)]
    if of_coco or yolo_config(path) is not None:
        return of_coco or yolo_layout.splits_of(path)
    return voc_layout.splits_of(path) if has_xml(path) else yolo_layout.splits_of(path)


def has_split(path: Path, split: str) -> bool:
    """Say whether annotated photos have a split of this name.

    Raises:
        InputError: the file that names them cannot be used.
    """
    if has_lists(path):
        return voc_layout.has_split(path, split)
    if path.is_dir() and coco_file(path, split) is not None:
        return True
    return voc_layout.has_split(path, split) or yolo_layout.has_split(path, split)


def coco_file(folder: Path, split: str | None, usual: str = "val") -> Path | None:
    """Return the COCO file of a split in a folder; of any, where none is named and there is one only."""
    names = spellings_of(split or usual)
    spelled = [escape(name) for name in names] + list(map(_in_any_case, names))
    named = _matches(folder, [each.format(split=name) for name in spelled for each in SPLIT_NAMES])
    if named or split is not None:
        return named[0] if named else None
    found = _coco_files(folder)
    return found[0] if len(found) == 1 else None


def _in_any_case(name: str) -> str:
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else escape(letter) for letter in name)


def _coco_files(folder: Path) -> list[Path]:
    return _matches(folder, COCO_NAMES) or _matches(folder, [f"*/{ROBOFLOW}"])


def _matches(folder: Path, patterns: Collection[str]) -> list[Path]:
    return list(dict.fromkeys(_globbed(folder, patterns)))


def _globbed(folder: Path, patterns: Collection[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())


def usual_protocol(dataset: Dataset) -> str:
    """Return the protocol by which detections on these photos are usually judged: VOC's for VOC's annotations."""
    return "voc07" if all(isinstance(part, VocDataset) for part in parts_of(dataset)) else "coco"


def has_crowds(dataset: Dataset) -> bool:
    """Say whether the ignored objects of a dataset are COCO's crowds, not VOC's difficult ones."""
    return any(isinstance(part, CocoDataset) for part in parts_of(dataset))


def parts_of(dataset: Dataset) -> list[Dataset]:
    """Return the datasets that a selection, or several joined, are made of; any other is itself."""
    if isinstance(dataset, Selection):
        return parts_of(dataset.whole)
    if isinstance(dataset, JoinedDataset):
        return [inner for part in dataset.parts.values() for inner in parts_of(part)]
    return [dataset]
