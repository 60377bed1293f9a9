"""Damaged files for every reader: does each end in a result or in one line that names the file, in bounded time?

Called by `python benchmarks/faults.py --fuzz --minutes 10`. Sound files are changed at random: bits, bytes and pieces
are changed, cut out, doubled and moved, numbers and words of texts replaced by odd ones. A reader may return, or raise
InputError or the system's OSError. Any other exception, a crash, or more than SECONDS of the processor is a fault:
its file is kept, and printed with its seed.
"""

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

SECONDS = 10  # of the processor, per file
MEMORY = 2**33  # bytes that a process may map
TOGETHER = 200  # files that one process reads, so that a crash costs no more
ODD_NUMBERS = (b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"-0.0", b"4294967296", b"2.5", b"null", b'"x"', b"[]", b"{}")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: as in the table.
        file: name of the file that is damaged.
        seeds: sound contents.
        read: is given the file's path.
        needs: other sound files that it reads, by name.
    """

    name: str
    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    needs: Mapping[str, bytes] = field(default_factory=dict)


def damage(sound: bytes, rng: random.Random) -> bytes:
    """Return a content with one to four changes."""
    content = bytearray(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(CHANGES)(content, rng)
    return bytes(content)


def _flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set(content: bytearray, rng: random.Random) -> None:
    if content:
        at = rng.randrange(len(content))
        content[at : at + rng.choice((1, 2, 4, 8))] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * rng.choice(
            (1, 4)
        )


def _cut(content: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(content) + 1)
    del content[first : rng.choice((first + 1, first + rng.randrange(64), len(content)))]


def _double(content: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(content) + 1)
    piece = content[first : first + rng.randrange(1, 200)]
    at = rng.randrange(len(content) + 1)
    content[at:at] = piece * rng.choice((1, 1, 2, 50))


def _number(content: bytearray, rng: random.Random) -> None:
    digits = [at for at, byte in enumerate(content[:20_000]) if 48 <= byte < 58]
    if digits:
        at = rng.choice(digits)
        end = next((end for end in range(at, len(content)) if content[end] not in b"0123456789.-+e"), len(content))
        content[at:end] = rng.choice(ODD_NUMBERS)


CHANGES = (_flip, _flip, _set, _cut, _double, _number)


def pictures() -> list[bytes]:
    """Return small pictures in all formats that are read."""
    rng = np.random.default_rng(0)
    colours = PIL.Image.fromarray(rng.integers(0, 256, (24, 31, 3), np.uint8))
    kinds = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})]
    kinds += [
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("JPEG2000", {}),
    ]
    found = []
    for kind, options in [*kinds, ("AVIF", {})]:
        file = io.BytesIO()
        try:
            colours.save(file, kind, **options)
        except (KeyError, OSError):  # not in this Pillow
            continue
        found.append(file.getvalue())
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    colours.save(turned, "JPEG", exif=exif)
    grey = io.BytesIO()
    PIL.Image.fromarray(rng.integers(0, 65536, (9, 8)).astype(np.uint16)).save(grey, "PNG")
    return [*found, turned.getvalue(), grey.getvalue()]


LINE = {"image": "a.jpg", "width": 31, "height": 24, "boxes": [[1, 2, 9.5, 11]], "labels": ["cat"], "scores": [0.5]}
LINES = b"".join(json.dumps({**LINE, "image": f"{name}.jpg", "file_key": "0" * 32}).encode() + b"\n" for name in "abc")
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 31, "height": 24}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog", "supercategory": "animal"}],
    "annotations": [{"id": 3, "image_id": 1, "category_id": 7, "bbox": [1, 2, 8, 9], "area": 72, "iscrowd": 0}],
}
VOC = (
    b"<annotation><size><width>31</width><height>24</height></size><object><name>cat</name><difficult>0</difficult>"
    b"<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>11</ymax></bndbox></object></annotation>"
)
RUN = {"settings": {"classes": ["cat"], "exif": "apply"}, "runs": [{"started": "now", "placement": ["cpu"]}]}


def readers(root: Path) -> list[Reader]:
    """Return all readers, with what they need in a folder."""
    from detect.runs.photos import find_photos
    from detect.runs.record import read_run
    from detect.runs.results import ResultsFolder
    from eval.coco import CocoDataset
    from eval.coco_results import read_coco_results
    from eval.results import read_lines
    from eval.voc import VocDataset
    from proposals.stored.foreign import read_foreign
    from proposals.stored.reader import ProposalStore
    from structures.class_lists import read_class_names
    from structures.file_digests import FileDigests
    from structures.images import read_image, read_size
    from structures.npz import read_arrays
    from structures.own_files import OwnFiles

    def coco_results(path: Path) -> object:
        (path.parent / "instances.json").write_text(json.dumps(COCO))
        return read_coco_results(path, CocoDataset(path.parent / "instances.json"), allow_extra=True)

    def voc(path: Path) -> object:
        return VocDataset(path.parents[1], "val")

    def results(path: Path) -> object:
        (path.parent / "run.json").write_text(json.dumps(RUN))
        with ResultsFolder(path.parent):
            return None

    def own(path: Path) -> object:
        with OwnFiles(path.parent) as files:
            return [files.owns(name) for name in files]

    def store(path: Path) -> object:
        found = ProposalStore(path.parent)
        return [found.proposals_of(name) for name in found.image_ids]

    def voc_list(path: Path) -> object:
        return VocDataset(path.parents[2], "val")

    def digests(path: Path) -> object:
        return list(FileDigests(path.parent).digests([("a", path)]))

    annotations = {f"voc/Annotations/{name}.xml": VOC for name in "ab"}
    images = pictures()
    dumped, shard, manifest = json.dumps(COCO).encode(), *_store(root)
    return [
        Reader("photo", "photo", images, read_image),
        Reader("size of a photo", "size", images, read_size),
        Reader("VOC annotation", "voc/Annotations/a.xml", [VOC], voc, {"voc/ImageSets/Main/val.txt": b"a\n"}),
        Reader("VOC list", "voc/ImageSets/Main/val.txt", [b"a\nb 1\n"], voc_list, annotations),
        Reader("COCO annotations", "instances.json", [dumped], CocoDataset),
        Reader("COCO results", "coco/results.json", [_coco_results()], coco_results),
        Reader("detections.jsonl", "lines/detections.jsonl", [LINES], read_lines),
        Reader("folder of results", "results/detections.jsonl", [LINES], results),
        Reader("run.json", "run/run.json", [json.dumps(RUN).encode()], lambda path: read_run(path.parent)),
        Reader("written.jsonl", "own/written.jsonl", [b'{"file": "a.png", "digest": "00"}\n' * 2], own),
        Reader("digests of files", "digests/.rcnn.files", [_digests(root)], digests),
        Reader("shard of proposals", "store/shard-000000.npz", [shard], store, {"store/manifest.json": manifest}),
        Reader("manifest", "store/manifest.json", [manifest], store, {"store/shard-000000.npz": shard}),
        Reader("boxes of other programs", "boxes.json", [_coco_results()], read_foreign),
        Reader("archive of arrays", "arrays.npz", [shard], read_arrays),
        Reader("list of photos", "list.txt", [b"list.txt\n*.txt\n"], lambda path: find_photos([], lists=[path])),
        Reader("list of classes", "classes.txt", [b"cat\ndog\n"], lambda path: read_class_names([str(path)])),
        *_others(root),
        *_weights(root),
        *_parquet(),
    ]


def _parquet() -> list[Reader]:
    """Return the readers of Parquet, if what reads it is installed: shards of `rcnn scale`, and photos as bytes."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return []
    from detect.scaling.reading import Placed, SourceReader
    from detect.scaling.shards import detections_of, failed_row, read_rows, to_parquet
    from detect.scaling.sources import find_source
    from structures.images import ImageError

    def rows(path: Path) -> object:
        return [detections_of(row, ["cat"]) for row in read_rows(str(path)) if row["error"] is None]

    def photos(path: Path) -> object:
        source, read = find_source(str(path), leave_out="out"), SourceReader(exif="apply", max_pixels=10_000)
        for number in range(len(source)):
            with suppress(ImageError):  # a photo of many, which gets a row with its error
                read(Placed(source[number], *source.place(number)))
        return source

    whole = {**json.loads(LINES.splitlines()[0]), "sources": ["grid"]}
    shard = to_parquet([whole, {**whole, "image": "b.jpg"}, failed_row("c.jpg", "damaged")], "detect")
    stream = io.BytesIO()
    table = pyarrow.table({"path": ["a.png", "b.jpg"], "bytes": [pictures()[2], pictures()[0]]})
    pyarrow.parquet.write_table(table, stream)
    return [
        Reader("shard of results", "photos.parquet", [shard], rows),
        Reader("Parquet with photos", "bytes.parquet", [stream.getvalue()], photos),
    ]


def _others(root: Path) -> list[Reader]:
    """Return the readers of CSV, YOLO's folders, kept regions and pickles."""
    import pickle

    from eval.ground_truth import open_ground_truth
    from eval.regions import read_regions
    from eval.result_formats import read_results
    from proposals.stored.foreign_pickle import read_pickle

    def yolo(path: Path) -> object:
        place = path if path.suffix == ".yaml" else path.parents[2] / "data.yaml"
        return list(open_ground_truth(place, "train"))

    def regions(path: Path) -> object:
        return list(read_regions(path.parent).values())

    table = b"image,width,height,label,score,x1,y1,x2,y2,source\na.jpg,31,24,cat,0.5,1,2,9.5,11,grid\nb,9,8,,,,,,,\n"
    yaml = b"path: .\ntrain: images/train\nnames:\n  0: cat\n  1: 'dog'\n"
    label = b"0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.1 0.1\n"
    photo = {"images/train/a.png": pictures()[2]}
    index, numbers = _regions(root)
    boxes = {"ids": ["a", "b"], "boxes": [np.ones((2, 4), np.float32)] * 2, "objectness_logits": [np.ones(2)] * 2}
    return [
        Reader("CSV results", "results.csv", [table], read_results),
        Reader("data.yaml", "yolo/data.yaml", [yaml], yolo, {f"yolo/{name}": file for name, file in photo.items()}),
        Reader(
            "YOLO labels",
            "yolo/labels/train/a.txt",
            [label],
            yolo,
            {"yolo/data.yaml": yaml, **{f"yolo/{name}": file for name, file in photo.items()}},
        ),
        Reader("index of regions", "kept/regions.jsonl", [index], regions, {"kept/regions.bin": numbers}),
        Reader("kept regions", "kept/regions.bin", [numbers], regions, {"kept/regions.jsonl": index}),
        Reader("pickle of boxes", "boxes.pkl", [pickle.dumps(boxes, n) for n in (2, 4)], read_pickle),
    ]


def _regions(root: Path) -> tuple[bytes, bytes]:
    from detect.runs.kept import RegionFiles
    from eval.lost import Rules
    from eval.region_layout import INDEX_FILE, REGIONS_FILE, Head
    from structures.records import Proposals
    from structures.regions import Regions

    boxes = np.tile(np.array([0, 0, 5, 6], np.float32), (3, 1))
    rules = Rules(score_floor=0.05, nms_threshold=0.3, max_per_class=100, weigh_by_fit=False)
    (root / "regions").mkdir()
    with RegionFiles(root / "regions", Head(("cat",), rules), features=2, done=()) as files:
        for name in "ab":
            rows = np.full((3, 2), 0.5, np.float32)
            files.add(name, Regions(Proposals(boxes, np.ones(3, np.float32), (8, 8)), rows, ("cat",), rows))
    return (root / "regions" / INDEX_FILE).read_bytes(), (root / "regions" / REGIONS_FILE).read_bytes()


def _weights(root: Path) -> list[Reader]:
    """Return the readers of weights, with files that hold a few small arrays: enough for all that is not numbers."""
    import torch

    from classifier.recipes import Schedule
    from classifier.training_state import read_state, write_state
    from classifier.weights.caffemodel import read_caffemodel
    from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
    from classifier.weights.preprocessing import TORCHVISION
    from tests.test_classifier_weights_caffemodel import new_blob, new_layer, old_blob, old_layer

    small = Checkpoint(
        state={"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)},
        classes=("cat", "dog"),
        preprocessing=TORCHVISION,
        task="regions",
    )
    save_checkpoint(small, root / "net.safetensors")
    schedule = Schedule(steps=3, learning_rate=0.1)
    write_state(root / "state.pt", schedule, {"step": 2, "weights": {"fc": torch.zeros(3)}})
    state = (root / "state.pt").read_bytes()
    layers = [
        layer("conv", [blob(np.ones((2, 1, 3, 3), np.float32))])
        for layer, blob in ((new_layer, new_blob), (old_layer, old_blob))
    ]
    return [
        Reader("safetensors", "net.safetensors", [(root / "net.safetensors").read_bytes()], read_checkpoint),
        Reader("caffemodel", "net.caffemodel", layers, read_caffemodel),
        Reader("state of a training", "state.pt", [state], lambda path: read_state(path, schedule)),
    ]


def _store(root: Path) -> tuple[bytes, bytes]:
    from proposals.stored.writer import StoreWriter
    from structures.records import Proposals

    boxes = np.tile(np.array([0, 0, 5, 6], np.float32), (4, 1))
    with StoreWriter(root / "sound", {"generator": "fuzz"}) as writer:
        for name in ("a", "b"):
            writer.add(name, "0" * 32, "1" * 32, Proposals(boxes, np.ones(4, np.float32), (8, 8)))
    return (root / "sound/shard-000000.npz").read_bytes(), (root / "sound/manifest.json").read_bytes()


def _digests(root: Path) -> bytes:
    from structures.file_digests import DIGESTS_FILE, FileDigests, Stamp

    kept = FileDigests(root)
    kept.add("a", Stamp(3, 4), "0" * 32)
    kept.write()
    return (root / DIGESTS_FILE).read_bytes()


def _coco_results() -> bytes:
    entry = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 8, 9], "score": 0.5}
    return json.dumps([entry, {**entry, "image_id": 2}]).encode()


def fuzz(seconds: float, seed: int) -> int:
    """Read damaged files for this many seconds, all readers in turns; return the exit code."""
    from benchmarks.fault_cases import warm_up

    warm_up()
    root, end, counts = Path(tempfile.mkdtemp(prefix="rcnn-fuzz-")), time.monotonic() + seconds, dict[str, list[int]]()
    found, turn, faults = readers(root), 0, 0
    while time.monotonic() < end:
        reader = found[turn % len(found)]
        folder = root / f"{turn}"
        read, refused, fault = _in_child(reader, folder, f"{seed} {turn}", min(end, time.monotonic() + 5))
        numbers = counts.setdefault(reader.name, [0, 0, 0])
        counts[reader.name] = [one + more for one, more in zip(numbers, (read, refused, fault), strict=True)]
        faults, turn = faults + fault, turn + 1
    print("| reader | files | refused with one line | faults |\n|---|---|---|---|")
    for name, (read, refused, fault) in counts.items():
        print(f"| {name} | {read + refused + fault:,} | {refused:,} | {fault} |")
    total = sum(map(sum, counts.values()))
    print(
        f"{total:,} files in {seconds / 60:.0f} minutes, {faults} faults" + (f"; they are in {root}" if faults else "")
    )
    return 1 if faults else 0


def _in_child(reader: Reader, folder: Path, seed: str, end: float) -> tuple[int, int, int]:
    """Read some files in a process of its own; return how many were read, refused, and at fault."""
    mine, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(mine)
            _limit()
            _read_many(reader, folder, random.Random(seed), end, theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(mine, "rb") as answers:
        said = answers.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    crashed = int(status != 0)
    if crashed:
        what = "took too long" if -status in (signal.SIGXCPU, signal.SIGPROF) else f"ended with {status}"
        print(f"{reader.name}: {what} (seed {seed!r}): {folder / reader.file}", file=sys.stderr, flush=True)
    return said.count("r"), said.count("x"), said.count("f") + crashed


def _limit() -> None:
    """Let the system end what takes too much memory, and be quiet about what readers say."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _read_many(reader: Reader, folder: Path, rng: random.Random, end: float, answers: int) -> None:
    from structures.errors import InputError

    path = folder / reader.file
    path.parent.mkdir(parents=True)
    for other, content in reader.needs.items():
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(content)
    kept = False
    for _ in range(TOGETHER):
        if time.monotonic() > end:
            break
        path.write_bytes(damage(rng.choice(reader.seeds), rng))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process, also within a decoder
        try:
            reader.read(path)
            answer = b"r"
        except InputError:
            answer = b"x"
        except OSError as error:
            answer = b"x" if error.errno is not None else b"f"
        except BaseException:
            answer = b"f"
        os.write(answers, answer)
        if answer == b"f":
            traceback.print_exc()
            print(f"{reader.name}: {path}", file=sys.stderr, flush=True)
            kept = True
            break
    if not kept:
        shutil.rmtree(folder)
