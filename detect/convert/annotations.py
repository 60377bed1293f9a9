"""Converts annotated photos of any format to VOC, COCO or YOLO, and can copy the photos."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from detect.convert.job import Conversion, Converted
from eval.annotation_files import coco_chunks, refuse_equal_stems, require_in_xml, voc_xml, yolo_labels, yolo_yaml
from eval.annotations import AnnotatedPhoto, annotated_photos, name_and_path, note_losses, stem_of
from eval.coco import CocoDataset
from eval.ground_truth import AnyDataset, open_ground_truth, splits_of
from eval.layout import SPLITS, find_split
from eval.notes import Notes
from eval.packed import laid_out, positions
from eval.sizes import misfits
from eval.voc import VocDataset
from eval.yolo import YoloDataset
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.files import FileRefused
from structures.names import ClassNames
from structures.own_files import OwnFiles
from structures.text import some_of

FIRST_SPLIT = SPLITS[0]  # for photos without a split
MISSING = "photo missing"
LABELS = "labels/"  # YOLO's folder


@dataclass(frozen=True, eq=False)
class AnnotatedSplit:
    """The annotated photos of a split, created on each iteration, so that one is held at a time.

    Attributes:
        dataset: the split.
        classes: new names in label order.
    """

    dataset: AnyDataset
    classes: Sequence[str]

    def __iter__(self) -> Iterator[AnnotatedPhoto]:
        known = ClassNames(self.classes)
        places = np.array([known.find(name) for name in self.dataset.classes], np.int64)  # -1: no objects
        return (replace(photo, labels=places[photo.labels]) for photo in annotated_photos(self.dataset))

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the name and the path of each photo."""
        return (name_and_path(self.dataset, image_id) for image_id in self.dataset.image_ids)

    def used(self) -> set[str]:
        """Return the classes that have objects."""
        return {self.dataset.classes[label] for label in _used_labels(self.dataset)}


Splits = Mapping[str, AnnotatedSplit]


def convert_annotations(job: Conversion, files: OwnFiles) -> Converted:
    """Write annotated photos in the requested format.

    Raises:
        InputError: they already have this format, or cannot be used.
    """
    losses, datasets = Notes(), _open_all(job)
    classes = tuple(dict.fromkeys(name for dataset in datasets.values() for name in _classes(dataset)))
    classes = classes or tuple(next(iter(datasets.values())).classes)  # no object at all
    if job.classes is not None:
        classes = _listed(job.classes, classes)
    if any(type(dataset) is SAME[job.form] for dataset in datasets.values()):
        raise InputError(f"{job.source}: already has the format {job.form}")
    if job.form == "yolo":  # whose boxes are shares of the photo
        wrong = [complaint for dataset in datasets.values() for complaint in misfits(dataset)]
        if wrong:
            raise InputError(some_of(wrong))
    for dataset in datasets.values():
        note_losses(dataset, losses)
    photos = {split: AnnotatedSplit(dataset, classes) for split, dataset in datasets.items()}
    if job.form == "voc" or (job.form == "coco" and job.copy_photos):
        _refuse_equal_names(photos)
    WRITERS[job.form](files, photos, classes, losses)
    _copy_photos(job, files, photos, losses)
    notes = list(dict.fromkeys(chain.from_iterable(dataset.notes for dataset in datasets.values())))
    objects = sum(len(positions(dataset.truths)) for dataset in datasets.values())
    return Converted("annotations", sum(map(len, datasets.values())), objects, classes, notes, losses.lines())


def _open_all(job: Conversion) -> dict[str, AnyDataset]:
    splits: Sequence[str | None] = job.splits or splits_of(job.source) or [None]
    opened = [open_ground_truth(job.source, split, job.images) for split in splits]
    named = [split or _split_name(dataset) for split, dataset in zip(splits, opened, strict=True)]
    return dict(zip(named, opened, strict=True))


def _split_name(dataset: AnyDataset) -> str:
    if not isinstance(dataset, CocoDataset):
        return dataset.split or FIRST_SPLIT
    stem = dataset.annotations.stem
    return stem.removeprefix("instances_") if stem.startswith("instances_") else FIRST_SPLIT


def _classes(dataset: AnyDataset) -> list[str]:
    """Return the classes of a dataset; for VOC, which lists none, only those that have objects."""
    if not isinstance(dataset, VocDataset):
        return list(dataset.classes)
    return [dataset.classes[label] for label in _used_labels(dataset)]


def _used_labels(dataset: AnyDataset) -> list[int]:
    """Return the labels that have objects in a dataset."""
    labels = laid_out(dataset.truths, lambda truth: truth.labels, np.zeros(0, np.int64))
    return list(map(int, np.unique(labels)))


def _refuse_equal_names(photos: Splits) -> None:
    """Refuse two photos of the same name in different splits, since all go to one folder."""
    seen = dict[str, Path]()
    for name, path in chain.from_iterable(some.files() for some in photos.values()):
        if seen.setdefault(name, path) != path:
            raise InputError(f"{seen[name]} and {path} have the same name; rename one of them")


def _listed(given: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    names = read_class_names(given, known=classes)
    missing = [name for name in classes if ClassNames(names).find(name) < 0]
    if missing:
        raise InputError(f"`classes` must list all classes that were read; {missing[0]!r:.60} is missing")
    return tuple(names)


def _write_voc(files: OwnFiles, photos: Splits, classes: Sequence[str], losses: Notes) -> None:
    _note_classes(photos, classes, losses)
    names = [name for some in photos.values() for name, _ in some.files()]
    require_in_xml([*_used(photos), *names])
    refuse_equal_stems(names)
    written = set[str]()  # a photo may be in several splits
    for photo in chain.from_iterable(photos.values()):
        if photo.name not in written:
            written.add(photo.name)
            with files.writing(f"Annotations/{photo.stem}.xml") as path:
                path.write_bytes(voc_xml(photo, classes, losses))
    for split, some in photos.items():
        with files.writing(f"ImageSets/Main/{split}.txt") as path:
            path.write_text("".join(f"{stem_of(name)}\n" for name, _ in some.files()), encoding="utf-8")


def _used(photos: Splits) -> list[str]:
    """Return the classes that have objects in any split, in alphabetical order."""
    return sorted(set[str]().union(*(some.used() for some in photos.values())))


def _note_classes(photos: Splits, classes: Sequence[str], losses: Notes) -> None:
    """Note what VOC's folders do not keep about classes: their order, and classes without objects."""
    used = ClassNames(_used(photos))
    names = [name for name in classes if used.find(name) >= 0]
    if len(names) < len(classes):
        unused = next(name for name in classes if used.find(name) < 0)
        losses.add("class without objects, which VOC's folders do not list", unused, len(classes) - len(names))
    if names != sorted(names):
        losses.add("class put in alphabetical order", names[0], len(names))


def _write_coco(files: OwnFiles, photos: Splits, classes: Sequence[str], losses: Notes) -> None:
    for split, some in photos.items():
        name = "instances.json" if list(photos) == [FIRST_SPLIT] else f"instances_{split}.json"
        with files.writing(name) as path, path.open("w", encoding="utf-8") as file:
            file.writelines(coco_chunks(some, classes, losses))


def _write_yolo(files: OwnFiles, photos: Splits, classes: Sequence[str], losses: Notes) -> None:
    names = _yolo_names(list(photos))
    for some in photos.values():
        refuse_equal_stems(name for name, _ in some.files())
    _refuse_other_labels(
        files, {_label_file(names[split], stem_of(name)) for split, some in photos.items() for name, _ in some.files()}
    )
    for split, some in photos.items():
        for photo in some:
            with files.writing(_label_file(names[split], photo.stem)) as path:
                path.write_text(yolo_labels(photo, losses), encoding="utf-8")
    with files.writing("data.yaml") as path:
        path.write_bytes(yolo_yaml(classes, list(names.values())))


def _label_file(split: str, stem: str) -> str:
    return f"{LABELS}{split}/{stem}.txt"


def _refuse_other_labels(files: OwnFiles, names: Collection[str]) -> None:
    """Refuse to leave labels of an earlier conversion among the new ones: their numbers may mean other classes."""
    for name in files:
        if name.startswith(LABELS) and name not in names and (files.folder / name).exists():
            raise FileRefused(
                f"{files.folder / name}: is of an earlier conversion, and would be read together with the new labels; "
                "name another folder as `out`, or remove this one"
            )


def _yolo_names(splits: Sequence[str]) -> dict[str, str]:
    """Return the names of splits as Ultralytics expects them: val2017 becomes val, unless another split is val."""
    usual = {split: next((each for each in SPLITS if _is(split, each)), split) for split in splits}
    return usual if len(set(usual.values())) == len(usual) else {split: split for split in splits}


def _is(split: str, usual: str) -> bool:
    return find_split([split], usual) is not None or split.removeprefix(usual).isdigit()


WRITERS: Mapping[str, Callable[[OwnFiles, Splits, Sequence[str], Notes], None]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
SAME: Mapping[str, type] = {"voc": VocDataset, "coco": CocoDataset, "yolo": YoloDataset}


def _copy_photos(job: Conversion, files: OwnFiles, photos: Splits, losses: Notes) -> None:
    for place, photo in _places(job.form, photos):
        if not photo.is_file():
            losses.add(MISSING, photo)
        elif job.copy_photos:
            with files.writing(place) as path:
                shutil.copyfile(photo, path)


def _places(form: str, photos: Splits) -> Iterator[tuple[str, Path]]:
    """Yield the name of each photo in the folder of a format, and its path."""
    names = _yolo_names(list(photos))
    for split, some in photos.items():
        folder = {"voc": "JPEGImages", "coco": "images", "yolo": f"images/{names[split]}"}[form]
        yield from ((f"{folder}/{name}", path) for name, path in some.files())
