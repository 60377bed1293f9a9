"""The phases of a training of MultiBox, and how it is judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.engines import Placement
from classifier.weights import Checkpoint
from detect.multibox import HEADLINE, measure
from detect.multibox_batches import count_steps
from detect.multibox_recipe import MultiBoxRecipe
from detect.staged_runs import Phase
from detect.train_multibox import train_multibox
from detect.training_data import unreadable
from detect.training_folder import contents
from detect.training_progress import Reporter
from detect.validation import Validation
from structures.records import Dataset
from structures.text import printable


class MultiBoxMeasure:
    """Measures on annotated photos how many objects the best boxes cover, for `staged_runs.Plan`."""

    figure = HEADLINE

    def __init__(self, dataset: Dataset, placement: Placement) -> None:
        self._dataset, self._placement = dataset, placement

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        return {"number of photos": len(self._dataset), **contents(self._dataset)}

    def prepare(self, console: Console) -> None:
        """Name the photos that cannot be read: their objects count as missed."""
        for reason in unreadable(self._dataset).values():
            console.print(f"not validated on: {printable(reason)}", markup=False, soft_wrap=True)

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the recall."""
        return dict(measure(checkpoint, self._dataset, self._placement))[self.figure]


def phases(
    recipes: Sequence[MultiBoxRecipe],
    dataset: Dataset,
    *,
    placement: Placement,
    workers: int = 0,
    save_every: int = 100,
) -> list[Phase]:
    """Return the phases of a plan, one for each recipe.

    Args:
        recipes: how to train.
        dataset: photos and their objects.
        placement: device and engine.
        workers: processes that draw samples; 0 draws them in between.
        save_every: steps between two states on disk.
    """

    def phase(recipe: MultiBoxRecipe) -> Phase:
        def train(start: Checkpoint, folder: Path, reporter: Reporter, judge: Validation | None) -> Checkpoint:
            return train_multibox(
                start,
                dataset,
                recipe=recipe,
                placement=placement,
                work=folder,
                workers=workers,
                save_every=save_every,
                report=reporter.report,
                judge=judge,
            )

        return Phase(count_steps(dataset, recipe), recipe.batch_size, train)

    return [phase(recipe) for recipe in recipes]
