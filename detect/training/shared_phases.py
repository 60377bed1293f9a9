"""The phases of a training of shared features."""

from collections.abc import Sequence
from pathlib import Path

from classifier.engines import Placement
from classifier.weights.checkpoint import Checkpoint
from detect.training.multibox_batches import count_steps
from detect.training.phases import Phase
from detect.training.progress import Reporter
from detect.training.shared import check_frozen, train_shared
from detect.training.shared_recipe import SharedRecipe
from detect.training.validation import Validation
from proposals.protocol import ProposalGenerator
from structures.records import Dataset


def phases(
    recipes: Sequence[SharedRecipe],
    dataset: Dataset,
    *,
    regions: Checkpoint | None,
    propose: ProposalGenerator | None,
    placement: Placement,
    workers: int = 0,
    save_every: int = 100,
) -> list[Phase]:
    """Return the phases of a plan, one for each recipe.

    Args:
        recipes: how to train.
        dataset: photos and their objects.
        regions: a region classifier that the first phase begins with; see `train_shared`.
        propose: other proposals to learn from, stored ones.
        placement: device and engine.
        workers: processes that draw samples; 0 draws them in between.
        save_every: steps between two states on disk.

    Raises:
        InputError: a stage that cannot be the last frozen one.
    """
    for recipe in recipes:  # before anything is written
        check_frozen(recipe.multibox.frozen)

    def phase(number: int, recipe: SharedRecipe) -> Phase:
        def train(start: Checkpoint, folder: Path, reporter: Reporter, judge: Validation | None) -> Checkpoint:
            return train_shared(
                start,
                dataset,
                regions=regions if number == 0 else None,
                propose=propose,
                recipe=recipe,
                placement=placement,
                work=folder,
                workers=workers,
                save_every=save_every,
                report=reporter.report,
                judge=judge,
            )

        return Phase(count_steps(dataset, recipe.multibox), recipe.multibox.batch_size, train)

    return [phase(number, recipe) for number, recipe in enumerate(recipes)]
