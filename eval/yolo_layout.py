"""Which photos and labels of a YOLO folder belong to a split, and what its classes are called.

Known are Ultralytics' data.yaml, which Roboflow and CVAT export too; Darknet's obj.data, obj.names and lists, as CVAT
writes them; and folders with a list of classes alone (classes.txt of LabelImg): images/ and labels/, perhaps with a
folder for each split in them or above them, or photos and labels side by side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.layout import PHOTO_FOLDERS, SPLITS, photos_below, read_list, resolve_listed, spellings_of
from eval.notes import Notes
from eval.yolo_txt import YoloError
from structures.files import regular_file

YAML_SUFFIXES = (".yaml", ".yml")
NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "predefined_classes.txt")
DARKNET = "obj.data"
MOST_BYTES = 2**22  # of a data.yaml: that of LVIS has 40 kB
MOST_KEYPOINTS = 1000


@dataclass(frozen=True)
class YoloLayout:
    """Where a split lies.

    Attributes:
        classes: names in the order of their numbers.
        photos: photos by the name of the image: the path below the split's own folder.
        split: its name; "" where the folder has none.
        keypoints: numbers behind the box of each row.
        unlabelled: label files that have no photo.
    """

    classes: Sequence[str]
    photos: Mapping[str, Path]
    split: str = ""
    keypoints: int = 0
    unlabelled: Sequence[Path] = ()

    def labels(self, image_id: str) -> Path:
        """Return the label file of an image; it may be missing."""
        return label_path(self.photos[image_id])


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


def yolo_config(path: Path) -> Path | None:
    """Return the file that describes a YOLO folder: data.yaml or obj.data; None where there is none.

    Args:
        path: the folder, or the file itself.
    """
    if path.is_file():
        return path if path.suffix.lower() in (*YAML_SUFFIXES, ".data") else None
    found = [each for suffix in YAML_SUFFIXES for each in sorted(path.glob(f"*{suffix}")) if _has_names(each)]
    return next((each for each in [path / "data.yaml", *found, path / DARKNET] if each.is_file()), None)


def names_file(folder: Path) -> Path | None:
    """Return the list of classes of a folder, in it or in its labels/; None where there is none."""
    return next((f for place in (folder, folder / "labels") for f in _listed(place) if f.is_file()), None)


def class_names(path: Path) -> list[str] | None:
    """Return the classes of a YOLO folder, or of its data.yaml or obj.data; None where nothing names them.

    Raises:
        YoloError: they cannot be used.
    """
    config = yolo_config(path)
    if config is not None:
        return _classes(_read_config(config), config)
    listed = names_file(path)
    return None if listed is None else _distinct(read_list(listed, YoloError) or [""], listed)


def _listed(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in NAME_LISTS)
    yield from sorted(folder.glob("*.names"))


def yolo_layout(path: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> YoloLayout:
    """Find a split of a YOLO folder.

    Args:
        path: the folder, or its data.yaml or obj.data.
        split: its name; None takes the usual one, the only one there is, or all where there are no splits.
        usual: name of the split where none is named.
        images: folder of the photos, if they are in none of the usual ones.
        notes: names what was chosen though nobody asked for it.

    Raises:
        YoloError: no classes, no such split or no photo; says what was looked for.
    """
    config = yolo_config(path)
    root = path if path.is_dir() else path.parent
    if config is None:
        return _plain(root, split, usual, images, notes)
    content = _read_config(config)
    classes, keypoints = _classes(content, config), _keypoints(content, config)
    name = _choose(_known_splits(content), split, usual, config, notes)
    bases = [root / str(content.get("path") or "."), root]
    photos = _photos_of(content[name], bases, config) if images is None else _below(images)
    return _checked(classes, photos, name, keypoints, root)


def _known_splits(content: Mapping[str, Any]) -> list[str]:
    """Return the keys of a data.yaml that name photos."""
    others = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow", "channels", "backup", "classes")
    return [key for key, value in content.items() if key not in others and value and isinstance(value, str | list)]


def splits_of(path: Path) -> list[str]:
    """Return the names of the splits of a YOLO folder; none where all photos are together."""
    config = yolo_config(path)
    if config is not None:
        content, root = _read_config(config), config.parent
        named = {name: content[name] for name in _known_splits(content)}
        bases = [root / str(content.get("path") or "."), root]
        there = [name for name, listed in named.items() if _is_there(listed, bases)]
        return there or list(named)
    return [name for name in _spelled_splits(None, SPLITS[0]) if _folders_of(path, name)]


def has_split(path: Path, split: str) -> bool:
    """Say whether a YOLO folder, or its data.yaml or obj.data, has a split of this name, in one of its spellings.

    Raises:
        YoloError: the file that names the splits cannot be used.
    """
    names = spellings_of(split)
    if yolo_config(path) is not None:
        return not {*names}.isdisjoint(splits_of(path))
    return any(_folders_of(path, name) for name in names)


def _is_there(listed: str | list[str], bases: Sequence[Path]) -> bool:
    return any(resolve_listed(each, bases).exists() for each in (listed if isinstance(listed, list) else [listed]))


def _choose(there: Sequence[str], split: str | None, usual: str, config: Path, notes: Notes) -> str:
    """Return the name of a split as it is spelled here."""
    found = next((name for name in spellings_of(split or usual) if name in there), None)
    if found is None and split is None and len(there) == 1:
        [found] = there
        notes.add(f"split {found!r} read, the only one there is; {usual!r} is the usual one", config)
    if found is None:
        raise YoloError(f"{config}: no split {split or usual!r}; there are {', '.join(there) or 'none'}")
    return found


def _read_config(path: Path) -> dict[str, Any]:
    return _read_yaml(path) if path.suffix.lower() in YAML_SUFFIXES else _read_darknet(path)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a data.yaml whose values are a text, or a list or an object of texts; others are not ours.

    Everything is read as text: YAML would make False of a class named `no`.
    """
    import yaml  # here, since the rest works where it is missing

    if regular_file(path).stat().st_size > MOST_BYTES:
        raise YoloError(f"{path}: larger than {MOST_BYTES} bytes, which is no data.yaml")
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)  # texts and nothing else
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise YoloError(f"{path}: not readable as YAML: {reason:.200}") from None
    if not isinstance(content, dict):
        raise YoloError(f"{path}: not a data.yaml: expected names, and the photos of each split")
    return {str(key): value for key, value in content.items() if _is_flat(value)}


def _is_flat(value: Any) -> bool:
    """Say whether a value holds texts and no more lists: those can be many times as long as the file."""
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return all(isinstance(each, str) for each in (inner if isinstance(inner, list) else [inner]))


def _has_names(path: Path) -> bool:
    try:
        return "names" in _read_yaml(path)
    except (YoloError, OSError):
        return False


def _read_darknet(path: Path) -> dict[str, Any]:
    """Read `key = value` lines of an obj.data; its names are in a file."""
    pairs = [line.partition("=") for line in read_list(path, YoloError) if not line.startswith("#")]
    content: dict[str, Any] = {key.strip(): value.strip() for key, _, value in pairs}
    listed = content.get("names", "obj.names")
    names = resolve_listed(listed, [path.parent])
    if not names.is_file():
        raise YoloError(f"{path}: its list of names, {listed}, is not there")
    return {**content, "names": read_list(names, YoloError)}


def _classes(content: Mapping[str, Any], config: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        numbered = [str(number) for number in range(len(names))]
        if {key.strip() for key in names} != set(numbered):
            raise YoloError(f"{config}: names must be numbered from 0 to {len(names) - 1}")
        names = [names[number] for number in numbered]
    if not isinstance(names, list) or not names:
        raise YoloError(f"{config}: no names of classes")
    count = str(content.get("nc", "")).strip()
    if count.isdecimal() and count != str(len(names)):
        raise YoloError(f"{config}: nc is {count:.20}, but there are {len(names)} names")
    return _distinct([name.strip() for name in names], config)


def _distinct(names: list[str], place: Path) -> list[str]:
    repeated = max(names, key=names.count)
    if names.count(repeated) > 1 or not all(names):
        raise YoloError(f"{place}: the class {repeated!r:.60} is named twice, or has no name")
    return names


def _keypoints(content: Mapping[str, Any], config: Path) -> int:
    shape = content.get("kpt_shape")
    if not shape:
        return 0
    numbers = [int(text) for text in shape if len(text) < 9 and text.isdecimal()] if isinstance(shape, list) else []
    if len(numbers) != 2 or len(shape) != 2 or not 0 < numbers[0] * numbers[1] <= MOST_KEYPOINTS:
        raise YoloError(f"{config}: kpt_shape must be two numbers, such as [17, 3]")
    return numbers[0] * numbers[1]


def _photos_of(listed: Any, bases: Sequence[Path], config: Path) -> dict[str, Path]:
    """Return the photos of a split: of a folder, of a list, or of several."""
    found = dict[str, Path]()
    for each in listed if isinstance(listed, list) else [listed]:
        place = resolve_listed(str(each), bases)
        if place.is_dir():
            found |= _below(place)
        elif place.is_file():
            found |= _of_list(place, [place.parent, *bases])
        else:
            raise YoloError(f"{config}: the photos {str(each)!r:.100} are not there; looked for {place}")
    return found


def _below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in photos_below(folder)}


def _of_list(path: Path, bases: Sequence[Path]) -> dict[str, Path]:
    paths = [resolve_listed(line, bases) for line in read_list(path, YoloError)]
    names = [photo.name for photo in paths]
    if len(set(names)) < len(names):  # the same in several folders
        names = [photo.as_posix() for photo in paths]
    return dict(zip(names, paths, strict=True))


def _plain(root: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> YoloLayout:
    """Find a split in folders alone."""
    classes = class_names(root)
    if classes is None:
        looked = ", ".join(["data.yaml", DARKNET, *NAME_LISTS])
        raise YoloError(f"{root}: no names of classes; looked for {looked}, in it and in its labels/")
    folders = {name: place for name in _spelled_splits(split, usual) for place in _folders_of(root, name)}
    if folders:
        name = _choose(list(folders), split, usual, root, notes)
        return _checked(classes, _below(images or folders[name]), name, 0, root)
    if split is not None:
        raise YoloError(f"{root}: no split {split!r}; looked for images/{split} and {split}/images")
    where = images or next((root / name for name in PHOTO_FOLDERS if (root / name).is_dir()), root)
    return _checked(classes, _below(where), "", 0, root)


def _spelled_splits(split: str | None, usual: str) -> list[str]:
    return list(dict.fromkeys(name for each in (split or usual, *SPLITS) for name in spellings_of(each)))


def _folders_of(root: Path, split: str) -> list[Path]:
    """Return the folder of a split's photos, if it is there."""
    places = [*(root / name / split for name in PHOTO_FOLDERS), *(root / split / name for name in PHOTO_FOLDERS)]
    return [place for place in (*places, root / split) if place.is_dir()][:1]


def _checked(classes: Sequence[str], photos: dict[str, Path], split: str, keypoints: int, root: Path) -> YoloLayout:
    if not photos:
        raise YoloError(f"{root}: no photo in the split {split!r}" if split else f"{root}: no photo")
    labelled = {label_path(path) for path in photos.values()}
    folders = sorted({path.parent for path in labelled})
    lists = {*NAME_LISTS, "train.txt", "val.txt", "test.txt", "README.txt"}
    there = [path for folder in folders for path in sorted(folder.glob("*.txt")) if path.name not in lists]
    return YoloLayout(classes, photos, split, keypoints, [path for path in there if path not in labelled])
