"""Validates MultiBox during training: the recall of its best boxes on fixed photos."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from classifier.placement import Placement
from classifier.weights.checkpoint import Checkpoint
from detect.networks.multibox import make_multibox
from detect.training.data import unreadable
from detect.training.folder import contents
from eval.proposal_recall import measure_coverage, recall
from proposals.multibox.generator import MultiBox
from structures.boxes import Boxes, as_boxes
from structures.images import ImageError, read_image
from structures.records import Dataset, GroundTruth
from structures.text import printable

JUDGED = (50, 200, 1000)  # numbers of best boxes whose recall is measured
HEADLINE = "recall@0.50 of 200 boxes"  # the number that GoogLeNet's paper adds to Selective Search (section 8)


def measure(checkpoint: Checkpoint, dataset: Dataset, placement: Placement) -> Iterator[tuple[str, float]]:
    """Yield the recall of a checkpoint's best boxes; objects on photos that cannot be read count as missed."""
    generator = make_multibox(checkpoint, placement, max_boxes=max(JUDGED))
    coverage = measure_coverage((truth, _boxes(generator, dataset, truth)) for truth in dataset)
    for count in JUDGED:
        for threshold, value in zip((0.5, 0.7), recall(coverage.first(count), (0.5, 0.7)), strict=True):
            yield f"recall@{threshold:.2f} of {count} boxes", round(float(value), 4)


def _boxes(generator: MultiBox, dataset: Dataset, truth: GroundTruth) -> Boxes:
    try:
        return generator(read_image(dataset.image_path(truth.image_id))).boxes
    except ImageError:
        return as_boxes([])


class MultiBoxMeasure:
    """Measures the recall of the best boxes on annotated photos, for `phases.TrainingPlan`."""

    figure = HEADLINE

    def __init__(self, dataset: Dataset, placement: Placement) -> None:
        self._dataset, self._placement = dataset, placement

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        return {"number of photos": len(self._dataset), **contents(self._dataset)}

    def prepare(self, console: Console) -> None:
        """Print which photos cannot be read; their objects count as missed."""
        for reason in unreadable(self._dataset).values():
            console.print(f"not validated on: {printable(reason)}", markup=False, soft_wrap=True)

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the recall."""
        return dict(measure(checkpoint, self._dataset, self._placement))[self.figure]
