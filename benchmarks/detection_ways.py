"""Ways to find objects on a photo, file to boxes: the detector's modes, a pipeline as a user would write it, a rival.

Each runs in a process of its own, so that its memory is its own; the benchmark asks them in turn.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from structures.boxes import as_boxes, clip
from structures.extras import import_openvino
from structures.images import read_image
from structures.nms import suppress_per_class
from structures.records import Detections

Way = Callable[[Path], Detections]
DEFAULT = "ranked:selective-search+multibox"
MODES = {  # name -> features, proposals, precision (None: the one of the run)
    "both, default": ("both", DEFAULT, None),
    "both, multibox": ("both", "multibox", None),
    "crops, default": ("crops", DEFAULT, None),
    "crops, multibox": ("crops", "multibox", None),
    "crops, selective-search": ("crops", "selective-search", None),
    "shared, default": ("shared", DEFAULT, None),
    "shared, multibox": ("shared", "multibox", None),
    "shared int8, default": ("shared", DEFAULT, "int8"),
    "shared int8, multibox": ("shared", "multibox", "int8"),
}
SLOW = ("plain", "crops, selective-search")  # judged on few photos only
SCORE_FLOOR = 0.001
MOST_REGIONS = 200  # of generators without an order of their own
RIVAL_SIDE, RIVAL_NMS = 416, 0.45  # YOLOX's exported models and their demo
RIVAL_COLUMNS = {  # of VOC's classes among COCO's 80
    "aeroplane": 4, "bicycle": 1, "bird": 14, "boat": 8, "bottle": 39, "bus": 5, "car": 2, "cat": 15, "chair": 56,
    "cow": 19, "diningtable": 60, "dog": 16, "horse": 17, "motorbike": 3, "person": 0, "pottedplant": 58,
    "sheep": 18, "sofa": 57, "train": 6, "tvmonitor": 62,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What all ways have in common."""

    dtype: str
    threads: int
    rival: Path | None
    classes: tuple[str, ...]


class Answer(NamedTuple):
    """What came of one photo."""

    found: Detections
    seconds: float
    peak_bytes: int  # of the process so far


def ways(rival: Path | None) -> list[str]:
    """Return the names of all ways."""
    return [*MODES, "plain", *(["rival"] if rival else [])]


def serve(name: str, setting: Setting, asked: Connection) -> None:
    """Make a way, and answer for the photos whose paths come; a None ends it. In a process of its own."""
    import torch

    torch.set_num_threads(setting.threads)
    way = make(name, setting)
    asked.send("ready")
    while (path := asked.recv()) is not None:
        begin = time.perf_counter()
        found = way(path)
        seconds = time.perf_counter() - begin
        unit = 1 if sys.platform == "darwin" else 1024
        asked.send(Answer(found, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))


def make(name: str, setting: Setting) -> Way:
    """Return a way by its name."""
    if name == "plain":
        return plain()
    if name == "rival":
        assert setting.rival is not None
        return rival(setting.rival, setting.classes)
    detector = load(name, setting.dtype)
    return lambda path: detector(read_image(path))


def load(name: str, dtype: str, **options: Any) -> Any:
    """Return the detector of a mode."""
    from detect.detector import Detector

    features, proposals, own = MODES[name]
    most = {"max_boxes": MOST_REGIONS} if proposals == "selective-search" else {}
    return Detector.load(
        proposals=proposals, features=features, dtype=own or dtype, score_floor=SCORE_FLOOR, **{**most, **options}
    )  # type: ignore[arg-type]


def plain(boxes: int = MOST_REGIONS, batch: int = 32) -> Way:
    """Do what a user would write: the first of OpenCV's proposals, each cropped by Pillow, torch in float32."""
    import PIL.Image
    import torch

    from classifier.regions import Probabilities
    from detect.classifiers import load_regions
    from proposals.generators import build

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
    import cv2

    model = import_openvino().Core().compile_model(str(model_file), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
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
