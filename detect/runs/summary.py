"""The outcome of a run: counts, generators of proposals and detections, seconds per stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from detect.runs.machine import peak_memory_text
from detect.runs.progress import duration

ORDER = ("read", "propose", "trunk", "classify", "suppress", "write")  # of the stages in tables
IN_WORKERS = ("read", "propose")  # stages with several threads


@dataclass(frozen=True)
class DetectionSummary:
    """The outcome of a run.

    Attributes:
        photos: number of photos in the run.
        done: photos done now or in an earlier run.
        fresh: photos done in this run.
        skipped: image ids of photos that could not be processed -> reason.
        proposals: generator -> number of its proposals that were classified in this run.
        boxes: generator -> number of detections from its proposals in this run.
        seconds: seconds of this run from the first photo to the last.
        stages: stage -> seconds, summed over photos and threads; the stages overlap.
        first_seconds: seconds until the first photo was done, which includes making the networks ready; 0 without one.
        photos_per_second: speed without the first photo; None if there was no second.
        undrawn: image ids of photos that are done but could not be drawn -> reason.
    """

    photos: int
    done: int
    fresh: int
    skipped: Mapping[str, str]
    proposals: Mapping[str, int]
    boxes: Mapping[str, int]
    seconds: float
    stages: Mapping[str, float]
    first_seconds: float
    photos_per_second: float | None
    undrawn: Mapping[str, str] = field(default_factory=dict)

    def rows(self, written: Sequence[Path]) -> dict[str, str]:
        """Return the closing table."""
        each = max(1, self.fresh)
        stages = ", ".join(f"{stage} {spent / each:.3f}" for stage, spent in self.stages.items())
        before = f" ({self.done - self.fresh} of them earlier)" if self.fresh < self.done else ""
        speed = f", {self.photos_per_second:.2f} photos/s" if self.photos_per_second else ""
        regions, boxes = sum(self.proposals.values()), sum(self.boxes.values())
        return {
            "photos": f"{self.done} done{before}, {len(self.skipped)} skipped",
            "time": f"{duration(self.seconds)}{speed}",
            "seconds per photo": stages or "-",
            "regions per photo": f"{regions / each:.0f} proposed, {boxes / each:.1f} detected" if self.fresh else "-",
            **({"from": self._by_source(regions, boxes)} if len(self.proposals) > 1 else {}),
            "peak memory": peak_memory_text(),
            "results": ", ".join(map(str, written)),
        }

    def profile(self, workers: int) -> dict[str, dict[str, float]]:
        """Return for each stage its seconds per photo, its threads, and the share of the time that they worked.

        Args:
            workers: threads that read photos and proposed regions.
        """
        each, rows = max(1, self.fresh), dict[str, dict[str, float]]()
        for stage in sorted(self.stages, key=ORDER.index):
            threads, spent = (workers if stage in IN_WORKERS else 1), self.stages[stage]
            busy = spent / (threads * self.seconds) if self.seconds else 0.0
            rows[stage] = {"seconds per photo": spent / each, "threads": threads, "busy": busy}
        return rows

    def _by_source(self, regions: int, boxes: int) -> str:
        shares = {name: (count / max(1, regions), self.boxes.get(name, 0)) for name, count in self.proposals.items()}
        parts = (
            f"{name} {each:.0%} of the proposed, {n / max(1, boxes):.0%} of the detected"
            for name, (each, n) in shares.items()
        )
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return the facts for run.json; the reasons for skipped photos are in skipped.jsonl."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"skipped": len(self.skipped)}


def profile_table(profile: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the table of a `DetectionSummary.profile`."""
    sheet = Table(box=None, pad_edge=False)
    for name in ("stage", "seconds per photo", "threads", "busy"):
        sheet.add_column(name, justify="left" if name == "stage" else "right")
    for stage, row in profile.items():
        sheet.add_row(stage, f"{row['seconds per photo']:.4f}", f"{row['threads']:.0f}", f"{row['busy']:.0%}")
    return sheet


def start_line(start: Mapping[str, float]) -> str:
    """Return how long each part of the start took.

    >>> start_line({"import": 1.25, "load": 0.51, "first photo": 1.0})
    'import 1.2 s, load 0.5 s, first photo 1.0 s'
    """
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in start.items())
