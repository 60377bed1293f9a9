"""The phases of a training of MultiBox."""

from collections.abc import Sequence
from pathlib import Path

from classifier.engines import Placement
from classifier.weights.checkpoint import Checkpoint
from detect.training.multibox import check_frozen, train_multibox
from detect.training.multibox_batches import count_steps
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.phases import Phase
from detect.training.progress import Reporter
from detect.training.validation import Validation
from structures.records import Dataset


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

    Raises:
        InputError: a stage that cannot be the last frozen one.
    """
    for recipe in recipes:  # before anything is written
        check_frozen(recipe.frozen)

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
