"""Which photos and labels of a YOLO folder belong to a split, and where they lie.

Known are Ultralytics' data.yaml, which Roboflow and CVAT export too; Darknet's obj.data, obj.names and lists, as CVAT
writes them; and folders with a list of classes alone (classes.txt of LabelImg): images/ and labels/, perhaps with a
folder for each split in them or above them, or photos and labels side by side.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.layout import PHOTO_FOLDERS, SPLITS, find_split, folders_in, photos_below, read_list, resolve_listed
from eval.notes import Notes
from eval.yolo_config import DARKNET, NAME_LISTS, class_names, classes_of, keypoints_of, read_config, yolo_config
from eval.yolo_txt import YoloError


@dataclass(frozen=True)
class YoloLayout:
    """Where a split lies.

    Attributes:
        classes: names in the order of their numbers.
        photos: photos by the name of the image: the path below the split's own folder.
        split: its name; "" where the folder has none.
        keypoints: numbers after the box in each row.
        unlabelled: label files that have no photo.
        home: where the photos would lie if `images` did not name another folder; their labels may have stayed there.
    """

    classes: Sequence[str]
    photos: Mapping[str, Path]
    split: str = ""
    keypoints: int = 0
    unlabelled: Sequence[Path] = ()
    home: Path | None = None

    def labels(self, image_id: str) -> Path:
        """Return the label file of an image; it may be missing."""
        kept = None if self.home is None else label_path(self.home / image_id)
        return kept if kept is not None and kept.is_file() else label_path(self.photos[image_id])


def label_path(photo: Path) -> Path:
    """Return where the labels of a photo lie: in labels/ in the place of the last images/, or next to the photo.

    >>> label_path(Path("a/images/train/1.jpg")).as_posix(), label_path(Path("a/1.jpg")).as_posix()
    ('a/labels/train/1.txt', 'a/1.txt')
    """
    parts = list(photo.with_suffix(".txt").parts)
    places = [at for at, part in enumerate(parts[:-1]) if part in PHOTO_FOLDERS]
    if places:
        parts[places[-1]] = "labels"
        other = Path(*parts)
        if other.parent.is_dir() or not photo.with_suffix(".txt").exists():
            return other
    return photo.with_suffix(".txt")


def yolo_layout(path: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> YoloLayout:
    """Find a split of a YOLO folder.

    Args:
        path: the folder, or its data.yaml or obj.data.
        split: its name; None takes the usual one, the only one there is, or all where there are no splits.
        usual: name of the split where none is named.
        images: folder of the photos, if they are in none of the usual ones.
        notes: gets a note of what was chosen without being asked for.

    Raises:
        YoloError: no classes, no such split or no photo; says what was looked for.
    """
    config = yolo_config(path)
    root = path if path.is_dir() else path.parent
    if config is None:
        return _plain(root, split, usual, images, notes)
    content = read_config(config)
    classes, keypoints = classes_of(content, config), keypoints_of(content, config)
    name = _choose(_known_splits(content), split, usual, config, notes)
    bases = [root / str(content.get("path") or "."), root]
    if images is None:
        return _checked(YoloLayout(classes, _photos_of(content[name], bases, config, notes), name, keypoints), root)
    home = resolve_listed(listed, bases) if isinstance(listed := content[name], str) else None
    return _checked(YoloLayout(classes, _below(images), name, keypoints, home=home), root)


def _known_splits(content: Mapping[str, Any]) -> list[str]:
    """Return the keys of a data.yaml that name photos."""
    others = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow", "channels", "backup", "classes")
    return [key for key, value in content.items() if key not in others and value and isinstance(value, str | list)]


def splits_of(path: Path) -> list[str]:
    """Return the names of the splits of a YOLO folder; empty where all photos are together."""
    config = yolo_config(path)
    if config is not None:
        content, root = read_config(config), config.parent
        named = {name: content[name] for name in _known_splits(content)}
        bases = [root / str(content.get("path") or "."), root]
        there = [name for name, listed in named.items() if _is_there(listed, bases)]
        return there or list(named)
    folders = _split_folders(path)
    return [name for split in SPLITS if (name := find_split(folders, split))]


def has_split(path: Path, split: str) -> bool:
    """Say whether a YOLO folder, or its data.yaml or obj.data, has a split of this name, in one of its spellings.

    Raises:
        YoloError: the file that names the splits cannot be used.
    """
    there = splits_of(path) if yolo_config(path) is not None else _split_folders(path)
    return find_split(there, split) is not None


def _is_there(listed: str | list[str], bases: Sequence[Path]) -> bool:
    return any(resolve_listed(each, bases).exists() for each in (listed if isinstance(listed, list) else [listed]))


def _choose(there: Sequence[str], split: str | None, usual: str, config: Path, notes: Notes) -> str:
    """Return the name of a split as it is spelled here."""
    found = find_split(there, split or usual)
    if found is None and split is None and len(there) == 1:
        [found] = there
        notes.add(f"split {found!r} read, as there is no {usual!r}", config)
    if found is None:
        raise YoloError(f"{config}: no split {split or usual!r}; there are {', '.join(there) or 'none'}")
    return found


def _photos_of(listed: Any, bases: Sequence[Path], config: Path, notes: Notes) -> dict[str, Path]:
    """Return the photos of a split: of a folder, of a list, or of several."""
    found: list[tuple[str, Path]] = []
    for each in listed if isinstance(listed, list) else [listed]:
        place = resolve_listed(str(each), bases)
        if place.is_dir():
            found += _below(place).items()
        elif place.is_file():
            photos = (resolve_listed(line, [place.parent, *bases]) for line in read_list(place, YoloError))
            found += ((photo.name, photo) for photo in photos)
        else:
            raise YoloError(f"{config}: the photos {str(each)!r:.100} do not exist; looked for {place}")
    named = _named(found)
    if len(named) < len(found):
        notes.add("image listed more than once, counted once", config, len(found) - len(named))
    return named


def _named(found: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Return photos by their names; if two share one, all are called by their paths below the deepest common folder."""
    names, places = dict(found), dict.fromkeys(os.path.abspath(path) for _, path in found)
    if len(names) == len(places):
        return names
    top = os.path.commonpath(list(map(os.path.dirname, places)))
    return {Path(place).relative_to(top).as_posix(): Path(place) for place in places}


def _below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in photos_below(folder)}


def _plain(root: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> YoloLayout:
    """Find a split in folders alone."""
    classes = class_names(root)
    if classes is None:
        looked = ", ".join(["data.yaml", DARKNET, *NAME_LISTS])
        raise YoloError(f"{root}: no names of classes; looked for {looked}, in it and in its labels/")
    folders = _split_folders(root)
    splits = [name for each in (split or usual, *SPLITS) if (name := find_split(folders, each))]
    if splits:
        name = _choose(list(dict.fromkeys(splits)), split, usual, root, notes)
        return _checked(YoloLayout(classes, _below(images or folders[name]), name, home=folders[name]), root)
    if split is not None:
        raise YoloError(f"{root}: no split {split!r}; looked for images/{split} and {split}/images")
    photos = next((root / name for name in PHOTO_FOLDERS if (root / name).is_dir()), None)
    home = photos or (root / PHOTO_FOLDERS[0] if (root / "labels").is_dir() else root)
    return _checked(YoloLayout(classes, _below(images or photos or root), home=home), root)


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders that may hold the photos of a split, by its name: images/NAME, NAME/images or NAME."""
    inside = [folder for name in PHOTO_FOLDERS for folder in folders_in(root / name)]
    above = [folder / name for folder in folders_in(root) for name in PHOTO_FOLDERS if (folder / name).is_dir()]
    found = dict[str, Path]()
    for folder in inside:
        found.setdefault(folder.name, folder)
    for folder in above:
        found.setdefault(folder.parent.name, folder)
    for folder in folders_in(root):
        found.setdefault(folder.name, folder)
    return found


def _checked(layout: YoloLayout, root: Path) -> YoloLayout:
    if not layout.photos:
        raise YoloError(f"{root}: no photo in the split {layout.split!r}" if layout.split else f"{root}: no photo")
    labelled = {layout.labels(image_id) for image_id in layout.photos}
    folders = sorted({path.parent for path in labelled})
    lists = {*NAME_LISTS, "train.txt", "val.txt", "test.txt", "README.txt"}
    there = [path for folder in folders for path in sorted(folder.glob("*.txt")) if path.name not in lists]
    return replace(layout, unlabelled=[path for path in there if path not in labelled])
