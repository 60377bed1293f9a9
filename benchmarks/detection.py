"""Seconds and mAP of every way to detect, on the same photos in one run, one photo at a time, file to boxes.

Usage: python benchmarks/detection.py VOC2007 SPLIT [--photos 50] [--way NAME ...] [--rival yolox.onnx] [--threads 2]
           [--dtype float32] [--json FILE] [--plot FILE.png]

The ways take turns photo by photo, so that what else the machine does hits all alike; the first photos of each shape
warm up and are not counted. `plain` is what a user would write from the parts: OpenCV's Selective Search, crops by
Pillow, torch in float32. A rival is an exported YOLOX with COCO's 80 classes, at its usual 416 pixels.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from classifier.regions import Probabilities
from detect.classifiers import load_regions
from detect.detector import Detector
from eval.scores import score
from eval.voc import VocDataset
from proposals.generators import build
from structures.boxes import as_boxes, clip
from structures.images import read_image
from structures.nms import suppress_per_class
from structures.records import Detections

Way = Callable[[Path], Detections]
SCORE_FLOOR = 0.001
RIVAL_SIDE, RIVAL_NMS = 416, 0.45  # YOLOX's exported models and their demo
RIVAL_COLUMNS = {  # of VOC's classes among COCO's 80
    "aeroplane": 4, "bicycle": 1, "bird": 14, "boat": 8, "bottle": 39, "bus": 5, "car": 2, "cat": 15, "chair": 56,
    "cow": 19, "diningtable": 60, "dog": 16, "horse": 17, "motorbike": 3, "person": 0, "pottedplant": 58,
    "sheep": 18, "sofa": 57, "train": 6, "tvmonitor": 62,
}  # fmt: skip


def ours(features: str, proposals: str, dtype: str) -> Callable[[], Way]:
    """Return a maker of a way that is one of the detector's modes."""

    def make() -> Way:
        detector = Detector.load(proposals=proposals, features=features, dtype=dtype, score_floor=SCORE_FLOOR)  # type: ignore[arg-type]
        return lambda path: detector(read_image(path))

    return make


def plain(boxes: int = 200, batch: int = 32) -> Way:
    """Do what a user would write: OpenCV's proposals, the first so many, each cropped by Pillow, torch in float32."""
    import PIL.Image

    checkpoint, propose = load_regions("default"), build("opencv-selective-search")
    network, size = Probabilities(checkpoint.network()).eval(), checkpoint.preprocessing.size
    mean = torch.tensor(checkpoint.preprocessing.mean).view(3, 1, 1)

    def crop(picture: PIL.Image.Image, box: Sequence[float]) -> torch.Tensor:
        pixels = np.asarray(picture.crop(tuple(map(round, box))).resize((size, size)), np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1).flip(0) - mean

    @torch.inference_mode()
    def run(path: Path) -> Detections:
        picture = PIL.Image.open(path).convert("RGB")
        found = propose(np.asarray(picture)).boxes[:boxes]
        crops = [crop(picture, box) for box in found.tolist()]
        rows = torch.cat([network(torch.stack(crops[i : i + batch])) for i in range(0, len(crops), batch)]).numpy()
        kept, labels, scores = suppress_per_class(found, rows[:, :-1], score_floor=SCORE_FLOOR)
        return Detections(found[kept], labels, scores, (picture.height, picture.width))

    return run


def rival(model_file: Path, classes: Sequence[str]) -> Way:
    """Run an exported YOLOX: boxes of three grids, each with an objectness and 80 classes."""
    import openvino

    model = openvino.Core().compile_model(str(model_file), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(RIVAL_SIDE // s) for x in range(RIVAL_SIDE // s)]
    grid, columns = np.array(cells, np.float32), [RIVAL_COLUMNS[name] for name in classes]

    def run(path: Path) -> Detections:
        photo = cv2.imread(str(path))
        height, width = photo.shape[:2]
        zoom = min(RIVAL_SIDE / height, RIVAL_SIDE / width)
        canvas = np.full((RIVAL_SIDE, RIVAL_SIDE, 3), 114, np.uint8)
        small = cv2.resize(photo, (int(width * zoom), int(height * zoom)))
        canvas[: small.shape[0], : small.shape[1]] = small
        out = np.asarray(model([canvas.transpose(2, 0, 1)[None].astype(np.float32)])[0][0])
        middle, half = (out[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(out[:, 2:4]) * grid[:, 2:] / 2
        boxes = clip(as_boxes(np.concatenate([middle - half, middle + half], axis=1) / zoom), (height, width))
        chances = (out[:, 4:5] * out[:, 5:][:, columns]).astype(np.float32)
        best = np.flatnonzero(chances.max(axis=1) > SCORE_FLOOR)
        kept, labels, scores = suppress_per_class(
            boxes[best], chances[best], score_floor=SCORE_FLOOR, iou_threshold=RIVAL_NMS
        )
        return Detections(boxes[best][kept], labels, scores, (height, width))

    return run


@dataclass
class Outcome:
    """What one way came to: seconds of each photo after the warm-up, and detections of all."""

    way: Way
    seconds: list[float] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)


def measure(makers: Mapping[str, Callable[[], Way]], paths: Sequence[Path], console: Console) -> dict[str, Outcome]:
    """Run all ways in turn on every photo; a photo counts when one of its shape was seen before."""
    runs = {}
    for name, make in makers.items():
        console.print(f"loading {name}", highlight=False)
        runs[name] = Outcome(make())
    shapes = set()
    for path in paths:
        height, width = read_image(path).shape[:2]
        counted = (height, width) in shapes
        shapes.add((height, width))
        for run in runs.values():
            begin = time.perf_counter()
            found = run.way(path)
            if counted:
                run.seconds.append(time.perf_counter() - begin)
            run.found.append(found)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("split")
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--way", action="append", help="of the ways; all where none is named")
    parser.add_argument("--rival", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset = VocDataset(given.voc, given.split)
    chosen = np.linspace(0, len(dataset) - 1, min(given.photos, len(dataset))).round().astype(int)
    ids = [dataset.image_ids[row] for row in chosen]
    default = "ranked:selective-search+multibox"
    makers: dict[str, Callable[[], Way]] = {
        "crops, default": ours("crops", default, given.dtype),
        "crops, multibox": ours("crops", "multibox", given.dtype),
        "shared, default": ours("shared", default, given.dtype),
        "shared, multibox": ours("shared", "multibox", given.dtype),
        "plain": plain,
    }
    if given.rival:
        makers["rival"] = lambda: rival(given.rival, dataset.classes)
    if given.way:
        makers = {name: make for name, make in makers.items() if name in given.way}
    console = Console()
    runs = measure(makers, [dataset.image_path(name) for name in ids], console)
    rows = {name: _row(run, dataset, ids) for name, run in runs.items()}
    console.print(f"{platform.processor() or platform.machine()}, {given.threads} threads, dtype {given.dtype}, "
                  f"{len(ids)} photos of {given.split}", highlight=False)  # fmt: skip
    table = Table("way", "median s", "middle half", "mAP voc07", "AP coco", "times the slowest")
    slowest = max(row["median"] for row in rows.values())
    for name, row in rows.items():
        half = f"{row['lower']:.3f}-{row['upper']:.3f}"
        figures = f"{100 * row['mAP']:.1f}", f"{100 * row['AP']:.1f}", f"{slowest / row['median']:.1f}"
        table.add_row(name, f"{row['median']:.3f}", half, *figures)
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")
    if given.plot:
        _plot(rows, given.plot)


def _row(run: Outcome, dataset: VocDataset, ids: Sequence[str]) -> dict[str, float]:
    lower, median, upper = np.percentile(run.seconds, (25, 50, 75)).tolist()
    truths = [dataset.ground_truth(name) for name in ids]
    figures = {
        name: score(protocol, truths, run.found, dataset.classes).headline[1]
        for name, protocol in (("mAP", "voc07"), ("AP", "coco"))
    }
    return {"lower": lower, "median": median, "upper": upper, "photos": len(run.seconds), **figures}


def _plot(rows: Mapping[str, Mapping[str, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, row in rows.items():
        axes.plot(row["median"], 100 * row["mAP"], "o")
        axes.annotate(name, (row["median"], 100 * row["mAP"]), xytext=(6, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="seconds per photo", ylabel="mAP (voc07)")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
