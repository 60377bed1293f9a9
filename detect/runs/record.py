"""What a run was: settings, commit, versions, device, times and counts, as OUT/run.json.

A run that is started again in the same folder resumes where it stopped, but only with the settings it began with.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from structures.files import FileRefused, write_json
from structures.json_reader import MAX_RECORD_BYTES, JsonError, read_json, require_finite, through_json
from structures.own_files import inside

RUN_FILE = "run.json"
DISTRIBUTION = "googlenet-rcnn"
PACKAGES = "torch torchvision openvino opencv-contrib-python-headless numba numpy pillow".split()
CHECKOUT = Path(__file__).resolve().parents[2]
MOST_READERS = 16  # processes that read photos for a GPU: more seldom pay, and each takes memory
HIGH_FLOOR = 0.01  # of scores: above it, what is missing shows in mAP
REASONS = ("skipped", "undrawn")  # facts of a run that may name every photo
DERIVED = {"weigh_by_fit": "proposals"}  # settings that follow from another one


class RunError(FileRefused):
    """A folder of results that this run must not write into; the message says what to do."""


class RunRecord:
    """The record of the runs that filled one folder, written when it changes.

    Args:
        folder: where results go; made if it is missing.
        settings: everything that decides the results, as JSON values.
        in_use: the folder holds results already.
        overwrite: forget what an earlier run did.

    Raises:
        RunError: the folder holds results that were made with other settings, or a run.json that is not ours.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, in_use: bool = False, overwrite: bool = False
    ) -> None:
        self._path, there = folder / RUN_FILE, read_run(folder)
        earlier = there or {} if in_use and not overwrite else None
        if earlier is not None:
            _check(folder, earlier, settings)
        folder.mkdir(parents=True, exist_ok=True)
        self._runs: list[dict[str, Any]] = [
            *map(_counted, (earlier or {}).get("runs", [])),
            {"started": _now(), "finished": None, "command": command(), "commit": commit(), "versions": versions()},
        ]
        self._settings = settings
        self.update()

    def last(self, fact: str) -> Any:
        """Return what the latest run that noted a fact said, this one included; None if none did."""
        return last_fact(self._runs, fact)

    def update(self, **facts: Any) -> None:
        """Add facts to the record of this run, such as its device, counts or seconds."""
        self._runs[-1].update(facts)
        write_json(self._path, {"settings": dict(self._settings), "runs": self._runs})

    def finish(self, **facts: Any) -> None:
        """Note that this run came to its end, and the memory it took."""
        self.update(**facts, peak_memory=peak_memory(), finished=_now())


def last_fact(runs: Sequence[Mapping[str, Any]], fact: str) -> Any:
    """Return what the latest of several runs that noted a fact said; None if none did."""
    return next((run[fact] for run in reversed(runs) if fact in run), None)


def _check(folder: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    if not isinstance(earlier.get("settings"), Mapping):
        raise RunError(
            f"{folder}: holds results without their {RUN_FILE}; "
            "name another `out`, or start from scratch with `overwrite=True`"
        )
    changed = differences(earlier["settings"], settings)
    if changed:
        raise RunError(
            f"{folder}: holds results of other settings ({'; '.join(changed)}); "
            "name another `out`, or start from scratch with `overwrite=True`"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what differs between two settings, by parameter; values that are long are not shown.

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
    """Show a value; of two mappings only what differs, or their names where these do."""
    if isinstance(value, dict) and isinstance(other, dict):
        if value.get("name") != other.get("name"):
            return _cut(str(value.get("name")))
        parts = [f"{key} {_short(value.get(key), other.get(key))}" for key in value if value[key] != other.get(key)]
        return _cut(", ".join(parts) or "less", 300)
    return _cut(str(value))


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the record of the runs that filled a folder; None if there is no such file.

    Raises:
        FileRefused: the file cannot be read, is of another program, or a link.
    """
    path = inside(folder, RUN_FILE)
    if not path.exists():
        return None
    try:
        content = read_json(path, max_bytes=MAX_RECORD_BYTES)
        runs = content.get("runs") if isinstance(content, dict) and isinstance(content.get("settings"), dict) else None
        if not isinstance(runs, list) or not all(isinstance(run, dict) and "started" in run for run in runs):
            raise RunError(f"{path}: is of another program; name another `out`")
        _check_record(content, path)
    except JsonError as error:
        raise RunError(f"{error}; remove it, or name another `out`") from None
    return dict(content)


def drew(folder: Path) -> bool:
    """Return whether the run that filled a folder wrote pictures, which are photos with boxes on them."""
    try:
        record = read_run(folder) or {"runs": []}
    except (FileRefused, OSError):
        return False
    return any("draw_score" in run for run in record["runs"])


def high_floor(results: Path) -> list[str]:
    """Return a warning where the results of a folder, or a file in it, lack the weak detections that mAP counts."""
    folder = results if results.is_dir() else results.parent
    try:
        score = (read_run(folder) or {"settings": {}})["settings"].get("score_floor")
    except (FileRefused, OSError):
        return []
    if not isinstance(score, int | float) or score <= HIGH_FLOOR:
        return []
    return [f"detections below {score:g} were dropped, which lowers mAP: detect with `score_floor=0.001` for it"]


def _counted(run: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten an earlier run: how many photos were skipped or not drawn; the reasons are in the latest."""
    return {name: len(fact) if name in REASONS and isinstance(fact, dict) else fact for name, fact in run.items()}


def _check_record(content: Mapping[str, Any], path: Path) -> None:
    """Refuse what cannot be read on, or written again with a run more."""
    placed = [run["placement"] for run in content["runs"] if "placement" in run]
    if not all(isinstance(lines, list) and all(isinstance(line, str) for line in lines) for lines in placed):
        raise JsonError(f"{path}: not readable: a 'placement' in 'runs' is not a list of texts")
    require_finite(content, path)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command() -> str:
    """Return the command line of this process, as a user would type it."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> str | None:
    """Return the commit of the checkout that this code runs from, followed by + if files were changed since."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != CHECKOUT:  # installed, perhaps inside somebody else's checkout
        return None
    head = _git("rev-parse", "HEAD")
    return f"{head}+" if head and _git("status", "--porcelain", "--untracked-files=no") else head


def fingerprint(path: Path) -> str:
    """Return a file's name with the beginning of its SHA-256: two files of one name stay apart."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def _git(*arguments: str) -> str | None:
    try:
        asked = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of what it computes with."""
    found = {"python": platform.python_version()}
    for name in [DISTRIBUTION, *PACKAGES]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_readers(device: str, *, on_cpu: int) -> int:
    """Return how many processes read photos for a training: a GPU is kept waiting by less than all cores but one.

    Args:
        device: kind of device of the training.
        on_cpu: how many where the CPU itself trains.
    """
    if device == "cpu":
        return on_cpu
    return min(MOST_READERS, max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def processor() -> str:
    """Return the name of the processor, as far as the system tells."""
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return platform.processor() or "unknown"


def peak_memory() -> dict[str, int]:
    """Return the most memory this process held so far, in bytes: "host", and "gpu" if one was used."""
    held = {"host": _peak_resident()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        held["gpu"] = sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return {place: size for place, size in held.items() if size}


def peak_memory_text() -> str:
    """Return the same as people say it, such as "2.1 GiB host, 0.8 GiB gpu"."""
    return ", ".join(f"{size / 2**30:.1f} GiB {place}" for place, size in peak_memory().items())


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
