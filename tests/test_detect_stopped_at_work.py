"""Every command ends in order when Ctrl-C comes at work: as it opens one of the user's files.

That real signals end real processes, and the children of these, is in test_detect_stopping.py and test_serving_stop.py.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from safetensors import safe_open

from classifier.weights.checkpoint import save_checkpoint
from detect.cli import build
from eval.voc import VocDataset
from proposals.stored.writer import StoreWriter
from structures.files import PARTIAL
from structures.locks import lock_folder
from structures.records import Proposals
from tests.given_options import leaves
from tests.shapes import random_start, write_voc

PHOTO, OBJECTS = "JPEGImages/001.png", "Annotations/001.xml"
RESUMED = "stopped; the same command resumes the run"
AGAIN = "stopped; the same command starts from scratch"
TRUTH = "--ground-truth VOC --split train"
LEARNING = f"{TRUTH} --weights start.safetensors --device cpu --out OUT.safetensors"
CASES = {  # words, the file whose opening brings the stop, what is said
    "detect": ("VOC/JPEGImages --proposals grid --out OUT", PHOTO, RESUMED),
    "draw": ("RESULTS --images VOC/JPEGImages", PHOTO, RESUMED),
    "propose": ("VOC/JPEGImages --proposals grid --out OUT", PHOTO, RESUMED),
    "classify": ("VOC/JPEGImages --weights start.safetensors", PHOTO, AGAIN),
    "convert": ("VOC --to coco --out OUT", OBJECTS, AGAIN),
    "export": ("start.safetensors --out net.onnx", "start.safetensors", AGAIN),
    "scale detect": ("list.txt --out OUT", "list.txt", RESUMED),
    "scale propose": ("list.txt --out OUT", "list.txt", RESUMED),
    "scale collect": ("SHARDS --out OUT", "SHARDS/run.json", RESUMED),
    "eval detections": (f"RESULTS {TRUTH} --html page.html", OBJECTS, AGAIN),
    "eval compare": (f"RESULTS RESULTS2 {TRUTH}", "RESULTS2/detections.jsonl", AGAIN),
    "eval proposals": (f"BOXES {TRUTH}", OBJECTS, AGAIN),
    "eval classification": ("--folder FOLDERS --weights ab.safetensors", "b/001.png", AGAIN),
    "bench proposals": (f"{TRUTH} --proposals grid --out OUT", PHOTO, RESUMED),
    "bench detect": (f"{TRUTH} --weights shapes.safetensors --proposals grid --out OUT", PHOTO, RESUMED),
    "train regions": (f"{LEARNING} --proposals grid --workers 1", PHOTO, RESUMED),
    "train multibox": (f"{LEARNING} --workers 0", PHOTO, RESUMED),
    "train classifier": (
        "--folder FOLDERS --batch 2 --workers 0 --out OUT.safetensors",
        "b/001.png",
        RESUMED,
    ),
    "weights convert": ("start.safetensors new.safetensors", "start.safetensors", AGAIN),
    "weights show": ("start.safetensors", "start.safetensors", AGAIN),
    "weights calibrate": ("shared new.safetensors --photos VOC/JPEGImages", PHOTO, AGAIN),
}
TWICE = {  # the same command at other work
    "train regions": (f"{TRUTH} --preset few --device cpu --out OUT.safetensors", PHOTO, RESUMED),
}
OPENED = list[str]()  # the end of the path whose opening brings the stop; hooks cannot be taken away again


def stop(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED and event == "open" and str(arguments[0]).endswith(OPENED[0]):
        OPENED.clear()
        os.kill(os.getpid(), signal.SIGINT)  # to the process, so that the main thread has it, whichever opens the file


def opened_with(do: Callable[..., Any]) -> Callable[..., Any]:
    def opened(path: Path, **options: Any) -> Any:
        stop("open", (path,))
        return do(path, **options)

    return opened


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(stop)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write what the commands read, into the folder that they run in."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "VOC", "train", range(3))
    start = random_start(32, 0)
    save_checkpoint(start, tmp_path / "start.safetensors")
    save_checkpoint(replace(start, classes=("a", "b", "c", "d", "other")), tmp_path / "ab.safetensors")
    shapes = replace(start, classes=("disc", "square", "c", "d"), task="regions")
    save_checkpoint(shapes, tmp_path / "shapes.safetensors")
    monkeypatch.setattr("classifier.weights.checkpoint.safe_open", opened_with(safe_open))  # not opened by Python
    dataset = VocDataset(tmp_path / "VOC", "train")
    for name in ("RESULTS", "RESULTS2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(
            json.dumps({"settings": {"classes": list(dataset.classes)}, "runs": []})
        )
        lines = [
            {"image": f"{truth.image_id}.png", "width": 96, "height": 96, "boxes": truth.boxes.tolist()}
            | {"labels": [dataset.classes[label] for label in truth.labels], "scores": [0.9] * len(truth)}
            for truth in dataset
        ]
        (tmp_path / name / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with StoreWriter(tmp_path / "BOXES", {"generator": "by hand"}) as writer:
        for number, truth in enumerate(dataset):
            found = Proposals(truth.boxes, truth.boxes[:, 0], truth.image_size)
            writer.add(f"{truth.image_id}.png", f"{number:032}", f"{number:032}", found)
    for name, numbers in (("a", range(1)), ("b", range(1, 3))):
        write_voc(tmp_path / "more", "x", numbers)
        (tmp_path / "FOLDERS").mkdir(exist_ok=True)
        (tmp_path / "more/JPEGImages").rename(tmp_path / "FOLDERS" / name)
    (tmp_path / "SHARDS").mkdir()
    (tmp_path / "SHARDS/run.json").write_text(json.dumps({"settings": {"generator": "by hand"}, "runs": []}))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/VOC/JPEGImages/000.png\n")
    yield tmp_path
    OPENED.clear()
    signal.signal(signal.SIGINT, before)


def test_all_commands_are_here_but_the_server() -> None:
    assert {*CASES, "serve"} == {words for words, _ in leaves(typer.main.get_command(build()))}


@pytest.mark.parametrize(("name", "case"), [*CASES.items(), *TWICE.items()])
@pytest.mark.usefixtures("torch_engine")
def test_a_command_that_is_stopped_at_work_ends_in_order(
    rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], files: Path, name: str, case: tuple[str, str, str]
) -> None:
    words, file, said = case
    threads = set(threading.enumerate())
    OPENED.append(file)
    assert rcnn(*name.split(), *words.split()) == 130, capsys.readouterr().err
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == f"rcnn: {said}"
    assert "Traceback" not in told
    end = time.monotonic() + 10  # one of a pool may be about to begin or to end
    while any(not thread.daemon for thread in set(threading.enumerate()) - threads):
        assert time.monotonic() < end, "a thread was left behind"
        time.sleep(0.01)
    assert list(files.rglob(f"*{PARTIAL}")) == []
    for folder in ("OUT", "OUT.work", "RESULTS"):
        if (files / folder).exists():
            lock_folder(files / folder).release()
