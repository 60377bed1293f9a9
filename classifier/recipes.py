"""How to train, as plain records: what the loop must know about any training, and the recipes of classifiers."""

import math
from dataclasses import dataclass

from structures.errors import InputError
from structures.names import not_one_of
from structures.seeds import check_seed

FALL, FALL_EPOCHS = 0.96, 8  # GoogLeNet, section 6: the learning rate falls by 4% every 8 epochs
LEARNING_RATE, WEIGHT_DECAY = 0.01, 2e-4  # BVLC's solver: the paper gives none
AVERAGE_FROM = 0.5  # without the first half, when the weights are still far from anything good
SCHEDULES = ("paper", "cosine")
MOST_EPOCHS = 1_000_000


def check_numbers(*, most: float = math.inf, **values: float) -> None:
    """Refuse a setting of a training that is NaN or out of its range; the messages of libraries are less clear.

    Args:
        most: the highest that each may be; infinity itself is never allowed.
        **values: by name; none may be below 0.

    Raises:
        InputError: names the setting.
    """
    for name, value in values.items():
        if not 0 <= value <= most or value == math.inf:
            allowed = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
            raise InputError(f"`{name}` must be a number {allowed}, got {value:g}")


@dataclass(frozen=True)
class Schedule:
    """What the loop of `classifier.training` must know about a training; a step is one batch.

    Attributes:
        steps: of the whole training.
        learning_rate: the highest; parameter groups may have a factor on it.
        warmup: steps over which the learning rate rises from 0, at most half of all.
        fall_every: steps between two falls of the learning rate by 4%; 0 takes half a cosine.
        clip_norm: a gradient that is longer is shortened to this; None leaves it.
        average: decay of the running average of the weights, which is the result; 0 takes the last weights, 1 is the
            plain mean of all, which is Polyak's average in GoogLeNet's paper.
        average_from: step at which the average begins; before it the last weights are the result.
        dtype: precision of the forward pass; weights are float32 always.
        seed: of everything random.

    Raises:
        InputError: the seed, the learning rate or the average is out of its range.
    """

    steps: int
    learning_rate: float
    warmup: int = 0
    fall_every: int = 0
    clip_norm: float | None = None
    average: float = 0.0
    average_from: int = 0
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_numbers(learning_rate=self.learning_rate)
        check_numbers(most=1, average=self.average)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        >>> [round(Schedule(100, 1.0, warmup=10).learning_rate_at(i), 2) for i in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
        >>> [round(Schedule(100, 1.0, fall_every=8).learning_rate_at(i), 4) for i in (0, 7, 8, 16)]
        [1.0, 1.0, 0.96, 0.9216]
        >>> [round(Schedule(8, 1.0, warmup=100).learning_rate_at(i), 2) for i in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.85, 0.5, 0.15]
        """
        warmup = min(self.warmup, self.steps // 2)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.fall_every:
            return self.learning_rate * float(FALL ** (step // self.fall_every))
        share = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Recipe:
    """How to train a classifier of regions or of whole photos.

    Attributes:
        steps: batches in all.
        learning_rate: the highest.
        last_layer_factor: on the learning rate of the fresh last layer.
        warmup: steps over which the learning rate rises from 0, at most half of all.
        momentum: of the gradient.
        weight_decay: of all weights.
        label_smoothing: share of the label spread over all classes.
        average: decay of the running average of the weights; see `Schedule`.
        hard_examples: of each batch, learn only from this many rows with the greatest loss; 0 learns from all. Of
            several processes each takes its share of them from its part of the batch.
        dtype: precision of the forward pass.
        seed: of everything random.
        fall_every: steps between two falls of the learning rate by 4%; 0 takes half a cosine.
        average_from: step at which the average begins.

    Raises:
        InputError: the seed, or another number, is out of its range.
    """

    steps: int
    learning_rate: float = 0.01
    last_layer_factor: float = 1.0
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    average: float = 0.998
    hard_examples: int = 0
    dtype: str = "bfloat16"
    seed: int = 0
    fall_every: int = 0
    average_from: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_numbers(learning_rate=self.learning_rate, weight_decay=self.weight_decay, momentum=self.momentum)
        check_numbers(most=1, label_smoothing=self.label_smoothing, average=self.average)

    @property
    def schedule(self) -> Schedule:
        """What the loop must know."""
        return Schedule(
            self.steps,
            self.learning_rate,
            warmup=self.warmup,
            fall_every=self.fall_every,
            average=self.average,
            average_from=self.average_from,
            dtype=self.dtype,
            seed=self.seed,
        )


def paper_recipe(epochs: float, epoch: int, *, schedule: str = "paper", average_from: float = AVERAGE_FROM) -> Recipe:
    """Return GoogLeNet's recipe: momentum 0.9, the learning rate 4% lower every 8 epochs, Polyak's average.

    Args:
        epochs: how long.
        epoch: batches in an epoch.
        schedule: "paper", or "cosine" for a learning rate that falls to 0 (Differs).
        average_from: share of the run before the average begins; the paper gives none.

    Raises:
        InputError: unknown schedule, or a number of epochs or a share out of its range.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"`schedule` {not_one_of(schedule, SCHEDULES)}")
    if not 0 < epochs <= MOST_EPOCHS:
        raise InputError(f"`epochs` {epochs:g} must be above 0, and at most {MOST_EPOCHS}")
    if not 0 <= average_from <= 1:
        raise InputError(f"`average_from` {average_from} is not a share of the run, from 0 to 1")
    steps = max(1, round(epochs * epoch))
    return Recipe(
        steps,
        LEARNING_RATE,
        warmup=0,
        weight_decay=WEIGHT_DECAY,
        average=1.0,
        average_from=int(steps * average_from),
        fall_every=FALL_EPOCHS * epoch if schedule == "paper" else 0,
    )
