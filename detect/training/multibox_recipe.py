"""The recipe of MultiBox, as a plain record."""

from dataclasses import dataclass

from classifier.recipes import Schedule, check_numbers
from structures.seeds import check_seed

CLIP_NORM = 10.0  # largest norm of the gradient


@dataclass(frozen=True)
class MultiBoxRecipe:
    """How to train MultiBox.

    Attributes:
        epochs: passes over the photos.
        learning_rate: highest learning rate of the heads (AdamW).
        trunk_factor: factor on the learning rate for the trunk's layers after `frozen`.
        frozen: the last frozen layer: maxpool2 or an Inception module.
        batch_size: photos per step, all processes together.
        warmup: steps during which the learning rate rises from 0.
        weight_decay: weight decay of all weights.
        average: decay of the running average of the weights, which is the result.
        priors_a_cell: priors per cell of each level; the name is that in state files.
        width: channels of the pyramid.
        regions: boxes per photo that the refining head learns from.
        dtype: precision of the forward pass; weights are always float32.
        seed: random seed.

    Raises:
        InputError: the seed is invalid, or a rate is not a number of at least 0.
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
        """Return the schedule of the training loop, given the number of steps, which depends on the photos."""
        return Schedule(
            steps,
            self.learning_rate,
            warmup=self.warmup,
            clip_norm=CLIP_NORM,
            average=self.average,
            dtype=self.dtype,
            seed=self.seed,
        )
