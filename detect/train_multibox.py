"""Training MultiBox: random views of annotated photos -> GoogLeNet -> the dense head and the refining head.

Everything random in a step comes from (seed, epoch, photo) or (seed, step), so a run that was killed goes on from its
last state as if nothing had happened. The stages up to `frozen` keep their weights and run in the quick engine.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader

from classifier.children import begin_reading
from classifier.engines import Placement
from classifier.googlenet import stages_between
from classifier.processes import average_over, current_process, first_then_others, share_of
from classifier.training import NonFiniteLoss, Progress, move_average, rate_at, require_finite
from classifier.training import Recipe as Schedule
from classifier.training_state import read_state, require_same_start, write_state
from classifier.weights import Checkpoint
from detect.ahead import one_core_a_photo
from detect.multibox import (
    CanvasRunner,
    DenseMultiBox,
    Stem,
    from_checkpoint,
    learned_classes,
    start_network,
    to_checkpoint,
    unflatten,
)
from detect.multibox_recipe import Canvases, Order, Recipe, find_shapes
from detect.training_folder import STATE, claim, contents, digest
from proposals.multibox_heads import STRIDES, decode
from proposals.multibox_loss import BOX_WEIGHT, assign, dense_loss
from proposals.multibox_regions import draw_regions
from proposals.multibox_samples import Sample
from proposals.priors import grid_priors
from structures.boxes import ImageSize
from structures.images import ImageError
from structures.records import Dataset

LARGEST_GRADIENT = 10.0  # norm; longer ones are shortened


class Run:
    """One training run: network, optimiser, running average, and where it stands.

    Attributes:
        parts: of the last loss: confidences and boxes of the dense head, and of the refining head.
    """

    def __init__(self, network: DenseMultiBox, recipe: Recipe, placement: Placement, steps: int) -> None:
        self.network, self.recipe, self.placement, self.steps = network, recipe, placement, steps
        self.device = placement.device
        self._schedule = Schedule(iterations=steps, rate=recipe.rate, warmup=recipe.warmup)
        self.rate, self.step = 0.0, 0
        self.parts: tuple[Tensor, ...] = ()
        self._priors: dict[ImageSize, Tensor] = {}
        self._freeze()
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._stem = CanvasRunner(Stem(network, recipe.frozen), placement, batch_size=recipe.batch_size)
        self.optimiser = torch.optim.AdamW(self._groups(), lr=recipe.rate, weight_decay=recipe.decay)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def _freeze(self) -> None:
        for stage in stages_between(None, self.recipe.frozen):
            self.network.trunk.get_submodule(stage).requires_grad_(False)

    def _groups(self) -> list[dict[str, Any]]:
        trunk = [p for p in self.network.trunk.parameters() if p.requires_grad]
        heads = [*self.network.head.parameters(), *self.network.refine.parameters()]
        groups = [{"params": heads, "factor": 1.0}, {"params": trunk, "factor": self.recipe.trunk_rate}]
        return [group for group in groups if group["params"]]

    def learn(self, samples: list[Sample]) -> float:
        """Take one step on samples of one canvas size and return the loss.

        Raises:
            NonFiniteLoss: the loss is infinite or not a number.
        """
        torch.manual_seed((self.recipe.seed + 7919 * current_process().rank) * 1_000_003 + self.step)
        self.rate = rate_at(self.step, self._schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["factor"]
        self.network.train()
        self.network.trunk.eval()  # batch normalisation, where the variant has it, keeps its statistics
        loss = self._loss(samples)
        value = average_over(loss)
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss is {value} at step {self.step + 1}; lower the rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        decay = min(self.recipe.average, self.step / (9 + self.step))  # short runs forget their start sooner
        move_average(self.average, self.network, 1 - decay)
        return value

    def _loss(self, samples: list[Sample]) -> Tensor:
        canvas = samples[0].canvas.shape[:2]
        pixels = torch.from_numpy(np.stack([s.canvas for s in samples])).to(self.device).permute(0, 3, 1, 2).float()
        found = unflatten(self._stem(pixels), canvas, self.recipe.frozen)
        found = [features.to(memory_format=torch.channels_last) for features in found]
        with torch.autocast(self.device.type, getattr(torch, self.recipe.dtype), self.recipe.dtype != "float32"):
            output = self.network.head(self.network.from_stem(found, self.recipe.frozen))
        objects = [torch.from_numpy(s.boxes).to(self.device) for s in samples]
        ignore = [torch.from_numpy(s.ignore).to(self.device) for s in samples]
        priors = self._priors_of(canvas)
        boxes = decode(output.residuals, priors)
        first = self._summed(
            [
                dense_loss(z, b, assign(priors, o, i), o)
                for z, b, o, i in zip(output.logits, boxes, objects, ignore, strict=True)
            ]
        )
        second = self._second_look(output.pyramid, boxes.detach(), output.logits.detach(), objects, ignore, canvas)
        self.parts = tuple(part.detach() for part in (*first, *second))
        return first[0] + BOX_WEIGHT * first[1] + second[0] + BOX_WEIGHT * second[1]

    def _priors_of(self, canvas: ImageSize) -> Tensor:
        if canvas not in self._priors:
            grid = grid_priors(self.network.head.shapes.cpu().numpy(), STRIDES, canvas)
            self._priors[canvas] = torch.from_numpy(grid).to(self.device)
        return self._priors[canvas]

    def _summed(self, losses: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor]:
        positives = max(1, sum(count for _, _, count in losses))
        confidence = torch.stack([c for c, _, _ in losses]).sum() / positives
        return confidence, torch.stack([b for _, b, _ in losses]).sum() / positives

    def _second_look(
        self,
        pyramid: tuple[Tensor, ...],
        boxes: Tensor,
        logits: Tensor,
        objects: list[Tensor],
        ignore: list[Tensor],
        canvas: ImageSize,
    ) -> tuple[Tensor, Tensor]:
        chosen, assigned = [], []
        for b, z, o, i in zip(boxes, logits, objects, ignore, strict=True):
            regions, numbers = draw_regions(b, z, o, i, canvas, self.recipe.regions)
            chosen.append(regions)
            assigned.append(numbers)
        logit, residuals = self.network.refine(pyramid, chosen)
        moved = decode(residuals, torch.cat(chosen))
        lengths = [len(c) for c in chosen]
        rows = zip(torch.split(logit, lengths), torch.split(moved, lengths), assigned, objects, strict=True)
        return self._summed([dense_loss(z, b, a, o) for z, b, a, o in rows])

    def save(self, path: Path) -> None:
        """Write the whole state atomically.

        Raises:
            NonFiniteLoss: a weight is not finite, though the loss still was; the earlier state stays.
        """
        require_finite(self.network.state_dict(), self.step)
        content = {"steps": self.steps, "step": self.step, "average": self.average}
        content |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        write_state(path, self.recipe, content)

    def load(self, path: Path) -> None:
        """Go on from a state.

        Raises:
            WeightsError: the state belongs to another recipe or dataset, or is damaged.
        """
        state = read_state(path, self.recipe, steps=self.steps)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.step = int(state["step"])


def _claim_folder(work: Path, start: Checkpoint, dataset: Dataset) -> None:
    state = work / STATE
    weights = {"weights": digest(dict(sorted(start.state.items()))), "preprocessing": asdict(start.preprocessing)}
    remedy = f"name another --work folder, or remove {state} to start anew"
    claim(work / "start.json", {**weights, **contents(dataset)}, remedy=remedy, state=state)


def _fresh(start: Checkpoint, dataset: Dataset, recipe: Recipe) -> DenseMultiBox:
    return start_network(start, find_shapes(dataset, recipe), width=recipe.width, seed=recipe.seed)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes; a parameter that had no part in the loss counts as 0."""
    if current_process().total == 1:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(joined)
    parts = torch.split(joined / current_process().total, [gradient.numel() for gradient in gradients])
    for parameter, gradient, mean in zip(parameters, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(mean.view(gradient.shape))


def _readable(batches: Iterable[list[Sample | ImageError]]) -> Iterator[list[Sample]]:
    """Yield the batches; a photo that could not be read stops the training when its turn comes."""
    for batch in batches:
        samples = []
        for sample in batch:
            if isinstance(sample, ImageError):
                raise sample
            samples.append(sample)
        yield samples


def train_multibox(
    start: Checkpoint,
    dataset: Dataset,
    *,
    recipe: Recipe,
    placement: Placement,
    work: Path,
    workers: int = 0,
    save_every: int = 200,
    report: Callable[[Progress], None] = lambda progress: None,
    judge: Callable[[int, Callable[[], Checkpoint]], None] | None = None,
) -> Checkpoint:
    """Train MultiBox on annotated photos.

    Args:
        start: any GoogLeNet, whose trunk is taken; or MultiBox weights, which are trained further with their priors.
        dataset: photos and their objects; classes do not matter.
        recipe: how.
        placement: device and engine; the trained stages run in torch.
        work: folder of the state; a killed run goes on from it.
        workers: processes that draw samples; 0 draws them in between.
        save_every: steps between two states on disk.
        report: called after every step.
        judge: called after every step with its number and a function that returns the weights so far, before the state
            is written: what it has to say is said again when a killed run comes there once more.

    Returns:
        The running average of the weights.

    Raises:
        ValueError: there are no photos, or too few for a batch of all processes, which must share a batch evenly; one
            cannot be read; or the folder belongs to another training.
    """
    sizes, here = [truth.image_size for truth in dataset], current_process()
    share_of(recipe.batch_size, here)
    network = from_checkpoint(start) if start.task == "multibox" else _fresh(start, dataset, recipe)
    run = Run(network, recipe, placement, recipe.steps(dataset))
    if run.steps == 0:
        raise ValueError(f"{len(sizes)} photos give no batch for {here.total} processes; take fewer, or more photos")
    state = work / STATE
    with first_then_others() as first:
        if first:
            _claim_folder(work, start, dataset)
    if state.exists():
        run.load(state)
    require_same_start(state, run.step)
    loader = DataLoader(
        Canvases(dataset, recipe.seed),
        batch_sampler=Order(sizes, recipe, run.step, here),
        num_workers=workers,
        worker_init_fn=begin_reading,
        collate_fn=list,
    )
    classes = list(dict.fromkeys([*learned_classes(start), *dataset.classes]))
    record = {"recipe": asdict(recipe), "photos": len(sizes), "classes": classes}
    training: Mapping[str, Any] = {**record, "start": dict(start.training)}
    with one_core_a_photo() if workers else nullcontext():  # before they are forked: in a fork OpenCV would hang
        for samples in _readable(loader):
            loss = run.learn(samples)
            report(Progress(run.step, loss, run.rate))
            if judge is not None:
                judge(run.step, lambda: to_checkpoint(network, start, dict(run.average), training))
            if here.rank == 0 and (run.step % save_every == 0 or run.step == run.steps):
                run.save(state)
    return to_checkpoint(network, start, dict(run.average), training)
