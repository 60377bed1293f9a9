"""Which commands `benchmarks/faults.py` harms, on photos and networks so small that each takes seconds."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from tests.networks import make_shared, quarter_canvases
from tests.shapes import random_start, write_voc

PHOTOS = 12
FEW = 4  # photos of the trainings that take longest
SHARD_PHOTOS = 3  # of a proposal store, so that there are several shards
SKIPPING = frozenset({"detect", "propose"})  # commands that are given a photo that cannot be read
LOCKED = frozenset({"detect", "propose", "train", "convert"})  # those that keep a second one away from their folder
RECORD = "written.jsonl"
RUNS_RECORDS = frozenset({"run.json"})  # says when and by which commands; hidden files are locks and caches


CPU = "--device cpu --dtype float32"
PHOTOS_OF_FEW = "--voc {root}/voc --split few"
ON_FEW = PHOTOS_OF_FEW + " --weights {root}/start.safetensors --freeze inception5a --save-every 2"
COMMANDS = {  # by name, where {out} is a folder of its own
    "detect": "detect {root}/some --out {out}/results --weights {root}/regions.safetensors --engine torch --score 0 "
    "--proposals grid --max-boxes 4 --draw --draw-score 0.2 --format coco " + CPU,
    "propose": "propose {root}/some --out {out}/boxes --proposals grid",
    "train classifier": "train classifier --folder {root}/photos --out {out}/net.safetensors --size 32 --device cpu "
    "--epochs 2 --batch 4 --save-every 3 --workers 0 --no-auxiliary",
    "train regions": "train regions --out {out}/net.safetensors --proposals grid --steps 6 --batch 8 "
    + f"{ON_FEW} {CPU}",
    "train multibox": "train multibox --out {out}/net.safetensors --epochs 2 --batch 2 --workers 1 --device cpu "
    + ON_FEW,
    "train shared": "train regions --features shared --out {out}/net.safetensors --weights {root}/multibox.safetensors "
    "--region-weights none --proposals grid --freeze inception4e --epochs 1 --batch 2 --save-every 1 "
    + f"{PHOTOS_OF_FEW} {CPU}",
    "train few": "train regions --preset few --out {out}/net.safetensors --weights {root}/shared.safetensors "
    + f"--proposals grid {PHOTOS_OF_FEW} {CPU}",
    "eval": "eval detections {root}/truth.jsonl --ground-truth {root}/voc --split train --html {out}/report.html "
    "--json {out}/report.json",
    "convert": "convert {root}/voc --to coco --split train --out {out}/coco",
}


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        name: as in the table.
        command: its words, with {out} for an output folder.
        content: returns what it made there, which must not depend on what happened on the way.
        code: its exit code if nothing happens.
        locked: whether two of them at a time are kept apart; else each must succeed.
    """

    name: str
    command: str
    content: Callable[[Path], Mapping[str, bytes]]
    code: int = 0
    locked: bool = True

    def words(self, out: Path) -> list[str]:
        """Return the words of the command for an output folder."""
        return self.command.format(out=out).split()


def make_inputs(root: Path) -> None:
    """Draw photos with their annotations, one photo that cannot be read, and random weights to start from."""
    import torch

    from classifier.weights.checkpoint import save_checkpoint
    from classifier.weights.last_layer import for_regions
    from detect.networks.multibox import start_network, to_checkpoint

    write_voc(root / "voc", "few", range(FEW))
    write_voc(root / "voc", "train", range(PHOTOS))
    photos = root / "photos"
    for number in range(PHOTOS):
        folder = photos / ("odd" if number % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        os.link(root / f"voc/JPEGImages/{number:03}.png", folder / f"{number:03}.png")
    (root / "some").mkdir()
    for path in photos.rglob("*.png"):
        os.link(path, root / "some" / path.name)
    (root / "some/torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    start = random_start(size=64, context=4)
    save_checkpoint(start, root / "start.safetensors")
    save_checkpoint(for_regions(start, ("disc", "square")), root / "regions.safetensors")
    save_checkpoint(make_shared(("cat",)), root / "shared.safetensors")
    network = start_network(start, torch.tensor([[[30.0 * 2**level, 30.0 * 2**level]] for level in range(4)]), width=16)
    save_checkpoint(to_checkpoint(network, start, network.state_dict(), {}), root / "multibox.safetensors")


def cases(root: Path) -> list[Case]:
    """Return the commands that there are, with inputs in a folder."""
    from detect.cli import build

    made = {"detect": files_of("results"), "propose": boxes_of, "eval": files_of("."), "convert": files_of("coco")}
    there = {str(each.name or getattr(each.callback, "__name__", "")) for each in build().registered_commands}
    return [
        Case(
            name,
            command.format(root=root, out="{out}"),
            made.get(name, files_of("net.safetensors")),
            code=int(name in SKIPPING),
            locked=name.split()[0] in LOCKED,
        )
        for name, command in COMMANDS.items()
        if name.split()[0] in {*there, "train", "eval"}
    ]


def files_of(name: str) -> Callable[[Path], Mapping[str, bytes]]:
    """Return a function that reads a file, or those of a folder but for locks, caches and the record of the runs."""

    def read(out: Path) -> Mapping[str, bytes]:
        place = out / name
        paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        kept = [path for path in paths if path.name not in RUNS_RECORDS and not path.name.startswith(".rcnn.")]
        return {path.relative_to(out).as_posix(): _content(path) for path in kept}

    return read


def _content(path: Path) -> bytes:
    """Return the bytes of a file; of the list of what was written, whose order depends on the runs, sorted."""
    content = path.read_bytes()
    return b"".join(sorted(content.splitlines(keepends=True))) if path.name == RECORD else content


def boxes_of(out: Path) -> Mapping[str, bytes]:
    """Return the boxes of each photo in a store: where one shard ends and the next begins depends on the runs."""
    from proposals.stored.reader import ProposalStore

    store = ProposalStore(out / "boxes")
    found = {image_id: store.proposals_of(image_id) for image_id in sorted(store.image_ids)}
    return {image_id: each.boxes.tobytes() + each.scores.tobytes() for image_id, each in found.items()}


def write_truth(root: Path) -> None:
    """Write results to be evaluated: the objects themselves, each a little moved."""
    import json

    from eval.voc import VocDataset

    data = VocDataset(root / "voc", "train")
    with (root / "truth.jsonl").open("w", encoding="utf-8") as file:
        for truth in data:
            height, width = truth.image_size
            labels = [data.classes[label] for label in truth.labels]
            entry = {"image": truth.image_id, "width": width, "height": height, "labels": labels}
            file.write(json.dumps({**entry, "boxes": (truth.boxes + 1).tolist(), "scores": [0.5] * len(truth)}) + "\n")


def start(words: list[str], log: Path, *, largest: int | None = None) -> int:
    """Run a command in a process of its own, which has what is slow to import already; return its number.

    Args:
        words: of the command.
        log: where it writes what it says.
        largest: no file of it can grow beyond this many bytes.
    """
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setpgid(0, 0)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if largest is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        code = _run(words)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(words: list[str]) -> int:
    import proposals.stored.writer
    from detect.cli import main

    sys.modules["openvino"] = None  # type: ignore[assignment]  # as if missing: torch needs no conversion
    os.environ["GIT_DIR"] = os.devnull  # no commit is found: one made meanwhile would be another one in the weights
    proposals.stored.writer.SHARD_PHOTOS = SHARD_PHOTOS
    sys.argv = ["rcnn", *words]
    try:
        with quarter_canvases():
            main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def warm_up() -> None:
    """Import what the commands need, without starting threads, so that it is there after a fork."""
    import matplotlib.pyplot  # noqa: F401
    import torch

    import detect.bench.proposals
    import detect.classifiers
    import detect.evaluation
    import detect.networks.multibox
    import detect.runs.detect
    import detect.runs.propose
    import detect.training.multibox
    import detect.training.regions  # noqa: F401

    torch.set_num_threads(1)
    PIL.Image.init()
