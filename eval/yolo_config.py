"""What a YOLO folder says of itself: its data.yaml or obj.data, and the names of its classes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from eval.layout import read_list, resolve_listed
from eval.yolo_txt import YoloError
from structures.files import file_within

YAML_SUFFIXES = (".yaml", ".yml")
ROBOFLOW = "_darknet.labels"
NAME_LISTS = ("classes.txt", "obj.names", ROBOFLOW, "labels.txt", "predefined_classes.txt")
DARKNET = "obj.data"
MOST_BYTES = 2**20  # of a data.yaml: that of LVIS has 40 kB
MOST_KEYPOINTS = 1000


def yolo_config(path: Path) -> Path | None:
    """Return the file that describes a YOLO folder: data.yaml or obj.data; None where there is none.

    Args:
        path: the folder, or the file itself.
    """
    if path.is_file():
        return path if path.suffix.lower() in (*YAML_SUFFIXES, ".data") else None
    found = [each for suffix in YAML_SUFFIXES for each in sorted(path.glob(f"*{suffix}")) if _has_names(each)]
    return next((each for each in [path / "data.yaml", *found, path / DARKNET] if each.is_file()), None)


def names_files(folder: Path) -> list[Path]:
    """Return the list of classes of a folder, in it or in its labels/, or else Roboflow's, one in each split."""
    lists = (file for place in (folder, folder / "labels") for file in _listed(place) if file.is_file())
    return list(islice(lists, 1)) or sorted(folder.glob(f"*/{ROBOFLOW}"))


def _listed(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in NAME_LISTS)
    yield from sorted(folder.glob("*.names"))


def class_names(path: Path) -> list[str] | None:
    """Return the classes of a YOLO folder, or of its data.yaml or obj.data; None where nothing names them.

    Raises:
        YoloError: they cannot be used.
    """
    config = yolo_config(path)
    if config is not None:
        return classes_of(read_config(config), config)
    listed = [(file, _distinct(read_list(file, YoloError) or [""], file)) for file in names_files(path)]
    for file, names in listed:
        if names != listed[0][1]:
            raise YoloError(f"{file}: the classes are not those of {listed[0][0]}")
    return listed[0][1] if listed else None


def read_config(path: Path) -> dict[str, Any]:
    """Return what a data.yaml or an obj.data says, with the names of its classes.

    Raises:
        YoloError: it cannot be used; names the file.
    """
    return _read_yaml(path) if path.suffix.lower() in YAML_SUFFIXES else _read_darknet(path)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a data.yaml whose values are a text, or a list or an object of texts; we use no others.

    Everything is read as text: YAML would make False of a class named `no`.
    """
    import yaml  # here, since the rest works where it is missing

    class Loader(yaml.BaseLoader):  # type: ignore[misc]  # yaml has no types; texts and nothing else
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            [(key, count), *_] = Counter(str(key.value) for key, _ in node.value).most_common(1) or [("", 0)]
            if count > 1:  # YAML would take the last
                raise yaml.YAMLError(f"the key {key!r:.60} appears twice")
            return dict(super().construct_mapping(node, deep=deep))

    path = file_within(path, MOST_BYTES, "a data.yaml", YoloError)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)
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
        raise YoloError(f"{path}: its list of names, {listed}, does not exist")
    return {**content, "names": read_list(names, YoloError)}


def classes_of(content: Mapping[str, Any], config: Path) -> list[str]:
    """Return the classes that a file names, in the order of their numbers.

    Raises:
        YoloError: there are none, or they are not numbered from 0.
    """
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
        raise YoloError(f"{config}: nc is {count:.20}, but names has {len(names)}")
    return _distinct([name.strip() for name in names], config)


def _distinct(names: list[str], place: Path) -> list[str]:
    repeated = max(names, key=names.count)
    if names.count(repeated) > 1 or not all(names):
        raise YoloError(f"{place}: the class {repeated!r:.60} is named twice, or has no name")
    return names


def keypoints_of(content: Mapping[str, Any], config: Path) -> int:
    """Return how many numbers of keypoints follow each box.

    Raises:
        YoloError: kpt_shape is not two numbers.
    """
    shape = content.get("kpt_shape")
    if not shape:
        return 0
    numbers = [int(text) for text in shape if len(text) < 9 and text.isdecimal()] if isinstance(shape, list) else []
    if len(numbers) != 2 or len(shape) != 2 or not 0 < numbers[0] * numbers[1] <= MOST_KEYPOINTS:
        raise YoloError(f"{config}: kpt_shape must be two numbers, such as [17, 3]")
    return numbers[0] * numbers[1]
