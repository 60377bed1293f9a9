"""The record of the runs in a folder, OUT/run.json: settings, commit, versions, device, times and counts.

A run in a folder with results resumes where the last one stopped, but only with the same settings.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detect.runs.machine import made_by, peak_memory
from structures.files import FileRefused, write_json
from structures.json_reader import MAX_RECORD_BYTES, JsonError, read_json, require_finite, through_json
from structures.own_files import inside

RUN_FILE = "run.json"
HIGH_FLOOR = 0.01  # lowest score; above it, the missing detections lower mAP
REASONS = ("skipped", "undrawn")  # facts of a run that have an entry per photo
ANEW = "start from scratch with `overwrite=True`"
DERIVED = {"weigh_by_fit": "proposals"}  # settings that follow from others


class RunError(FileRefused):
    """This run must not write into a folder of results; the message says what to do."""


class RunRecord:
    """The record of the runs in one folder, written whenever it changes.

    Args:
        folder: folder of results; made if it is missing.
        settings: everything that decides the results, as JSON values.
        in_use: whether the folder already has results.
        overwrite: whether to discard the record of earlier runs.
        remedy: what a message recommends, besides another folder.

    Raises:
        RunError: the folder has results with other settings, or a run.json that is not ours.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        in_use: bool = False,
        overwrite: bool = False,
        remedy: str = ANEW,
    ) -> None:
        self._path, there = folder / RUN_FILE, read_run(folder)
        earlier = there or {} if in_use and not overwrite else None
        if earlier is not None:
            _check(folder, earlier, settings, remedy)
        folder.mkdir(parents=True, exist_ok=True)
        self._runs: list[dict[str, Any]] = [
            *map(_counted, (earlier or {}).get("runs", [])),
            {"started": _now(), "finished": None, **made_by()},
        ]
        self._settings = settings
        self.update()

    def last(self, fact: str) -> Any:
        """Return a fact from the latest run that noted it, including this one; None if none did."""
        return last_fact(self._runs, fact)

    def update(self, **facts: Any) -> None:
        """Add facts to the record of this run, such as its device, counts or seconds."""
        self._runs[-1].update(facts)
        write_json(self._path, {"settings": dict(self._settings), "runs": self._runs})

    def finish(self, **facts: Any) -> None:
        """Note that this run is finished, and the memory it took."""
        self.update(**facts, peak_memory=peak_memory(), finished=_now())


def last_fact(runs: Sequence[Mapping[str, Any]], fact: str) -> Any:
    """Return a fact from the latest of several runs that noted it; None if none did."""
    return next((run[fact] for run in reversed(runs) if fact in run), None)


def _check(folder: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any], remedy: str) -> None:
    if not isinstance(earlier.get("settings"), Mapping):
        raise RunError(f"{folder}: has results, but their {RUN_FILE} is missing; name another `out`, or {remedy}")
    changed = differences(earlier["settings"], settings)
    if changed:
        raise RunError(
            f"{folder}: has results with other settings ({'; '.join(changed)}); name another `out`, or {remedy}"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that differs, with long values shortened.

    >>> differences({"score_floor": 0.05, "exif": "apply"}, {"score_floor": 0.5, "exif": "apply"})
    ['`score_floor`: 0.05 then, 0.5 now']
    """
    changed = []
    for name in sorted({*before, *now}):
        old, new = through_json(before.get(name)), through_json(now.get(name))
        follows = DERIVED.get(name)
        if old != new and (follows is None or before.get(follows) == now.get(follows)):
            changed.append(f"`{name}`: {_short(old, new)} then, {_short(new, old)} now")
    return changed


def _short(value: Any, other: Any) -> str:
    """Return a value as text; of a mapping only what differs from the other, or its name if the names differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        if value.get("name") != other.get("name"):
            return _cut(str(value.get("name")))
        parts = [f"{key} {_short(value.get(key), other.get(key))}" for key in value if value[key] != other.get(key)]
        return _cut(", ".join(parts) or "less", 300)
    return _cut(str(value))


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the record of the runs in a folder; None if there is none.

    Raises:
        FileRefused: the file cannot be read, is a link, or belongs to another program.
    """
    path = inside(folder, RUN_FILE)
    if not path.exists():
        return None
    try:
        content = read_json(path, max_bytes=MAX_RECORD_BYTES)
        runs = content.get("runs") if isinstance(content, dict) and isinstance(content.get("settings"), dict) else None
        if not isinstance(runs, list) or not all(isinstance(run, dict) and "started" in run for run in runs):
            raise RunError(f"{path}: was written by another program; name another `out`")
        _check_record(content, path)
    except JsonError as error:
        raise RunError(f"{error}; remove it, or name another `out`") from None
    return dict(content)


def drew(folder: Path) -> bool:
    """Return whether a run drew pictures in a folder."""
    try:
        record = read_run(folder) or {"runs": []}
    except (FileRefused, OSError):
        return False
    return any("draw_score" in run for run in record["runs"])


def high_floor(results: Path) -> list[str]:
    """Return a warning if results lack the weak detections that mAP needs; given a folder, or a file in it."""
    folder = results if results.is_dir() else results.parent
    try:
        score = (read_run(folder) or {"settings": {}})["settings"].get("score_floor")
    except (FileRefused, OSError):
        return []
    if not isinstance(score, int | float) or score <= HIGH_FLOOR:
        return []
    return [
        f"detections below {score:g} were dropped, which lowers mAP; to measure it, detect with `score_floor=0.001`"
    ]


def _counted(run: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten the record of an earlier run: keep only the number of photos that were skipped or not drawn."""
    return {name: len(fact) if name in REASONS and isinstance(fact, dict) else fact for name, fact in run.items()}


def _check_record(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a record that cannot be used, or cannot be written again."""
    placed = [run["placement"] for run in content["runs"] if "placement" in run]
    if not all(isinstance(lines, list) and all(isinstance(line, str) for line in lines) for lines in placed):
        raise JsonError(f"{path}: not readable: a 'placement' in 'runs' is not a list of texts")
    require_finite(content, path)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def name_and_digest(path: Path) -> str:
    """Return a file's name with the beginning of its SHA-256, to distinguish files of equal names."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
