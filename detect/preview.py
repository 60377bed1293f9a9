"""What `--dry-run` shows: which annotations were read, what looks wrong with them, and a few photos drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.drawing.picture import JPEG_QUALITY, draw
from detect.evaluation import show
from eval.mistakes import SIZES
from eval.notes import notes_of
from eval.report import Sheet
from eval.selection import pick_evenly
from structures.images import ImageError, read_image
from structures.locks import lock_folder
from structures.own_files import OwnFiles
from structures.records import Dataset, Detections, GroundTruth
from structures.text import number_of

EXAMPLES = 20  # photos to draw


def preview(datasets: Mapping[str, Dataset], folder: Path, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Show the number of objects by class and size, and what looks wrong; draw examples.

    Args:
        datasets: what was read, by its use.
        folder: where EXAMPLES photos of each are drawn; other files in it stay.
        warnings: more things that look wrong.

    Returns:
        Everything that was shown, as JSON values.

    Raises:
        InputError: the folder cannot be used.
    """
    tables = {name: counts(dataset) for name, dataset in datasets.items()}
    odd = [note for dataset in datasets.values() for note in notes_of(dataset)]
    odd = list(dict.fromkeys([*odd, *warnings]))
    drawn = _draw_all(datasets, folder)
    show([counts_sheet(name, len(datasets[name]), rows) for name, rows in tables.items()], [*odd, *drawn["unread"]])
    photos = {name: len(dataset) for name, dataset in datasets.items()}
    return {"photos": photos, "classes": tables, "warnings": odd, **drawn}


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return for each class the number of objects, of photos with it, of objects by size, and of ignored objects."""
    columns = ("objects", "photos", *SIZES, "ignored")
    table = {name: dict.fromkeys(columns, 0) for name in dataset.classes}
    for truth in dataset:
        for label in np.unique(truth.labels):
            row, of_class = table[dataset.classes[label]], truth.take(truth.labels == label)
            counted = of_class.take(~of_class.ignore)
            sizes = np.bincount(np.digitize(counted.area, list(SIZES.values())[1:]), minlength=len(SIZES))
            numbers = (len(counted), 1, *sizes.tolist(), int(of_class.ignore.sum()))
            for column, number in zip(columns, numbers, strict=True):
                row[column] += number
    return table


def counts_sheet(title: str, photos: int, table: Mapping[str, Mapping[str, int]]) -> Sheet:
    """Return the table of `counts` with totals."""
    columns = ["objects", "photos", *SIZES, "ignored"]
    rows = [[name, *(str(row[column]) for column in columns)] for name, row in table.items()]
    sums = [sum(row[column] for row in table.values()) for column in columns]
    sums[1] = photos
    return Sheet(f"{title}: {number_of(photos, 'photo')}", ["class", *columns], [*rows, ["all", *map(str, sums)]])


def _draw_all(datasets: Mapping[str, Dataset], folder: Path) -> dict[str, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder)
    drawn, unread = list[str](), list[str]()
    try:
        with OwnFiles(folder) as files:
            for name, dataset in datasets.items():
                _draw_some(name, dataset, files, drawn, unread)
    finally:
        lock.release()
    return {"drawn": drawn, "unread": unread}


def _draw_some(name: str, dataset: Dataset, files: OwnFiles, drawn: list[str], unread: list[str]) -> None:
    with_objects = [truth.image_id for truth in dataset if len(truth)]
    for number, image_id in enumerate(pick_evenly(with_objects, EXAMPLES), start=1):
        path = dataset.image_path(image_id)
        try:
            image = read_image(path)
        except ImageError as error:
            unread.append(f"not drawn: {error}")
            continue
        found, names = as_drawn(dataset.ground_truth(image_id), dataset.classes)
        picture = f"{name.replace(' ', '-')}-{number:02d}.jpg"
        with files.writing(picture) as partial:
            draw(image, found, names, scores=False).save(partial, "JPEG", quality=JPEG_QUALITY)
        drawn.append(str(files.folder / picture))


def as_drawn(truth: GroundTruth, classes: Sequence[str]) -> tuple[Detections, list[str]]:
    """Return annotated objects as detections to draw, and their names; those that do not count are named as ignored."""
    labels = truth.labels + len(classes) * truth.ignore
    ones = np.ones(len(truth), np.float32)
    return Detections(truth.boxes, labels, ones, truth.image_size), [
        *classes,
        *(f"{name} (ignored)" for name in classes),
    ]
