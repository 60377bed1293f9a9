"""What a classifier of regions or of whole photos learns by: cross-entropy, hard examples, descent with momentum."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.googlenet import AUXILIARY_WEIGHT, TrainingLogits
from classifier.processes import current_process, share_of
from classifier.recipes import Recipe
from classifier.training import parameter_groups

LabelledBatch = tuple[Tensor, Tensor]
"""Inputs, and labels: (N,) int64, or (N, columns) float32 shares of the classes."""
LAST_LAYER = "fc"


class ClassificationLoss:
    """Cross-entropy of a network's logits, or TrainingLogits, for the loop of `classifier.training`.

    Args:
        recipe: its label smoothing, and how many hard examples of each batch are learned from.

    Raises:
        InputError: the processes cannot share the hard examples evenly.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._label_smoothing = recipe.label_smoothing
        self._hard_examples = share_of(recipe.hard_examples, current_process(), what="hard examples")

    def __call__(self, network: nn.Module, batch: LabelledBatch) -> dict[str, Tensor]:
        """Return the mean loss, and that of the auxiliary classifiers where there are any."""
        inputs, labels = self._hardest(network, *batch)
        return {name: rows.mean() for name, rows in self._rows(network(inputs), labels).items()}

    def _rows(self, logits: Tensor | TrainingLogits, labels: Tensor) -> dict[str, Tensor]:
        if not isinstance(logits, TrainingLogits):
            return {"classes": self._cross_entropy(logits, labels)}
        main, *side = (self._cross_entropy(each, labels) for each in logits)
        return {"classes": main, "auxiliary": AUXILIARY_WEIGHT * torch.stack(side).sum(0)}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self._label_smoothing
        return functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)

    @torch.no_grad()
    def _hardest(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> LabelledBatch:
        if not 0 < self._hard_examples < len(labels):
            return inputs, labels
        network.eval()
        losses = torch.stack(list(self._rows(network(inputs), labels).values())).sum(0)
        network.train()
        chosen = losses.topk(self._hard_examples).indices
        return inputs[chosen], labels[chosen]


def momentum_descent(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Return stochastic gradient descent with momentum; the last layer may have a learning rate of its own."""
    named = [(name.split(".")[-2:-1] == [LAST_LAYER], value) for name, value in network.named_parameters()]
    rest, last = ([value for is_last, value in named if is_last == wanted] for wanted in (False, True))
    groups = parameter_groups((rest, 1.0), (last, recipe.last_layer_factor))
    return torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
