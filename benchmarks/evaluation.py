"""How long scoring takes, and how much memory, with the same files for pycocotools and other evaluators in one run.

Usage: python benchmarks/evaluation.py FOLDER [--photos 5000] [--detections 184000] [--repeats 5] [--only coco ...]

Draws a COCO file and results of that size into FOLDER (seed 0: the same each time), as COCO's list and as JSON lines,
then runs each contender in a process of its own, one after the other: process start to figures, reading the files
included. Each runs once more before that, uncounted, so that its modules are compiled as those of installed packages
are. Printed are the median and the range of the processor's and the clock's seconds, how many times as
many pycocotools takes, the most memory, and AP. Evaluators that are not installed are left out: pip install
pycocotools faster-coco-eval hotcoco.

A million detections, where pycocotools takes minutes: --photos 27000 --detections 1000000 --repeats 1. What it takes to
convert them: --only convert-lines convert-coco.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

CLASSES, OBJECTS_PER_PHOTO, CROWDS = 80, 7.3, 0.011  # as in COCO's val2017
WIDTH, HEIGHT = 640, 480
THEIRS = """
import sys
from {module} import COCO, {evaluator} as Evaluator
truth = COCO(sys.argv[1])
judge = Evaluator(truth, truth.loadRes(sys.argv[2]), "bbox")
judge.evaluate(); judge.accumulate(); judge.summarize()
print("AP", 100 * judge.stats[0])
"""
OTHERS = {  # package: how its evaluator is run
    "pycocotools": THEIRS.replace(
        "from {module} import COCO, {evaluator} as Evaluator",
        "from pycocotools.coco import COCO\nfrom pycocotools.cocoeval import COCOeval as Evaluator",
    ),
    "faster_coco_eval": THEIRS.format(module="faster_coco_eval", evaluator="COCOeval_faster"),
    "hotcoco": THEIRS.format(module="hotcoco", evaluator="COCOeval"),
}
LINES = "-lines"  # behind the protocol: read from JSON lines
CONVERSIONS = {"convert-lines": "detections.jsonl", "convert-coco": "results.json"}  # name: what becomes a CSV table
OURS = ("coco", "voc07", "voc", "ilsvrc", f"coco{LINES}", f"voc07{LINES}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=184_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *OTHERS, *CONVERSIONS], default=[*OURS, *OTHERS])
    parser.add_argument("--draw-only", action="store_true", help="write the files and stop")
    given = parser.parse_args()
    truth, results = given.folder / "instances.json", given.folder / "results.json"
    if given.draw_only:
        draw_files(truth, results, given.photos, given.detections)
        return
    subprocess.run([sys.executable, *sys.argv, "--draw-only"], check=True)  # else a child's memory began with ours
    print(f"{given.photos} photos, {given.detections} detections")
    print("| evaluator | AP or mAP | processor, s | times as fast as pycocotools | clock, s | memory, MB |")
    print("|---|---|---|---|---|---|")
    commands = {name: ours(name, truth, results) for name in OURS if name in given.only}
    commands |= {name: conversion(name, given.folder) for name in CONVERSIONS if name in given.only}
    for name in OTHERS:
        if name in given.only and importlib.util.find_spec(name):
            commands[name] = [sys.executable, "-c", OTHERS[name], str(truth), str(results)]
    runs: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in commands}
    for command in commands.values():
        measure(command, given.folder)
    for _ in range(given.repeats):  # in turn, so that what else the machine does hits all alike
        for name, command in commands.items():
            runs[name].append(measure(command, given.folder))
    theirs = statistics.median(each[0] for each in runs["pycocotools"]) if "pycocotools" in runs else 0.0
    for name, each in runs.items():
        processor, clock, memory, said = zip(*each, strict=True)
        times = f"{theirs / statistics.median(processor):.1f}" if theirs else ""
        print(f"| {label(name)} | {said[0]} | {spread(processor)} | {times} | {spread(clock)} | {max(memory):.0f} |")


def label(name: str) -> str:
    if name in CONVERSIONS:
        return f"rcnn convert {CONVERSIONS[name]} --to csv"
    if name not in OURS:
        return name
    form = "detections.jsonl" if name.endswith(LINES) else "results.json"
    return f"rcnn eval detections {form} --protocol {name.removesuffix(LINES)}"


def ours(name: str, truth: Path, results: Path) -> list[str]:
    options = ["--ground-truth", str(truth), "--protocol", name.removesuffix(LINES), "--no-mistakes"]
    file = lines_file(results) if name.endswith(LINES) else results
    return [sys.executable, "-m", "detect", "eval", "detections", str(file), *options]


def conversion(name: str, folder: Path) -> list[str]:
    options = ["--to", "csv", "--ground-truth", str(folder / "instances.json"), "--out", str(folder / name)]
    return [sys.executable, "-m", "detect", "convert", str(folder / CONVERSIONS[name]), *options]


def measure(command: list[str], folder: Path) -> tuple[float, float, float, str]:
    """Return processor and clock seconds, megabytes, and the figure, of one process; modules compile into a folder."""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str((folder / "compiled").resolve())}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **compiled}
    )
    assert process.stdout
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime, clock, used.ru_maxrss / 1024, figure_of(said.strip().splitlines()[-1].split())


def figure_of(last: list[str]) -> str:
    """Return AP or mAP from the words of a last line; nothing from that of a conversion."""
    if last[0] not in ("AP", "mAP"):
        return ""
    return f"{float(last[2 if last[1].startswith('(') else 1]):.2f}"


def spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def draw_files(truth: Path, results: Path, photos: int, detections: int) -> None:
    """Write photos with a few kinds of objects each, and results half near the objects and half anywhere."""
    random = np.random.default_rng(0)
    ids = np.sort(random.choice(100 * photos, photos, replace=False))
    weights = 1 / np.arange(1, CLASSES + 1) ** 0.9  # some classes are frequent, most are rare
    kinds = random.choice(CLASSES, (photos, 3), p=weights / weights.sum())
    image = np.repeat(np.arange(photos), random.poisson(OBJECTS_PER_PHOTO, photos))
    label = kinds[image, random.integers(0, 3, len(image))]
    boxes = draw_boxes(random, len(image))
    area = boxes[:, 2:].prod(axis=1) * random.uniform(0.4, 1, len(image))  # of masks
    crowd = random.random(len(image)) < CROWDS
    near = random.integers(0, len(image), detections // 2)
    shift = random.normal(0, 0.1, (len(near), 4)) * np.tile(boxes[near, 2:], 2)
    moved = np.maximum(boxes[near] + shift, 1)
    confused = random.integers(0, CLASSES, len(near))
    close = np.where(random.random(len(near)) < 0.8, label[near], confused)
    stray = random.integers(0, photos, detections - len(near))
    found_image = np.concatenate([image[near], stray])
    found_label = np.concatenate([close, random.integers(0, CLASSES, len(stray))])
    found_boxes = np.concatenate([moved, draw_boxes(random, len(stray))])
    scores = np.concatenate([random.beta(2, 2, len(near)), random.beta(1, 6, len(stray))])
    order = np.argsort(found_image, kind="stable")
    truth.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 2 * n + 1, "name": f"class {n}"} for n in range(CLASSES)]
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": WIDTH, "height": HEIGHT} for n in ids.tolist()]
    place = {"image_id": ids[image], "category_id": 2 * label + 1, "bbox": boxes.round(2)}
    objects = rows_of(
        {"id": np.arange(1, len(image) + 1), **place, "area": area.round(2), "iscrowd": crowd.astype(int)}
    )
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": objects}))
    place = {"image_id": ids[found_image], "category_id": 2 * found_label + 1, "bbox": found_boxes.round(2)}
    found = {name: column[order] for name, column in {**place, "score": scores.round(5)}.items()}
    results.write_text(json.dumps(rows_of(found)))
    names = dict(zip(ids.tolist(), (image["file_name"] for image in images), strict=True))
    write_lines(lines_file(results), names, found)


def lines_file(results: Path) -> Path:
    return results.with_name("detections.jsonl")


def write_lines(path: Path, names: dict[int, str], found: dict[str, np.ndarray]) -> None:
    """Write the same results as `rcnn detect` does, a line per photo; they are sorted by photo."""
    corners = np.concatenate([found["bbox"][:, :2], found["bbox"][:, :2] + found["bbox"][:, 2:]], axis=1).round(2)
    bounds = np.searchsorted(found["image_id"], [*names, max(names) + 1])
    with path.open("w") as file:
        for name, (first, last) in zip(names.values(), pairwise(bounds), strict=True):
            labels = [f"class {number // 2}" for number in found["category_id"][first:last]]
            line = {"image": name, "width": WIDTH, "height": HEIGHT, "boxes": corners[first:last].tolist()}
            scores = found["score"][first:last].tolist()
            line |= {"labels": labels, "scores": scores, "sources": ["multibox"] * len(labels), "file_key": "0" * 32}
            file.write(json.dumps(line) + "\n")


def rows_of(columns: dict[str, np.ndarray]) -> list[dict[str, object]]:
    names, values = columns.keys(), zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def draw_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Return x, y, width, height inside the photo, from 8 pixels wide on, small ones as frequent as large ones."""
    width = np.exp(random.uniform(np.log(8), np.log(350), count))
    height = np.clip(width * np.exp(random.normal(0, 0.4, count)), 8, HEIGHT)
    corner = random.random((count, 2)) * np.stack([WIDTH - width, HEIGHT - height], axis=1)
    return np.concatenate([corner, np.stack([width, height], axis=1)], axis=1)


if __name__ == "__main__":
    main()
