"""The running average of a network's weights, which is the result of a training."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

State = dict[str, Tensor]  # parameter name -> values


class RunningAverage:
    """A moving average of weights, or their plain mean (Polyak); counters are those of the network.

    Args:
        network: whose weights are averaged.
        decay: share of the old average that stays in each step; 0 keeps the last weights alone, 1 makes the plain mean.
        begin: step at which the average begins; until then it is the last weights.
    """

    def __init__(self, network: nn.Module, *, decay: float, begin: int = 0) -> None:
        self._network, self._decay, self._begin = network, decay, begin
        self.state: State = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        now = self._network.state_dict()
        moved = [name for name, value in now.items() if value.is_floating_point()]
        move = get_ema_multi_avg_fn(1 - self._share_of_new(step - self._begin))  # type: ignore[no-untyped-call]
        move([self.state[name] for name in moved], [now[name] for name in moved], 0)
        for name in now.keys() - set(moved):
            self.state[name].copy_(now[name])

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved average."""
        for name, value in self.state.items():
            value.copy_(state[name])

    def _share_of_new(self, averaged: int) -> float:
        if averaged < 0:
            return 1.0
        if self._decay == 1:
            return 1 / (averaged + 1)
        return 1 - min(self._decay, (1 + averaged) / (10 + averaged))  # short trainings forget their start sooner
