"""Measure the papers' MultiBox head next to the dense one: BVLC's trunk as it is, views of 224x224, bipartite loss.

    python benchmarks/multibox_paper.py VOC2007 --weights bvlc_googlenet.npz --kept FOLDER --priors 800 --matching prior

Features of 5b are kept in FOLDER (about 2 GB for 3,000 photos); training the head on them takes minutes on one core.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from classifier.engines import make_engine
from classifier.googlenet import INPUT_SIZE
from classifier.placement import place
from classifier.weights.load import load_weights
from detect.networks.multibox import Normalise
from eval.proposal_recall import measure_coverage, recall
from eval.voc import VocDataset
from proposals.multibox.generator import MultiBox
from proposals.multibox.paper import (
    PaperHead,
    PaperPredictor,
    corner_priors,
    coverage,
    multibox_loss,
    residual_spread,
    squares,
)
from proposals.multibox.samples import on_canvas
from proposals.multibox.views import CanvasView
from structures.boxes import mirror
from structures.images import read_image

CROPS = 4  # random square crops of each training photo, in addition to the whole photo
COUNTS = (10, 50, 100, 200, 500, 1000)


class Last(nn.Module):
    """RGB pixels to the features of 5b."""

    def __init__(self, checkpoint):
        super().__init__()
        self.normalise, self.network = Normalise(checkpoint.preprocessing), checkpoint.network()

    def forward(self, pixels):
        """Map (N, 3, 224, 224) to (N, 1024, 7, 7)."""
        return self.network.trunk(self.normalise(pixels))


def whole(image_size):
    return CanvasView((0.0, 0.0, float(image_size[1]), float(image_size[0])), (INPUT_SIZE, INPUT_SIZE))


def crop(image_size, rng):
    side = rng.uniform(0.4, 1.0) * min(image_size)
    x, y = rng.random() * (image_size[1] - side), rng.random() * (image_size[0] - side)
    return CanvasView((x, y, x + side, y + side), (INPUT_SIZE, INPUT_SIZE))


def training_views(dataset):
    """Return (image id, view, mirrored) of every view that is learned from: each photo whole and cropped, both ways."""
    rng = np.random.default_rng(0)
    rows = []
    for truth in dataset:
        for view in [whole(truth.image_size), *(crop(truth.image_size, rng) for _ in range(CROPS))]:
            rows.append((truth.image_id, view, bool(rng.random() < 0.5)))
        rows.append((truth.image_id, whole(truth.image_size), not rows[-1 - CROPS][2]))
    return rows


def keep(dataset, rows, engine, folder):
    """Return the features (N, 1024, 7, 7) of all views as a float16 memory map."""
    path = folder / "paper.npy"
    done = folder / "paper.done"
    shape = (len(rows), 1024, 7, 7)
    if done.exists():
        return np.lib.format.open_memmap(path, mode="r")
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, len(rows), engine.batch_size):
        batch = rows[start : start + engine.batch_size]
        canvases = [v.draw(read_image(dataset.image_path(i)), mirrored=m) for i, v, m in batch]
        kept[start : start + len(batch)] = engine(torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).float())
    kept.flush()
    done.touch()
    return kept


def targets(dataset, rows):
    """Return the (G, 4) boxes in 0..1 that count in each view."""
    found = []
    for image_id, view, mirrored in rows:
        boxes, ignore, _ = on_canvas(dataset.ground_truth(image_id), view)
        boxes = mirror(boxes, view.canvas) if mirrored else boxes
        found.append(boxes[~ignore] / np.float32(INPUT_SIZE))
    return found


def learn(head, features, objects, *, epochs, learning_rate, alpha, matching):
    """Train the head with AdamW and half a cosine."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=1e-3)
    rng, batch = np.random.default_rng(0), 64
    steps = epochs * (len(features) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    unit = [torch.from_numpy(o) for o in objects]
    priors = head.priors / head.spread if matching == "prior" else None
    head.train()
    torch.manual_seed(0)
    for epoch in range(epochs):
        total, order = 0.0, rng.permutation(len(features))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = np.sort(order[start : start + batch])
            logits, residuals = head(torch.from_numpy(features[chosen]).float())
            locations = head.decode(residuals) / head.spread
            losses = [
                multibox_loss(z, b, unit[row] / head.spread, alpha=alpha, priors=priors)
                for z, b, row in zip(logits, locations, chosen, strict=True)
            ]
            loss = torch.stack(losses).sum() / max(1, sum(len(unit[row]) for row in chosen))
            assert torch.isfinite(loss), f"loss {loss.item()} in epoch {epoch}"
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / (len(order) // batch):.3f}", flush=True)
    return head.eval()


def judge(head, engine, dataset, views, name):
    """Print recall against the number of boxes."""

    def run(pixels):
        with torch.no_grad():
            parts = [engine(part) for part in torch.split(pixels, engine.batch_size)]
            logits, residuals = head(torch.cat(parts))
        return torch.cat([logits[..., None], residuals], dim=2)

    generator = MultiBox(PaperPredictor(run, head), views, max_boxes=1000)
    pairs = ((truth, generator(read_image(dataset.image_path(truth.image_id))).boxes) for truth in dataset)
    found = measure_coverage(pairs)
    for threshold in (0.5, 0.7):
        cells = [f"{count}: {recall(found.first(count), threshold)[0]:.3f}" for count in COUNTS]
        print(f"{name} ({found.boxes.mean():.0f} boxes) at {threshold}  " + "  ".join(cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--priors", type=int, default=800)
    parser.add_argument("--matching", choices=("prediction", "prior"), default="prior")
    parser.add_argument("--alpha", type=float, default=0.3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    train, val = VocDataset(options.voc, "train"), VocDataset(options.voc, "val")
    here = place(device="cpu")  # where the head is, and what is kept
    engine = make_engine(Last(load_weights(options.weights)), here, size=INPUT_SIZE)
    options.kept.mkdir(parents=True, exist_ok=True)
    rows, begun = training_views(train), time.process_time()
    features, objects = keep(train, rows, engine, options.kept), targets(train, rows)
    print(f"{len(rows)} views, features in {time.process_time() - begun:.0f} s of one core")
    boxes = np.concatenate(objects)
    priors = corner_priors(boxes[:: max(1, len(boxes) // 20000)], options.priors)
    torch.manual_seed(0)
    head = PaperHead(torch.from_numpy(priors), torch.from_numpy(residual_spread(boxes, priors)))
    print(f"{len(priors)} priors cover {coverage(boxes, priors):.3f} of the training boxes")
    begun = time.process_time()
    learn(
        head,
        features,
        objects,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        alpha=options.alpha,
        matching=options.matching,
    )
    print(f"trained in {time.process_time() - begun:.0f} s of one core")
    judge(head, engine, val, lambda size: [whole(size)], "whole photo")
    crops = lambda size: [whole(size), *squares(size, side=0.6, overlap=0.4)]  # noqa: E731
    judge(head, engine, val, crops, "whole photo and squares")


if __name__ == "__main__":
    main()
