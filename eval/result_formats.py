"""Which format are detections in? Recognises files and folders of results, and reads all but COCO's as result lines.

Known are our JSON lines, COCO's result lists, VOC's result files, label files of YOLO with scores, and CSV. VOC's and
YOLO's do not say how large the photos are: that is up to a `Finder`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from eval.layout import photos_below, read_list
from eval.names import ImageNames
from eval.notes import Notes
from eval.result_csv import read_csv
from eval.results import DETECTIONS_FILE, ResultLine, ResultLines, ResultsError, read_line, well_formed
from eval.voc_xml import FIRST_PIXEL
from eval.yolo_config import NAME_LISTS, class_names
from eval.yolo_txt import RESULTS, WITH_SCORE, columns_of, read_rows
from structures.boxes import ImageSize
from structures.images import read_size
from structures.photo_names import PhotoNames
from structures.records import Dataset

Photo = tuple[str, ImageSize]
"""Name of a photo, and its height and width."""
Finder = Callable[[str], Photo | None]
"""Returns the photo that a name means, as results name it, perhaps without suffix; None where there is none."""

VOC_FILE = re.compile(r"comp\d+_det_(?P<split>[^_]+)_(?P<name>.+)\.txt")
JSONL, COCO, VOC, YOLO, CSV = FORMATS = ("jsonl", "coco", "voc", "yolo", "csv")
OUR_YOLO = "yolo_results"  # folder of the label files that we write
LOOKED_AT = 100  # label files with a row: annotations have none with a score
LOOKED_FOR = f"{DETECTIONS_FILE}, a .json of COCO, comp*_det_*.txt (VOC), label files of six columns (YOLO), .csv"


@dataclass(frozen=True, eq=False)
class Results:
    """Results of any format, read as they are asked for, so that few are held at a time.

    Attributes:
        lines: one for every photo that the results name; can be iterated once.
        classes: names in the order of the labels; empty where the format has no list of them.
        notes: returns what was odd, after all lines were read.
    """

    lines: Iterable[ResultLine]
    classes: tuple[str, ...]
    notes: Callable[[], list[str]]


def result_format(path: Path) -> str | None:
    """Return the format of a file or folder of results, one of FORMATS; None where it holds none."""
    if not path.is_dir():
        suffixes = {".json": COCO, ".csv": CSV}
        return suffixes.get(path.suffix.lower(), None if path.suffix.lower() in (".yaml", ".yml", ".data") else JSONL)
    if (path / DETECTIONS_FILE).is_file():
        return JSONL
    if _voc_files(path):
        return VOC
    if OUR_YOLO in (path.name, *(each.name for each in path.glob(OUR_YOLO))):  # its label files may all be empty
        return YOLO
    columns = filter(None, map(columns_of, _label_files(path)))
    return YOLO if WITH_SCORE in islice(columns, LOOKED_AT) else None


def require_known(path: Path) -> str:
    """Return the format of a file or folder of results, one of FORMATS.

    Raises:
        ResultsError: it holds none.
    """
    form = result_format(path)
    if form is None:
        raise ResultsError(f"{path}: no results that can be read; looked for {LOOKED_FOR}")
    return form


def read_results(path: Path, find: Finder | None = None) -> Results:
    """Read results of any format but COCO's, for which there is `eval.coco_results`.

    Args:
        path: file or folder.
        find: knows the photos; JSON lines, and CSV with sizes, do without.

    Raises:
        ResultsError: the format is not known; or, perhaps only when the lines are read, one is malformed, or of a photo
            whose size is needed and not known.
        OSError: a file cannot be read.
    """
    form = require_known(path)
    if form == JSONL:
        lines = ResultLines(path / DETECTIONS_FILE if path.is_dir() else path)
        return Results(lines, (), lambda: lines.notes)
    readers = {VOC: _read_voc, YOLO: _read_yolo, CSV: _read_csv}
    if form not in readers:
        raise ResultsError(f"{path}: results of COCO, which need the numbers of photos and classes")
    notes = Notes()
    classes, entries = readers[form](path, find or (lambda name: None))
    return Results((well_formed(read_line(entry, place), notes) for place, entry in entries), classes, notes.lines)


def photos_of_dataset(dataset: Dataset) -> Finder:
    """Return a finder of annotated photos."""
    return _finder(ImageNames(dataset).find, lambda name: dataset.ground_truth(name).image_size)


def photos_of_folder(folder: Path) -> Finder:
    """Return a finder of the photos below a folder."""
    paths = {path.relative_to(folder).as_posix(): path for path in photos_below(folder)}
    return _finder(PhotoNames(list(paths)).find, lambda name: read_size(paths[name]))


def _finder(find: Callable[[str], str | None], size_of: Callable[[str], ImageSize]) -> Finder:
    def find_photo(name: str) -> Photo | None:
        found = find(name)
        return None if found is None else (found, size_of(found))

    return find_photo


Entries = Iterator[tuple[str, dict[str, Any]]]


def _known(name: str, place: str, find: Finder) -> Photo:
    photo = find(name)
    if photo is None:
        raise ResultsError(f"{place}: the size of photo {name!r} is not known; name its folder as `images`")
    return photo


def _entry(photo: Photo, rows: Sequence[tuple[str, float, Sequence[float]]]) -> dict[str, Any]:
    labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    name, (height, width) = photo
    return {
        **{"image": name, "width": width, "height": height},
        **{"boxes": list(boxes), "labels": list(labels), "scores": list(scores)},
    }


def _voc_files(folder: Path) -> dict[str, Path]:
    """Return the result files of a folder, or of voc_results in it, by class."""
    for place in (folder, folder / "voc_results"):
        found = {path: VOC_FILE.fullmatch(path.name) for path in sorted(place.glob("comp*_det_*.txt"))}
        named = {match["name"]: path for path, match in found.items() if match}
        if len(named) < len([match for match in found.values() if match]):
            raise ResultsError(f"{place}: results of several splits; name a folder with those of one")
        if named:
            return named
    return {}


def _read_voc(path: Path, find: Finder) -> tuple[tuple[str, ...], Entries]:
    files = _voc_files(path)
    rows: dict[str, list[tuple[str, float, Sequence[float]]]] = defaultdict(list)
    places = dict[str, str]()
    for label, file in files.items():
        for number, line in enumerate(read_list(file, ResultsError, names_as_written=True), start=1):
            place = f"{file}: line {number}"
            name, score, box = _voc_row(line, place)
            rows[name].append((label, score, box))
            places.setdefault(name, place)
    entries = ((places[name], _entry(_known(name, places[name], find), some)) for name, some in rows.items())
    return tuple(files), entries


def _voc_row(line: str, place: str) -> tuple[str, float, list[float]]:
    words = line.rsplit(maxsplit=5)
    try:
        score, xmin, ymin, xmax, ymax = map(float, words[1:])
    except ValueError:  # too few words, or some that are not numbers
        raise ResultsError(f"{place}: expected image, score, xmin, ymin, xmax, ymax, got {line!r:.60}") from None
    corners = zip((xmin, ymin, xmax, ymax), FIRST_PIXEL.tolist(), strict=True)
    return words[0], score, [value - first for value, first in corners]


def _label_files(folder: Path) -> list[Path]:
    """Return the label files of a folder, or of yolo_results or labels in it."""
    for place in (folder / OUR_YOLO / "labels", folder / "labels", folder):
        found = [path for path in sorted(place.rglob("*.txt")) if path.name not in NAME_LISTS]
        if found:
            return found
    return []


def _read_yolo(path: Path, find: Finder) -> tuple[tuple[str, ...], Entries]:
    places = (path, path / OUR_YOLO, path.parent)
    classes = next((tuple(names) for names in map(class_names, places) if names), ())
    if not classes:
        raise ResultsError(f"{path}: no names of classes; expected a classes.txt or data.yaml in it")
    files = _label_files(path)
    root = next(place for place in (path / OUR_YOLO / "labels", path / "labels", path) if _holds(place, files))
    return classes, (_yolo_entry(file, root, classes, find) for file in files)


def _holds(folder: Path, files: Sequence[Path]) -> bool:
    return all(file.is_relative_to(folder) for file in files)


def _yolo_entry(file: Path, root: Path, classes: Sequence[str], find: Finder) -> tuple[str, dict[str, Any]]:
    name = file.relative_to(root).as_posix().removesuffix(".txt")
    photo = _known(name, str(file), find)
    rows = read_rows(file, len(classes), Notes(), RESULTS)
    numbers = zip(rows.labels.tolist(), rows.scores.tolist(), rows.boxes(photo[1]).tolist(), strict=True)
    return str(file), _entry(photo, [(classes[label], score, box) for label, score, box in numbers])


def _read_csv(path: Path, find: Finder) -> tuple[tuple[str, ...], Entries]:
    runs = groupby(read_csv(path), key=lambda row: row[1]["image"])
    return (), _csv_entries((list(rows) for _, rows in (runs if _are_together(path) else _gathered(path))), find)


CsvRow = tuple[str, dict[str, str]]


def _are_together(path: Path) -> bool:
    """Say whether the rows of each photo stand together, so that they need not be held until the last."""
    names = [name for name, _ in groupby(row["image"] for _, row in read_csv(path))]
    return len(set(names)) == len(names)


def _gathered(path: Path) -> Iterable[tuple[str, Iterable[CsvRow]]]:
    rows: dict[str, list[CsvRow]] = defaultdict(list)
    for place, row in read_csv(path):
        rows[row["image"]].append((place, row))
    return rows.items()


def _csv_entries(photos: Iterable[list[CsvRow]], find: Finder) -> Entries:
    for rows in photos:
        place, first = rows[0]
        stated = _stated_size(first, place)
        photo = _known(first["image"], place, find) if stated is None else (first["image"], stated)
        other = next((where for where, row in rows if _stated_size(row, where) not in (None, photo[1])), None)
        if other is not None:
            raise ResultsError(f"{other}: another size of {first['image']!r:.60} than in the row of {place}")
        yield place, _entry(photo, [_csv_row(row, where) for where, row in rows if row["label"]])


def _csv_row(row: Mapping[str, str], place: str) -> tuple[str, float, list[float]]:
    try:
        score, *box = (float(row[name]) for name in ("score", "x1", "y1", "x2", "y2"))
    except ValueError:
        raise ResultsError(f"{place}: score, x1, y1, x2 and y2 must be numbers") from None
    return row["label"], score, box


def _stated_size(row: Mapping[str, str], place: str) -> ImageSize | None:
    if not row.get("width") or not row.get("height"):
        return None
    try:
        return int(row["height"]), int(row["width"])
    except ValueError:
        raise ResultsError(f"{place}: width and height must be whole numbers of pixels") from None
