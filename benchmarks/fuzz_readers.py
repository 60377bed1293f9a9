"""All readers of files, each with sound files to be damaged, for `benchmarks/fuzz.py`."""

import importlib.util
import io
import json
import pickle
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.fuzz_contents import (
    Maker,
    as_caffemodel,
    as_columns,
    as_json,
    as_lines,
    as_mat,
    as_npz,
    as_pickle,
    as_safetensors,
    as_shard,
    as_table,
    as_torch,
    as_xml,
    maker,
)
from benchmarks.fuzz_damage import Reader


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
PLACE = [["xmin", "2"], ["ymin", "3"], ["xmax", "9"], ["ymax", "11"]]
VOC_TREE = [
    "annotation",
    [
        ["size", [["width", "31"], ["height", "24"]]],
        ["object", [["name", "cat"], ["difficult", "0"], ["bndbox", PLACE]]],
        ["object", [["name", "dog"], ["bndbox", PLACE]]],
    ],
]
OWN = [{"file": "a.png", "digest": "00"}, {"file": "b/c.png", "digest": "0f"}]
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
    lines = maker([json.loads(line) for line in LINES.splitlines()], as_lines)
    results_list, kept = maker(json.loads(_coco_results()), as_json), maker(json.loads(manifest), as_json)
    arrays = maker(dict(np.load(io.BytesIO(shard))), as_npz)
    return [
        Reader("photo", "photo", images, read_image),
        Reader("size of a photo", "size", images, read_size),
        Reader(
            "VOC annotation",
            "voc/Annotations/a.xml",
            [VOC],
            voc,
            {"voc/ImageSets/Main/val.txt": b"a\n"},
            [maker(VOC_TREE, as_xml)],
        ),
        Reader("VOC list", "voc/ImageSets/Main/val.txt", [b"a\nb 1\n"], voc_list, annotations, [_table("a", "b 1")]),
        Reader("COCO annotations", "instances.json", [dumped], CocoDataset, odd=[maker(COCO, as_json)]),
        Reader("COCO results", "coco/results.json", [_coco_results()], coco_results, odd=[results_list]),
        Reader("detections.jsonl", "lines/detections.jsonl", [LINES], read_lines, odd=[lines]),
        Reader("folder of results", "results/detections.jsonl", [LINES], results, odd=[lines]),
        Reader(
            "run.json", "run/run.json", [as_json(RUN)], lambda path: read_run(path.parent), odd=[maker(RUN, as_json)]
        ),
        Reader("written.jsonl", "own/written.jsonl", [as_lines(OWN)], own, odd=[maker(OWN, as_lines)]),
        Reader("digests of files", "digests/.rcnn.files", [_digests(root)], digests),
        Reader(
            "shard of proposals",
            "store/shard-000000.npz",
            [shard],
            store,
            {"store/manifest.json": manifest},
            odd=[arrays],
        ),
        Reader("manifest", "store/manifest.json", [manifest], store, {"store/shard-000000.npz": shard}, odd=[kept]),
        Reader("boxes of other programs", "boxes.json", [_coco_results()], read_foreign, odd=[results_list]),
        Reader("archive of arrays", "arrays.npz", [shard], read_arrays, odd=[arrays]),
        Reader("list of photos", "list.txt", [b"list.txt\n*.txt\n"], lambda path: find_photos([], lists=[path])),
        Reader("list of classes", "classes.txt", [b"cat\ndog\n"], lambda path: read_class_names([str(path)])),
        *_others(root),
        *_weights(root),
        *_parquet(),
    ]


def _table(*lines: str, delimiter: str = " ") -> Maker:
    rows = [line.split(delimiter) for line in lines]
    return maker(rows, lambda content: as_table(content, delimiter))


def _parquet() -> list[Reader]:
    """Return the readers of Parquet, if what reads it is installed: shards of `rcnn scale`, and photos as bytes."""
    if importlib.util.find_spec("pyarrow") is None:
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
    done = [whole, {**whole, "image": "b.jpg"}, failed_row("c.jpg", "damaged")]
    columns = {"path": ["a.png", "b.jpg"], "bytes": [pictures()[2], pictures()[0]]}
    shard, table = to_parquet(done, "detect"), as_columns(columns)
    return [
        Reader("shard of results", "photos.parquet", [shard], rows, odd=[maker(done, as_shard)]),
        Reader("Parquet with photos", "bytes.parquet", [table], photos, odd=[maker(columns, as_columns)]),
    ]


def _others(root: Path) -> list[Reader]:
    """Return the readers of CSV, YOLO's folders, kept regions and pickles."""
    from eval.ground_truth import open_ground_truth
    from eval.regions import read_regions
    from eval.result_formats import read_results
    from proposals.stored.child_reader import read_apart
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
    listed = maker([json.loads(line) for line in index.splitlines()], as_lines)
    cells = {"images": ["a", "b"], "boxes": [np.ones((2, 4)), np.ones((1, 4), np.uint16)]}
    boxes = {"ids": ["a", "b"], "boxes": [np.ones((2, 4), np.float32)] * 2, "objectness_logits": [np.ones(2)] * 2}
    return [
        Reader(
            "CSV results", "results.csv", [table], read_results, odd=[_table(*table.decode().split(), delimiter=",")]
        ),
        Reader("data.yaml", "yolo/data.yaml", [yaml], yolo, {f"yolo/{name}": file for name, file in photo.items()}),
        Reader(
            "YOLO labels",
            "yolo/labels/train/a.txt",
            [label],
            yolo,
            {"yolo/data.yaml": yaml, **{f"yolo/{name}": file for name, file in photo.items()}},
            [_table(*label.decode().splitlines())],
        ),
        Reader("index of regions", "kept/regions.jsonl", [index], regions, {"kept/regions.bin": numbers}, [listed]),
        Reader("kept regions", "kept/regions.bin", [numbers], regions, {"kept/regions.jsonl": index}),
        Reader(
            "pickle of boxes",
            "boxes.pkl",
            [pickle.dumps(boxes, n) for n in (2, 4)],
            read_pickle,
            odd=[maker(boxes, as_pickle)],
        ),
        Reader("MATLAB's boxes", "boxes.mat", [as_mat(cells)], read_apart, odd=[maker(cells, as_mat)], together=9),
    ]


def _regions(root: Path) -> tuple[bytes, bytes]:
    from detect.runs.kept import RegionFiles
    from eval.lost import Rules
    from eval.region_layout import INDEX_FILE, REGIONS_FILE, Header
    from structures.records import Proposals
    from structures.regions import Regions

    boxes = np.tile(np.array([0, 0, 5, 6], np.float32), (3, 1))
    rules = Rules(score_floor=0.05, nms_threshold=0.3, max_per_class=100, weigh_by_fit=False)
    (root / "regions").mkdir()
    with RegionFiles(root / "regions", Header(("cat",), rules), features=2, done=()) as files:
        for name in "ab":
            rows = np.full((3, 2), 0.5, np.float32)
            files.add(name, Regions(Proposals(boxes, np.ones(3, np.float32), (8, 8)), rows, ("cat",), rows))
    return (root / "regions" / INDEX_FILE).read_bytes(), (root / "regions" / REGIONS_FILE).read_bytes()


def _weights(root: Path) -> list[Reader]:
    """Return the readers of weights, with files that hold a few small arrays: enough for all that is not numbers."""
    import torch

    from classifier.known_objects import KnownObjects, known_objects, with_known_objects
    from classifier.recipes import Schedule
    from classifier.region_columns import PART_INPUTS
    from classifier.training_state import FORMAT, read_state, write_state
    from classifier.weights.caffemodel import read_caffemodel
    from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
    from classifier.weights.load import load_weights
    from classifier.weights.preprocessing import TORCHVISION
    from tests.test_classifier_weights_caffemodel import new_blob, new_layer, old_blob, old_layer

    small = Checkpoint(
        state={"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)},
        classes=("cat", "dog"),
        preprocessing=TORCHVISION,
        task="regions",
    )
    save_checkpoint(small, root / "net.safetensors")
    known = KnownObjects(np.ones((1, PART_INPUTS), np.float16), np.ones(1, np.float32), np.ones(1, np.int64))
    save_checkpoint(with_known_objects(replace(small, state={}), known), root / "known.safetensors")
    schedule = Schedule(steps=3, learning_rate=0.1)
    write_state(root / "state.pt", schedule, {"step": 2, "weights": {"fc": torch.zeros(3)}})
    state = (root / "state.pt").read_bytes()
    layers = [
        layer("conv", [blob(np.ones((2, 1, 3, 3), np.float32))])
        for layer, blob in ((new_layer, new_blob), (old_layer, old_blob))
    ]
    sound = (root / "net.safetensors").read_bytes()
    header = json.loads(sound[8 : 8 + int.from_bytes(sound[:8], "little")])
    header["__metadata__"] = {name: _parsed(text) for name, text in header["__metadata__"].items()}
    named = {"fc.weight": np.zeros((3, 4), np.float32), "fc.bias": np.zeros(3, np.float32)}
    blobs = [["conv", [[[2, 1, 3, 3], [0.5] * 18], [[2], [1, 2]]]], ["fc", [[[1, 1, 2, 2], [1, 2, 3, 4]]]]]
    caffe = {f"conv1/7x7_s2/{kind}": np.zeros((2, 3), np.float32) for kind in ("weight", "bias")}
    kept = {"format": FORMAT, "recipe": asdict(schedule), "step": 2, "weights": named}
    return [
        Reader("safetensors", "net.safetensors", [sound], load_weights, odd=[maker(header, _safetensors)]),
        Reader(
            "known objects",
            "known.safetensors",
            [(root / "known.safetensors").read_bytes()],
            lambda path: known_objects(read_checkpoint(path)),
        ),
        Reader("caffemodel", "net.caffemodel", layers, read_caffemodel, odd=[maker(blobs, as_caffemodel)]),
        Reader("weights as .npz", "net.npz", [as_npz(caffe)], load_weights, odd=[maker(caffe, as_npz)]),
        Reader("weights as .pth", "net.pth", [as_torch(named)], load_weights, odd=[maker(named, as_torch)]),
        Reader(
            "state of a training",
            "state.pt",
            [state],
            lambda path: read_state(path, schedule),
            odd=[maker(kept, as_torch)],
        ),
    ]


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _safetensors(header: Any) -> bytes:
    """Write a header whose metadata, where they are not texts, become JSON again, as ours are."""
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        texts = {name: value if name == "format" else json.dumps(value) for name, value in metadata.items()}
        header = {**header, "__metadata__": texts}
    return as_safetensors(header)


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
