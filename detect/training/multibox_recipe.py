"""How MultiBox is trained, as a plain record."""

from dataclasses import dataclass

from classifier.recipes import Schedule, check_numbers
from structures.seeds import check_seed

CLIP_NORM = 10.0  # of the gradient


@dataclass(frozen=True)
class MultiBoxRecipe:
    """How to train MultiBox.

    Attributes:
        epochs: times every photo is seen.
        learning_rate: the highest of the heads (AdamW).
        trunk_factor: on the learning rate of the trunk's stages after `frozen`.
        frozen: stages up to and with this one stay as they are; maxpool2 or an Inception module.
        batch_size: photos per step, over all processes.
        warmup: steps over which the learning rate rises.
        weight_decay: of all weights.
        average: decay of the running average of the weights, which is the result.
        priors_a_cell: shapes of each level; the state files of trainings know it by this name.
        width: channels of the pyramid.
        regions: boxes of each photo that the refining head learns from.
        dtype: precision of the forward pass; weights are float32 always.
        seed: of everything random.

    Raises:
        InputError: the seed is not one, or a rate no number of at least 0.
    """

    epochs: int = 12
    learning_rate: float = 1e-3
    trunk_factor: float = 0.1
    frozen: str = "inception4e"
    batch_size: int = 8
    warmup: int = 200
    weight_decay: float = 1e-4
    average: float = 0.998
    priors_a_cell: int = 3
    width: int = 128
    regions: int = 48
    dtype: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_numbers(learning_rate=self.learning_rate, weight_decay=self.weight_decay)

    def schedule(self, steps: int) -> Schedule:
        """Return what the loop must know; how many steps the epochs have depends on the photos."""
        return Schedule(
            steps,
            self.learning_rate,
            warmup=self.warmup,
            clip_norm=CLIP_NORM,
            average=self.average,
            dtype=self.dtype,
            seed=self.seed,
        )
