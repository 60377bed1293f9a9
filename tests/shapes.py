"""Drawn photos to train on in seconds: a red disc and a blue square on grey; and weights to start from."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import torch

from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.preprocessing import CAFFE
from proposals.baselines import Grid, Random

SIDE = 96
FEW_BOXES = {  # by name, as `proposals.generators.MAKERS`: some 40 per photo instead of more than a thousand
    "random": partial(Random, count=40),
    "grid": partial(Grid, areas=(0.12,), aspects=(1,), step=0.5),
}


def draw_photo(number: int) -> tuple[PIL.Image.Image, list[tuple[str, list[int]]]]:
    """A grey photo with a red disc and a blue square."""
    rng = np.random.default_rng(number)
    picture = PIL.Image.fromarray(rng.integers(90, 130, (SIDE, SIDE, 3), np.uint8))
    pen, objects = PIL.ImageDraw.Draw(picture), []
    for name, column in (("disc", 0), ("square", 48)) if number % 2 else (("square", 0), ("disc", 48)):
        side = int(rng.integers(26, 40))
        x, y = column + int(rng.integers(0, 48 - side)), int(rng.integers(0, SIDE - side))
        corners = [x, y, x + side - 1, y + side - 1]
        if name == "disc":
            pen.ellipse(corners, fill=(220, 30, 30))
        else:
            pen.rectangle(corners, fill=(30, 30, 220))
        objects.append((name, corners))
    return picture, objects


def write_voc(root: Path, split: str, numbers: range, named: range | None = None) -> None:
    """Write drawn photos; `named` has the numbers in their file names, where these are others."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for drawn, number in zip(numbers, named or numbers, strict=True):
        picture, objects = draw_photo(drawn)
        picture.save(root / "JPEGImages" / f"{number:03}.png")
        items = "".join(_as_xml(name, corners) for name, corners in objects)
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
        (root / "Annotations" / f"{number:03}.xml").write_text(f"<annotation>{size}{items}</annotation>")
    names = "".join(f"{number:03}\n" for number in named or numbers)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names)


def _as_xml(name: str, corners: list[int]) -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{tag}>{value + 1}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


def write_coco(file: Path, photos: range) -> None:
    """Write the annotations of photos that `write_voc` drew; the first object is a crowd."""
    images, annotations = [], []
    for number in photos:
        images.append({"id": number + 1, "file_name": f"{number:03}.png", "width": SIDE, "height": SIDE})
        for name, (x1, y1, x2, y2) in draw_photo(number)[1]:
            box = [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
            entry = {"image_id": number + 1, "category_id": 7 if name == "disc" else 90, "bbox": box, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "area": box[2] * box[3], **entry})
    annotations[0]["iscrowd"] = 1
    categories = [{"id": 7, "name": "disc"}, {"id": 90, "name": "square"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def random_start(size: int, context: int) -> Checkpoint:
    """Random weights of an image classifier: enough to tell red from blue."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = GoogLeNet(5).state_dict()
    return Checkpoint(state, tuple("abcde"), replace(CAFFE, size=size, context=context))


def write_cats(root: Path) -> Path:
    """Write three photos in VOC layout, list `val`, with a bright object each, which the whole photo does not fit."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (x, y) in enumerate([(10, 10), (40, 20), (60, 30)]):
        pixels = np.random.default_rng(number).integers(0, 40, (90, 120, 3)).astype(np.uint8)
        pixels[y : y + 40, x : x + 50] += np.uint8(180)
        PIL.Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.jpg", quality=95)
        box = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 50}</xmax><ymax>{y + 40}</ymax>"
        size = "<size><width>120</width><height>90</height><depth>3</depth></size>"
        thing = f"<object><name>cat</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        (root / "Annotations" / f"{number}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    (root / "ImageSets/Main/val.txt").write_text("0\n1\n2\n")
    return root
