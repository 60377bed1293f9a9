"""The folder of a training: files of an earlier run are used again if they fit."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from classifier.sampling import LabelledRegions
from classifier.weights.digest import digest
from classifier.weights.fitting import WeightsError
from structures.errors import InputError
from structures.files import FileRefused, replacing, sweep, write_json
from structures.json_reader import MAX_RECORD_BYTES, JsonError, parse_json, read_json, through_json
from structures.locks import lock_folder
from structures.npz import read_arrays
from structures.own_files import inside
from structures.records import Dataset

STATE = "state.pt"  # weights, optimiser and running average
START_FILE, BATCHES_FILE = "start.json", "batches.json"  # what the training and its batches are made from
BEST_FILE, VALIDATION_FILE, VALIDATION_CURVE_FILE = "best.safetensors", "val.json", "val.csv"
CURVE_FILE, DRAWN_REGIONS_FILE = "curves.csv", "regions.npz"
FEATURES_FILES = ("features.json", "features.npy")  # outputs of the frozen layers, after how far they are computed
MARKER, FORMAT = "training.json", "googlenet-rcnn training 1"  # shows that files of the names below are ours
OWN_NAMES = frozenset(
    {
        *(*FEATURES_FILES, BEST_FILE, VALIDATION_FILE, START_FILE, BATCHES_FILE),
        *(MARKER, STATE, DRAWN_REGIONS_FILE, CURVE_FILE, VALIDATION_CURVE_FILE),
    }
)
PROPOSALS_FOLDER = "proposals"  # a folder with a record of its own, which is made before the marker
PHASES = "phase*"  # folders of the second and later phases
REDRAW = f"remove this file, {STATE} and {START_FILE} to draw again from the same proposals"


def phase_folder(work: Path, number: int) -> Path:
    """Return the folder of a phase of a training, counted from 1.

    >>> [phase_folder(Path("net.work"), number).name for number in (1, 2)]
    ['net.work', 'phase2']
    """
    return work if number == 1 else work / PHASES.replace("*", str(number))


def kept_regions(path: Path, settings: Mapping[str, Any], make: Callable[[], LabelledRegions]) -> LabelledRegions:
    """Read the regions of an earlier run with the same settings, or draw and write them.

    Args:
        path: the .npz file.
        settings: everything that decides the regions, as JSON values.
        make: draws the regions.

    Raises:
        WeightsError: the file was made with other settings, or is damaged.
    """
    wanted = json.dumps(settings, sort_keys=True)
    if path.exists():
        return _read_regions(path, wanted)
    regions = make()
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, settings=np.array(wanted), **vars(regions))
    return regions


def _read_regions(path: Path, wanted: str) -> LabelledRegions:
    try:
        columns = [field.name for field in fields(LabelledRegions)]
        arrays = read_arrays(path, ["settings", *columns])
        settings, regions = str(arrays["settings"]), LabelledRegions(*(arrays[name] for name in columns))
        before = settings if settings == wanted else parse_json(settings, path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as a file of regions; remove it to draw again") from error
    if settings != wanted:
        changed = " and ".join(_changed(before, parse_json(wanted, path)))
        raise WeightsError(f"{path}: drawn with other {changed}; name another `work` folder, or {REDRAW}")
    return regions


def _changed(before: Any, now: Mapping[str, Any]) -> list[str]:
    if not isinstance(before, dict):
        raise InputError("not an object of facts by name")
    return [name for name, value in now.items() if before.get(name) != value]


def require_own_folder(work: Path) -> None:
    """Refuse, before any work, a folder with files that no training put there; hidden files do not count.

    Raises:
        FileRefused: it has such files, was marked by another program, or is no folder.
    """
    marker = work / MARKER
    if marker.exists():
        if _read_object(marker).get("format") != FORMAT:
            raise FileRefused(f"{marker}: was written by another program; name another `work` folder")
    elif work.is_dir():
        names = (path.name for path in work.iterdir())
        foreign = sorted(name for name in names if not name.startswith(".") and name != PROPOSALS_FOLDER)
        if foreign:
            raise FileRefused(f"{work}: holds files that no training wrote ({foreign[0]}); name another `work` folder")
    elif os.path.lexists(work):
        raise FileRefused(f"{work}: is a file; name a `work` folder")


@contextmanager
def occupied(work: Path) -> Iterator[None]:
    """Make and lock the folder of a training, and remove unfinished files of killed runs.

    Raises:
        FileRefused: it has files that no training put there, or links in the place of a training's files.
        FolderInUse: another run is training there.
    """
    work.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(work)
    try:
        phases = ["", *(f"{path.name}/" for path in sorted(work.glob(PHASES)))]
        for name in (f"{phase}{name}" for phase in phases for name in OWN_NAMES):
            inside(work, name)  # nothing is written through a link
        require_own_folder(work)
        if not (work / MARKER).exists():
            write_json(work / MARKER, {"format": FORMAT})
        for phase in phases:
            sweep(work / phase, OWN_NAMES.__contains__)
        yield
    finally:
        lock.release()


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if there is none."""
    try:
        content = read_json(path, max_bytes=MAX_RECORD_BYTES)
    except (OSError, JsonError):
        return {}
    return content if isinstance(content, dict) else {}


def require_same_origin(path: Path, made_from: Mapping[str, Any], *, remedy: str, state: Path | None = None) -> None:
    """Write what the contents of a folder are made from, or check that it is the same as before.

    Args:
        path: JSON file of these facts.
        made_from: facts by name, as JSON values.
        remedy: what to do if they differ.
        state: file that is made from these facts; if it is missing, nothing is lost, and they may differ.

    Raises:
        WeightsError: a fact differs; the message names it.
    """
    if not path.exists() or (state is not None and not state.exists()):
        return write_json(path, made_from)
    try:
        changed = _changed(read_json(path, max_bytes=MAX_RECORD_BYTES), through_json(made_from))
    except ValueError as error:
        raise WeightsError(f"{path}: not a readable record ({error}); {remedy}") from error
    if changed:
        raise WeightsError(f"{path}: begun with other {' and '.join(changed)}; {remedy}")


def contents(dataset: Dataset) -> dict[str, str]:
    """Return digests of a dataset: of its photos, and of their objects."""
    columns = [column for truth in dataset for column in (truth.boxes, truth.labels, truth.ignore)]
    return {"photos": digest(list(dataset.image_ids)), "objects": digest(columns)}
