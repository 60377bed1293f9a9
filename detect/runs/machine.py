"""The program and the machine of a run: command, commit, versions, processor, memory."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from structures.cores import cores

DISTRIBUTION = "googlenet-rcnn"
PACKAGES = "torch torchvision openvino opencv-contrib-python-headless numba numpy pillow".split()
CHECKOUT = Path(__file__).resolve().parents[2]
MOST_READERS = 16  # processes that read photos for a GPU: more rarely pay, and each takes memory


def made_by() -> dict[str, Any]:
    """Return what made a file, for its record: command, commit and versions."""
    return {"command": command(), "commit": commit(), "versions": versions()}


def command() -> str:
    """Return the command line of this process, as a user would type it."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> str | None:
    """Return the commit of the checkout that this code runs from, followed by + if files have changed since."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != CHECKOUT:  # installed, perhaps inside somebody else's checkout
        return None
    head = _git("rev-parse", "HEAD")
    return f"{head}+" if head and _git("status", "--porcelain", "--untracked-files=no") else head


def _git(*arguments: str) -> str | None:
    try:
        asked = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of its main libraries."""
    found = {"python": platform.python_version()}
    for name in [DISTRIBUTION, *PACKAGES]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def usual_readers(device: str, *, on_cpu: int) -> int:
    """Return the number of processes that read photos for a training: with a GPU, all cores but one.

    Args:
        device: type of the training's device.
        on_cpu: number of processes if the CPU itself trains.
    """
    if device == "cpu":
        return on_cpu
    return min(MOST_READERS, max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def processor() -> str:
    """Return the name of the processor; "unknown" if the system does not tell."""
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return platform.processor() or "unknown"


def peak_memory() -> dict[str, int]:
    """Return the peak memory of this process so far, in bytes: "host", and "gpu" if one was used."""
    held = {"host": _peak_resident()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        held["gpu"] = sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return {place: size for place, size in held.items() if size}


def peak_memory_text() -> str:
    """Return `peak_memory` as text, such as "2.1 GiB host, 0.8 GiB gpu"."""
    return ", ".join(f"{size / 2**30:.1f} GiB {place}" for place, size in peak_memory().items())


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
