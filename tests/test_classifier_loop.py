"""The training loop with losses of several parts, several optimisers, clipped gradients; its state files; its seeds."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from classifier.ahead import LoadedBatches
from classifier.recipes import Schedule
from classifier.training import NonFiniteLoss, StepProgress, TrainingRun, full_precision, parameter_groups, train
from classifier.training_state import write_state
from classifier.weights.fitting import WeightsError
from structures.seeds import LARGEST_SEED, step_seed

SCHEDULE = Schedule(6, 0.1, warmup=2, average=0.9, seed=5)


@dataclass(frozen=True)
class AnyRecipe:
    momentum: float = 0.9


class Two(nn.Module):
    """Two heads on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk, self.left, self.right = nn.Linear(4, 5), nn.Linear(5, 1), nn.Linear(5, 1)


def loss(network: Two, batch: Tensor) -> dict[str, Tensor]:
    """The right head learns in every other step, and something is drawn."""
    features = network.trunk(batch + torch.randn_like(batch))
    parts = {"left": network.left(features).square().mean()}
    return {**parts, "right": (network.right(features) - 1).square().mean() if batch[0, 0] > 0 else 0 * parts["left"]}


def batches(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn((6, 4), generator=generator).abs() * (1 if step % 2 else -1)


def optimisers(network: Two) -> list[torch.optim.Optimizer]:
    heads = parameter_groups((network.left.parameters(), 1.0), (network.right.parameters(), 0.5))
    return [
        torch.optim.AdamW(heads),
        torch.optim.SGD(parameter_groups((network.trunk.parameters(), 0.1)), momentum=0.9),
    ]


class Stop(Exception):
    """What stands for kill -9."""


def run(path: Path, told: list[StepProgress], stop: int = 0, schedule: Schedule = SCHEDULE) -> dict[str, Tensor]:
    def report(done: StepProgress) -> None:
        told.append(done)
        if done.step == stop:
            raise Stop

    network = Two()
    return train(
        network,
        loss,
        batches,
        optimisers(network),
        schedule,
        recipe=AnyRecipe(),
        state_file=path,
        save_every=2,
        report=report,
    )


def test_a_killed_run_of_two_optimisers_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole: list[StepProgress] = []
    expected = run(tmp_path / "a.pt", whole)
    told: list[StepProgress] = []
    with pytest.raises(Stop):
        run(tmp_path / "b.pt", told, stop=5)
    del told[4:]  # the last state is that of step 4
    torch.manual_seed(99)  # what the process drew before must not matter
    found = run(tmp_path / "b.pt", told)
    assert told == whole
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_parts_and_learning_rates_are_reported(tmp_path: Path) -> None:
    told: list[StepProgress] = []
    run(tmp_path / "state.pt", told)
    assert [list(done.parts) for done in told] == [["left", "right"]] * 6
    assert [done.loss for done in told] == [sum(done.parts.values()) for done in told]
    assert [done.parts["right"] > 0 for done in told] == [False, True] * 3
    assert [round(done.learning_rate, 4) for done in told] == [0.05, 0.1, 0.1, 0.0854, 0.05, 0.0146]


def test_groups_have_their_factor_and_leave_out_what_is_frozen() -> None:
    network = Two()
    network.trunk.requires_grad_(False)
    network.left.weight.requires_grad_(False)
    groups = parameter_groups((network.trunk.parameters(), 1.0), (network.left.parameters(), 0.5))
    assert groups == [{"params": [network.left.bias], "factor": 0.5}]


def test_a_parameter_without_an_optimiser_is_an_error() -> None:
    network = Two()
    for some in ([network.left, network.right], [network.trunk, network.left, network.left, network.right]):
        each = [torch.optim.SGD(parameter_groups((part.parameters(), 1.0))) for part in some]
        with pytest.raises(ValueError, match="every parameter that asks for a gradient needs one optimiser"):
            TrainingRun(network, loss, each, SCHEDULE)


def test_long_gradients_are_shortened() -> None:
    """One step of plain descent at learning rate 1 moves by the gradient."""
    weight = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(weight.weight)

    def steep(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return {"all": (network(batch)).sum()}

    for clip_norm, expected in ((None, [-3.0, -4.0]), (1.0, [-0.6, -0.8]), (9.0, [-3.6, -4.8])):
        schedule, batch = Schedule(1, 1.0, clip_norm=clip_norm), torch.tensor([[3.0, 4.0]])
        TrainingRun(weight, steep, [torch.optim.SGD(parameter_groups((weight.parameters(), 1.0)))], schedule).learn(
            0, batch
        )
        if clip_norm == 9:
            expected = [-3.0, -4.0]  # it is shorter
        assert weight.weight[0].tolist() == pytest.approx(expected, abs=1e-5)
        nn.init.zeros_(weight.weight)


def test_the_precision_is_that_of_the_recipe_but_where_a_loss_says_otherwise() -> None:
    seen: list[torch.dtype] = []

    def watch(network: Two, batch: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            network.left(network.trunk(batch))  # a look without gradients must not take them from what follows
        features = network.trunk(batch)
        with full_precision(batch.device):
            exact = network.trunk(batch)
        seen.extend((features.dtype, exact.dtype))
        return {"all": network.left(features).float().sum() + network.right(exact).float().sum()}

    for dtype, low in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        network = Two()
        before = network.trunk.weight.detach().clone()
        training = TrainingRun(network, watch, optimisers(network), replace(SCHEDULE, dtype=dtype, warmup=0))
        training.learn(0, batches(1))
        assert seen[-2:] == [low, torch.float32]
        assert not torch.equal(network.trunk.weight, before)
        assert network.left.weight.grad is not None


def test_a_part_that_is_not_finite_is_named() -> None:
    network = Two()

    def broken(network: Two, batch: Tensor) -> dict[str, Tensor]:
        return {"fine": network.trunk(batch).sum(), "boxes": network.left.weight.sum() * torch.nan}

    training = TrainingRun(network, broken, optimisers(network), SCHEDULE)
    with pytest.raises(NonFiniteLoss, match=r"the loss is nan at step 8 \(boxes nan\); lower the learning rate"):
        training.learn(7, batches(0))


def test_a_state_of_another_length_optimiser_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    run(path, [])
    with pytest.raises(WeightsError, match=r"state\.pt: begun with steps=6, not 9; remove it"):
        run(path, [], schedule=replace(SCHEDULE, steps=9))
    network, state = Two(), torch.load(path, weights_only=True)
    descent = [torch.optim.SGD(parameter_groups((network.parameters(), 1.0)))]
    with pytest.raises(WeightsError, match=r"state\.pt: of another network, or of other trained layers"):
        train(network, loss, batches, descent, SCHEDULE, recipe=AnyRecipe(), state_file=path)
    del state["format"], state["optimisers"]
    torch.save({**state, "iteration": 6, "optimiser": {}}, path)  # as the version before the first number wrote it
    with pytest.raises(WeightsError, match=r"state\.pt: begun by another version of this program; finish it with that"):
        run(path, [])


def test_fields_that_a_state_does_not_know_have_their_defaults(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Older:
        pass

    path = tmp_path / "state.pt"
    run(path, [])
    state = torch.load(path, weights_only=True)
    del state["recipe"], state["format"]
    write_state(path, Older(), state)
    told: list[StepProgress] = []
    run(path, told)
    assert told == []


def test_steps_and_processes_have_seeds_of_their_own() -> None:
    places = [(seed, rank, step) for seed in (0, 1, LARGEST_SEED) for rank in range(4) for step in range(300)]
    seeds = [step_seed(*place) for place in places]
    assert len(set(seeds)) == len(places)
    assert seeds == [step_seed(*place) for place in places]
    for seed in (min(seeds), max(seeds)):
        torch.Generator().manual_seed(seed)


def test_loaded_batches_begin_again_only_where_they_must() -> None:
    begun: list[int] = []
    loaded = LoadedBatches(lambda step: begun.append(step) or iter(range(step, 100)))  # type: ignore[func-returns-value]
    assert [loaded(step) for step in (3, 4, 5, 9, 10, 10)] == [3, 4, 5, 9, 10, 10]
    assert begun == [3, 9, 10]
