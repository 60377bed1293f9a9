"""A classifier's training in one call, as regions and whole photos have it."""

from pathlib import Path
from typing import Any

from torch import nn

from classifier.classification_loss import ClassificationLoss, LabelledBatch, momentum_descent
from classifier.recipes import Recipe
from classifier.running_average import State
from classifier.training import Batches, train


def train_classifier(
    network: nn.Module, batches: Batches[LabelledBatch], recipe: Recipe, *, state_file: Path, **options: Any
) -> State:
    loss, optimisers = ClassificationLoss(recipe), [momentum_descent(network, recipe)]
    schedule = recipe.schedule
    return train(network, loss, batches, optimisers, schedule, recipe=recipe, state_file=state_file, **options)
