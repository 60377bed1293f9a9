"""The recipe of a region classifier, as plain records: which regions it learns from, and how."""

from dataclasses import dataclass, field, replace

from classifier.recipes import Recipe, check_numbers
from structures.errors import InputError


@dataclass(frozen=True)
class ExampleRecipe:
    """Which regions to learn from, and how to mix batches from them.

    Attributes:
        positives: most regions per photo with an IoU of 0.5 or more.
        negatives: most regions per photo with an IoU below 0.5.
        near_share: share of the negatives with an IoU of 0.1 or more.
        best_share: smallest share of the negatives from the best boxes of a ranking, which a detector will classify;
            the scores of the proposals must tell how well boxes fit.
        use_ignored: whether ignored objects are objects: right for VOC's difficult ones (R-CNN), wrong for COCO's
            crowds.
        batch_size: regions per batch.
        positive_share: share of positives in a batch.
        balance: 0 draws uniformly over positive regions, 1 uniformly over classes.
        ramp: the share of the class in a region's label rises from 0 at the first IoU to 1 at the second; None is
            R-CNN's step at 0.5. See `classifier.sampling.soft_labels`.
        seed: random seed.

    Raises:
        InputError: a share is not within 0 to 1, the ramp does not rise within 0 to 1, or a batch would have no
            positives or no background.
    """

    positives: int = 20
    negatives: int = 36
    near_share: float = 0.5
    best_share: float = 0.0
    use_ignored: bool = True
    batch_size: int = 128
    positive_share: float = 0.25
    balance: float = 0.0
    ramp: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {"near_share": self.near_share, "best_share": self.best_share, "positive_share": self.positive_share}
        check_numbers(most=1, **shares)
        check_numbers(balance=self.balance)
        if self.ramp is not None and not 0 <= self.ramp[0] < self.ramp[1] <= 1:
            raise InputError(f"`ramp` must rise from one IoU to a greater one within 0..1, not {self.ramp}")
        if not 0 < round(self.batch_size * self.positive_share) < self.batch_size:
            share = f"`positive_share` {self.positive_share} of a `batch_size` of {self.batch_size}"
            raise InputError(f"{share} leaves no positive or no background region: it needs both")


@dataclass(frozen=True)
class RegionTraining:
    """One phase of training a region classifier.

    Attributes:
        recipe: how to train.
        examples: which regions to learn from.
        frozen: the last frozen layer; None trains all.
    """

    recipe: Recipe
    examples: ExampleRecipe = field(default_factory=ExampleRecipe)
    frozen: str | None = None

    def with_seed(self, seed: int) -> "RegionTraining":
        """Return the same training with another random seed."""
        return replace(self, recipe=replace(self.recipe, seed=seed), examples=replace(self.examples, seed=seed))
