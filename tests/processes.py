"""Whether processes that a test started are still there."""

from pathlib import Path


def alive(process: int) -> bool:
    """Say whether a process runs, by its id; one that ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
