"""The parts of benchmarks/gpu.py: each yields rows as it goes, which are on disk at once."""

import csv
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from classifier.graphs import record
from classifier.placement import DType, place
from classifier.regions import GoogLeNetRegions, Probabilities
from detect.classifiers import load_regions
from detect.networks.shared import from_checkpoint
from detect.networks.shared_features import SharedFeatures, SharedRegions
from proposals.generators import build
from structures.boxes import iou
from structures.images import read_image
from structures.records import Image

Row = dict[str, Any]
SIDE, CANVAS = 224, (384, 512)
STEADY_SECONDS, MOST_COPIES = 6, 6000  # of a run whose pace counts, and photos in it
FORMS = ("eager", "graph", "compiled")  # the one that may take minutes last
MOST_OFF, LEAST_FOUND = 1e-3, 0.98  # of probabilities; of the best boxes: orders of sums may differ, nothing else
LITTLE_ROOM = 2 * 2**30  # bytes of a GPU, which do not hold the crops and maps of a batch of 1,024
WRONG = "why"  # entry of a row that says what went wrong
STOPPED = 143  # exit code of a command after SIGTERM
LEARNING_SECONDS = 25  # of a resumed training; what it has learned by then says how fast it is


@dataclass(frozen=True)
class Setting:
    """What a part runs on."""

    out: Path
    device: torch.device
    quick: bool
    photos: Path  # a folder in VOC layout

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    @property
    def precisions(self) -> tuple[DType, ...]:
        """Those that are compared."""
        return ("float32", "bfloat16", "float16") if self.gpu else ("float32", "bfloat16")

    def images(self, count: int) -> list[Image]:
        """Return some of the photos."""
        files = sorted((self.photos / "JPEGImages").glob("*.jpg"))
        return [read_image(file) for file in files[: 2 if self.quick else count]]


def run(name: str, out: Path, device: str, *, quick: bool, voc: Path | None) -> None:
    """Run one part, and write its rows to OUT/NAME.jsonl as they come."""
    data = os.environ.get("RCNN_DATA")
    source = voc or (Path(data, "voc2007") if data else None)
    photos = prepare_photos(out / "photos", source, count=8 if quick else 300)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    setting = Setting(out, torch.device(device), quick, photos)
    if setting.gpu:
        torch.cuda.set_device(setting.device)  # streams and graphs are of the current one
    with (out / f"{name}.jsonl").open("a", buffering=1) as file:
        for row in PARTS[name](setting):
            file.write(json.dumps({"part": name, **row}, default=str) + "\n")


def prepare_photos(folder: Path, source: Path | None, *, count: int) -> Path:
    """Make a folder in VOC layout of the first photos of another, or of drawn ones, unless it is there."""
    listed = folder / "ImageSets/Main/train.txt"
    if listed.exists():
        return folder
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}" for number in range(count)]
    if source is not None and (source / "ImageSets/Main/train.txt").exists():
        names = (source / "ImageSets/Main/train.txt").read_text().split()[:count]
        for name in names:
            shutil.copy(source / f"JPEGImages/{name}.jpg", folder / "JPEGImages")
            shutil.copy(source / f"Annotations/{name}.xml", folder / "Annotations")
    else:
        for number, name in enumerate(names):
            _draw(folder, name, number)
    listed.write_text("\n".join(names) + "\n")
    return folder


def _draw(folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = ((375, 500), (500, 375), (333, 500))[seed % 3]
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    objects = ""
    for label in ("cat", "dog", "person"):
        x, y = int(rng.integers(0, width - 100)), int(rng.integers(0, height - 100))
        w, h = rng.integers(40, 100, 2).tolist()
        cv2.ellipse(image, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, rng.integers(0, 256, 3).tolist(), -1)
        objects += f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}"
        objects += f"</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
    cv2.imwrite(str(folder / f"JPEGImages/{name}.jpg"), image)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    (folder / f"Annotations/{name}.xml").write_text(
        f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
    )


def versions(setting: Setting) -> Iterator[Row]:
    """What is installed, and that the code imports."""
    from detect.runs.machine import processor, versions
    from structures.cores import cores

    yield {"what": "versions", **versions(), "processor": processor(), "cores": cores()}
    if setting.gpu:
        about = torch.cuda.get_device_properties(setting.device)
        memory = f"{about.total_memory / 2**30:.0f} GiB"
        yield {"what": "gpu", "name": about.name, "memory": memory, "cuda": torch.version.cuda}


def parity(setting: Setting) -> Iterator[Row]:
    """Boxes, scores and proposals on the device against float32 on the CPU; at first without TF32, which rounds."""
    torch.backends.cudnn.allow_tf32 = False
    images = setting.images(12)[: 1 if setting.quick else 12]
    boxes = [build("grid")(image).boxes[: 4 if setting.quick else 32] for image in images]
    weights = {"crops": load_regions("default"), "shared": load_regions("shared")}

    def answers(device: str, dtype: DType) -> tuple[dict[str, np.ndarray], list[Any]]:
        placement = place(device=device, engine="torch", dtype=dtype)
        features = SharedFeatures(weights["shared"], placement)
        classify = {"crops": GoogLeNetRegions(weights["crops"], placement), "shared": SharedRegions(features)}
        rows = {
            name: np.concatenate(each.finish([each.begin(image) for image in images], boxes))  # type: ignore[attr-defined]
            for name, each in classify.items()
        }
        propose = features.multibox()
        return rows, propose.finish([propose.begin(image) for image in images])

    expected, first = answers("cpu", "float32")
    for dtype, tf32 in [("float32", False), *((dtype, True) for dtype in setting.precisions)]:
        torch.backends.cudnn.allow_tf32 = tf32
        how = "float32 without TF32" if not tf32 else dtype
        rows, found = answers(str(setting.device), cast(DType, dtype))
        for name, each in rows.items():
            off = np.abs(each - expected[name])
            right = {} if tf32 else _judged(bool(off.max() <= MOST_OFF))
            yield {"what": f"{name} {how}", **right, "largest difference": float(off.max()), "mean": float(off.mean())}
        same = [iou(a.boxes[:50], b.boxes).max(axis=1) >= 0.9 for a, b in zip(first, found, strict=True)]
        fits = [abs(float(a.scores[0] - b.scores[0])) for a, b in zip(first, found, strict=True)]
        share = float(np.concatenate(same).mean())
        right = {} if tf32 else _judged(share >= LEAST_FOUND and max(fits) <= MOST_OFF)
        yield {"what": f"multibox {how}", **right, "best 50 boxes found again": share, "best score off": max(fits)}


def _judged(right: bool) -> Row:
    """Return what makes a row a failure, unless all is as it must be."""
    return {} if right else {WRONG: "not as on the CPU"}


def crops(setting: Setting) -> Iterator[Row]:
    """The network of the crops alone, on N crops."""
    sizes = (1, 2) if setting.quick else (32, 94, 256, 1024)
    yield from _network(setting, lambda: Probabilities(load_regions("default").network()), (SIDE, SIDE), sizes, "crops")


def canvases(setting: Setting) -> Iterator[Row]:
    """The network of shared features alone, on N canvases, and what it costs to bring these to the device."""
    sizes = (1,) if setting.quick else (1, 8, 32)
    yield from _sending(setting, sizes[-1])
    yield from _network(setting, lambda: from_checkpoint(load_regions("shared")), CANVAS, sizes, "photos")


def _sending(setting: Setting, count: int) -> Iterator[Row]:
    """Bring bytes of canvases to the device, from pinned memory and from any."""
    pixels = torch.randint(0, 256, (count, *CANVAS, 3), dtype=torch.uint8)
    kinds = {"any": pixels, "pinned": pixels.pin_memory()} if setting.gpu else {"any": pixels}
    for kind, there in kinds.items():
        speed = _per_second(partial(there.to, setting.device, non_blocking=True), count, setting)
        yield {"what": f"copy from {kind} memory, {count} photos", **speed, "unit": "photos/s"}


def _network(
    setting: Setting, make: Callable[[], nn.Module], size: tuple[int, int], counts: tuple[int, ...], unit: str
) -> Iterator[Row]:
    for form in FORMS if setting.gpu else FORMS[:1]:
        for dtype in setting.precisions[1:] if form != "eager" else setting.precisions:
            kind = getattr(torch, dtype)
            network = make().eval().to(setting.device, kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for count in counts if form == "eager" else counts[-1:]:
                what = f"{form} {dtype}, {count} {unit}"
                batch = torch.rand(count, 3, *size, device=setting.device, dtype=kind) * 255
                try:
                    yield {
                        "what": what,
                        **_per_second(_form(form, network, batch), count, setting),
                        "unit": f"{unit}/s",
                    }
                except Exception as error:  # the others go on
                    yield {"what": what, WRONG: f"{type(error).__name__}: {str(error)[:200]}"}


def _form(form: str, network: nn.Module, batch: Tensor) -> Callable[[], Any]:
    batch = batch.contiguous(memory_format=torch.channels_last)
    if form == "eager":
        return lambda: network(batch)
    if form == "compiled":
        compiled = torch.compile(network, dynamic=False)
        return lambda: compiled(batch)
    with torch.no_grad():
        recording = record(network, batch)
    return lambda: recording.replay()  # and keep what it reads and writes


@torch.inference_mode()
def _per_second(work: Callable[[], Any], count: int, setting: Setting, *, repeats: int = 5) -> Row:
    """Return how many are done per second, by clocks that wait for the GPU; the first run, which warms up, apart."""
    times = []
    for _ in range(2 if setting.quick else repeats + 1):
        _settle(setting)
        begin = time.perf_counter()
        work()
        _settle(setting)
        times.append(time.perf_counter() - begin)
    done = sorted(count / each for each in times[1:])
    return {"median": statistics.median(done), "lowest": done[0], "highest": done[-1], "first s": times[0]}


def _settle(setting: Setting) -> None:
    if setting.gpu:
        torch.cuda.synchronize(setting.device)


def memory(setting: Setting) -> Iterator[Row]:
    """Batches are halved where memory ends, and the answers stay; on a CPU it only seems to end."""
    placement = place(device=str(setting.device), engine="torch", dtype="float32")
    classify = GoogLeNetRegions(load_regions("default"), placement, batch_size=2 if setting.quick else 128)
    image = setting.images(1)[0]
    boxes = build("random", count=10 if setting.quick else 1000)(image).boxes
    expected = classify(image, boxes)
    before = classify.engine.batch_size = 8 if setting.quick else 1024
    if setting.gpu:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(setting.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, LITTLE_ROOM / total), setting.device)
    else:
        _end_memory_above(3, classify.engine)
    off, after = float(np.abs(classify(image, boxes) - expected).max()), classify.engine.batch_size
    yield {
        "what": f"{LITTLE_ROOM / 2**30:.0f} GiB" if setting.gpu else "for 3 crops",
        **_judged(after < before and off <= MOST_OFF),
        "batch": after,
        "regions": len(boxes),
        "largest difference": off,
    }


def _end_memory_above(most: int, engine: Any) -> None:
    """Have an engine of torch run out of memory with more inputs than this."""
    run = engine._module

    def limited(batch: Tensor) -> Tensor:
        if len(batch) > most:
            raise torch.cuda.OutOfMemoryError(f"{len(batch)} inputs")
        answer: Tensor = run(batch)
        return answer

    engine._module = limited


def detect(setting: Setting) -> Iterator[Row]:
    """`rcnn detect` from files to results, and then where the time goes."""
    files = sorted((setting.photos / "JPEGImages").glob("*.jpg"))
    for features, proposals, engine in _modes(setting):
        some = files[: 2 if setting.quick else len(files) if features == "shared" else len(files) // 3]
        row = _detected(setting, some, features, proposals, engine, profile=False)
        yield row
        count = int(STEADY_SECONDS * (row.get("photos_per_second") or 0))
        if setting.gpu and count > 2 * len(some):  # a second or less says little
            copies = _copies(setting.out / "copies", files, min(count, MOST_COPIES))
            yield _detected(setting, copies, features, proposals, engine, profile=False)
        yield _detected(setting, some, features, proposals, engine, profile=True)


def _modes(setting: Setting) -> list[tuple[str, str, str]]:
    """Return the features, proposals and engines that detection is timed with, what matters most first."""
    both = "ranked:selective-search+multibox"
    modes = [("shared", "multibox", "torch"), ("crops", "multibox", "torch")]
    if not setting.quick:
        modes[1:1] = [("shared", both, "torch"), ("both", both, "torch")]
        modes += [("crops", both, "torch")]
    if setting.gpu:
        modes.insert(1, ("shared", "multibox", "graph"))
    return modes


def _detected(
    setting: Setting, files: Sequence[Path], features: str, proposals: str, engine: str, *, profile: bool
) -> Row:
    out, listed = setting.out / f"detect-{features}", setting.out / "few.txt"
    listed.write_text("\n".join(map(str, files)))
    words = ["detect", "--list", listed, "--out", out, "--overwrite", "--features", features, "--engine", engine]
    words += ["--proposals", proposals, "--device", setting.device, *(["--profile"] if profile else [])]
    with _Busy(setting.gpu) as busy:
        code = _rcnn(words).wait()
    what = f"{features}, {proposals}, {engine}, {len(files)} photos{', with clocks that wait' if profile else ''}"
    return {"what": what, **_ended(code), **_figures(out / "run.json"), "GPU busy %": busy.share}


def _ended(code: int) -> Row:
    return {"exit code": code} | ({WRONG: f"exit code {code}"} if code else {})


def _copies(folder: Path, files: Sequence[Path], count: int) -> list[Path]:
    """Make links to photos under further names, so that a quick detector has work for some seconds."""
    folder.mkdir(exist_ok=True)
    names = [folder / f"{number // len(files):04d}-{files[number % len(files)].name}" for number in range(count)]
    for number, name in enumerate(names):
        if not name.exists():
            os.link(files[number % len(files)], name)
    return names


def _figures(run_file: Path) -> Row:
    """Return what a run noted about itself: nothing where it failed before it could."""
    if not run_file.exists():
        return {WRONG: "no run.json"}
    done = json.loads(run_file.read_text())["runs"][-1]
    figures = {name: done.get(name) for name in ("photos_per_second", "seconds", "peak_memory", "done")}
    parts = {name: round(part["seconds per photo"], 5) for name, part in done.get("profile", {}).items()}
    return {**figures, **parts, **{f"start: {name}": spent for name, spent in done.get("start", {}).items()}}


class _Busy:
    """Asks nvidia-smi how busy the GPU is meanwhile."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and shutil.which("nvidia-smi") is not None
        self.share: float | None = None

    def __enter__(self) -> "_Busy":
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "250"]
        self._asking = subprocess.Popen(query, stdout=subprocess.PIPE, text=True) if self._wanted else None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._asking is not None:
            self._asking.terminate()
            figures = [float(line) for line in self._asking.communicate()[0].split() if line.isdigit()]
            busy = [figure for figure in figures if figure > 0]
            self.share = round(statistics.mean(busy), 1) if busy else None


def _rcnn(words: list[Any]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "detect", *map(str, words)])


def train(setting: Setting) -> Iterator[Row]:
    """200 steps of each training, stopped once on the way and resumed."""
    steps, batch, photos = (4, 4, 8) if setting.quick else (200, 16, 300)
    epochs = max(1, -(-steps * batch // photos))
    common = ["--voc", setting.photos, "--device", setting.device, "--save-every", max(1, steps // 4)]
    by_epochs = ["--epochs", epochs, "--batch", batch]
    kinds = {
        "multibox": ["multibox", "--weights", "multibox", *by_epochs],
        "shared": ["regions", "--features", "shared", "--proposals", "grid", *by_epochs],
        "regions": ["regions", "--weights", "default", "--steps", steps, "--proposals", "grid"],
    }
    kinds["regions"] += ["--batch", 4 if setting.quick else 64, "--freeze", "inception5a" if setting.quick else "none"]
    for name, words in kinds.items():
        work = setting.out / f"train-{name}"
        whole = ["train", *words, *common, "--out", work / "trained.safetensors", "--work", work / "work"]
        begin = time.perf_counter()
        stopped = _stop_on_the_way(whole, work / "work")
        code = _wait_or_stop(_rcnn(whole))
        curves = next((work / "work").rglob("curves.csv"), None)
        yield {
            "what": name,
            **_ended(code if code != STOPPED else 0),
            "time was left": code != STOPPED,
            "stopped on the way": stopped,
            "seconds": round(time.perf_counter() - begin, 1),
            **(_pace(curves) if curves else {}),
        }


def _stop_on_the_way(words: list[Any], work: Path) -> bool:
    """Begin a training and stop it once it has a state on disk; say whether there was time for that."""
    process = _rcnn(words)
    while process.poll() is None and not list(work.rglob("state*")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    return process.wait() != 0


def _wait_or_stop(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a training; stop it when it has had its time. Return its exit code."""
    try:
        return process.wait(LEARNING_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.wait()


def _pace(curves: Path) -> Row:
    rows = list(csv.DictReader(curves.read_text().splitlines()))
    spent = [float(row["seconds"]) for row in rows]
    gaps = [b - a for a, b in itertools.pairwise(spent) if b > a]
    return {"steps": len(rows), "steps/s": 1 / statistics.median(gaps) if gaps else None}


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "versions": versions,
    "parity": parity,
    "crops": crops,
    "canvases": canvases,
    "memory": memory,
    "detect": detect,
    "train": train,
}
