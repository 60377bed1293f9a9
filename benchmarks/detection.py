"""Seconds, mAP and memory of every way to detect, file to boxes, one photo at a time, on the same photos in one run.

    python benchmarks/detection.py VOC2007 quarter --out ways --rival yolox.onnx --timed 12 --minutes 15

First a few photos are timed: the ways, each in a process of its own, take turns photo by photo, so that what else the
machine does hits all alike; the first photo on each canvas warms up and is not counted. Then all photos are judged, the
quickest way first, until they are done or the minutes are over: OUT/WAY.jsonl holds what was found, and the same
command goes on there. `--found WAY=FOLDER` takes what `rcnn detect --score 0.001` found earlier. OUT gets ways.txt,
ways.json and ways.png; `--growth` adds how time grows with pixels, regions and photos.

`plain` is what a user would write from the parts: OpenCV's Selective Search, crops by Pillow, torch in float32. A rival
is an exported YOLOX with COCO's 80 classes, at its usual 416 pixels.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.detection_growth import growth  # noqa: E402
from benchmarks.detection_ways import SLOW, Answer, Setting, serve, ways  # noqa: E402
from detect.runs.machine import processor  # noqa: E402
from eval.aligned import align  # noqa: E402
from eval.results import DETECTIONS_FILE, read_lines  # noqa: E402
from eval.scores import score  # noqa: E402
from eval.selection import Selection, pick_evenly  # noqa: E402
from eval.voc import VocDataset  # noqa: E402
from proposals.multibox.views import whole_photo  # noqa: E402
from structures.boxes import ImageSize  # noqa: E402
from structures.records import Detections  # noqa: E402

Row = dict[str, Any]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("split")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; a second run resumes there")
    parser.add_argument("--timed", type=int, default=12, help="photos that are timed, evenly spread; 0 times none")
    parser.add_argument("--judged", type=int, default=0, help="photos that mAP is of, evenly spread; 0 takes all")
    parser.add_argument("--minutes", type=float, default=15, help="after which judging stops")
    parser.add_argument("--way", action="append", help="of the ways; all where none is named")
    parser.add_argument("--found", action="append", default=[], help="WAY=FOLDER of results that are there already")
    parser.add_argument("--rival", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--growth", action="store_true")
    given = parser.parse_args(words)
    known = ways(given.rival)
    given.way = given.way or known
    given.found = {name: Path(folder) for name, _, folder in (word.partition("=") for word in given.found)}
    for name in [*given.way, *given.found]:
        if name not in known:
            parser.error(f"{name!r} is not one of the ways: {'; '.join(known)}")
    return given


@contextmanager
def asked(name: str, setting: Setting) -> Iterator[Connection]:
    """Run a way in a process of its own, from when it is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(name, setting, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ours
        ours.send(None)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def ask(way: Connection, path: Path) -> Answer:
    way.send(path)
    answer: Answer = way.recv()
    return answer


def time_ways(names: Sequence[str], paths: Sequence[Path], setting: Setting, console: Console) -> dict[str, Row]:
    """Return median, spread and memory of each way; a photo counts when one on its canvas was seen before."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory = dict.fromkeys(names, 0)
    canvases = set[ImageSize]()
    with ExitStack() as stack:
        running = {}
        for name in names:
            console.print(f"loading {name}", highlight=False)
            running[name] = stack.enter_context(asked(name, setting))
        for path in paths:
            answers = {name: ask(way, path) for name, way in running.items()}
            canvas = whole_photo(next(iter(answers.values())).found.image_size).canvas
            for name, answer in answers.items():
                memory[name] = answer.peak_bytes
                if canvas in canvases:
                    seconds[name].append(answer.seconds)
            canvases.add(canvas)
    return {name: {**_spread(seconds[name]), "memory": memory[name]} for name in names}


def _spread(seconds: Sequence[float]) -> Row:
    if not seconds:
        return {"timed": 0}
    lower, median, upper = np.percentile(seconds, (25, 50, 75)).tolist()
    return {"lower": lower, "median": median, "upper": upper, "timed": len(seconds)}


def judge(name: str, dataset: Any, file: Path, setting: Setting, until: float) -> Row:
    """Find what is missing in a way's file until time is over; return its figures if all photos are done."""
    done = {line.image for line in read_lines(file)[0]} if file.exists() else set()
    todo = [image_id for image_id in dataset.image_ids if image_id not in done]
    if todo and time.monotonic() < until:
        with asked(name, setting) as way, file.open("a", buffering=1) as lines:
            for image_id in todo:
                if time.monotonic() > until:
                    break
                found = ask(way, dataset.image_path(image_id)).found
                lines.write(json.dumps(_line(image_id, found, dataset.classes)) + "\n")
                done.add(image_id)
    return {"judged": len(done), **(figures(file, dataset) if len(done) >= len(dataset.image_ids) else {})}


def _line(image_id: str, found: Detections, classes: Sequence[str]) -> Row:
    height, width = found.image_size
    return {
        "image": image_id,
        "width": width,
        "height": height,
        "boxes": found.boxes.tolist(),
        "labels": [classes[label] for label in found.labels],
        "scores": found.scores.tolist(),
    }


def figures(file: Path, dataset: Any) -> Row:
    """Return mAP and AP of a results file on all photos of a dataset."""
    found = align(read_lines(file)[0], dataset, allow_extra=True)
    if found.missing:
        return {}
    scores = {name: score(name, list(dataset), found.detections, dataset.classes) for name in ("voc07", "coco")}
    return {"mAP": scores["voc07"].headline[1], "AP": scores["coco"].headline[1]}


def main(words: Sequence[str] | None = None) -> None:
    given, begin, console = arguments(words), time.monotonic(), Console()
    given.out.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):  # all libraries keep to it; the processes inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    voc = VocDataset(given.voc, given.split)
    setting = Setting(given.dtype, given.threads, given.rival, tuple(voc.classes))
    kept = given.out / "ways.json"
    rows: dict[str, Row] = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    if given.timed:
        paths = [voc.image_path(image_id) for image_id in pick_evenly(voc.image_ids, given.timed)]
        for name, row in time_ways(given.way, paths, setting, console).items():
            rows[name] = {**rows.get(name, {}), **row}
    dataset = Selection(voc, photos=given.judged)
    until = begin + 60 * given.minutes
    for name in sorted(given.way, key=lambda name: (name in SLOW, rows.get(name, {}).get("median", 0))):
        there = given.found.get(name)
        own = given.out / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl"
        found = figures(there / DETECTIONS_FILE, dataset) if there else judge(name, dataset, own, setting, until)
        rows[name] = {**rows.get(name, {}), **found}
        console.print(f"judged {name}", highlight=False)
    about = f"{processor()}, {given.threads} threads, dtype {given.dtype}, {len(dataset)} photos of {given.split}"
    record = {"about": about, "platform": platform.platform(), "rows": rows}
    tables = [table({name: rows[name] for name in ways(given.rival) if name in rows})]
    if given.growth:
        record["growth"] = growth(voc, given.dtype)
        tables += [_growth_table(record["growth"])]
    kept.write_text(json.dumps(record, indent=1) + "\n")
    with (given.out / "ways.txt").open("w") as file:
        for output in (console, Console(file=file, width=120)):
            output.print(about, *tables, sep="\n", highlight=False)
    plot(rows, given.out / "ways.png", about)


def table(rows: Mapping[str, Row]) -> Table:
    """Return the table; `times` says how many times as long as the quickest a way takes."""
    sheet = Table("way", "median s", "middle half", "photos", "times", "mAP", "AP", "MB", box=None, pad_edge=False)
    for column in sheet.columns:
        column.no_wrap = True
    quickest = min((row["median"] for row in rows.values() if "median" in row), default=0.0)
    for name, row in rows.items():
        clock = ["", "", "", ""]
        if "median" in row:
            half, times = f"{row['lower']:.3f}-{row['upper']:.3f}", f"{row['median'] / quickest:.1f}"
            clock = [f"{row['median']:.3f}", half, str(row["timed"]), times]
        quality = [f"{100 * row[key]:.1f}" if key in row else f"({row.get('judged', 0)})" for key in ("mAP", "AP")]
        sheet.add_row(name, *clock, *quality, f"{row['memory'] / 1e6:.0f}" if "memory" in row else "")
    return sheet


def _growth_table(rows: Sequence[Row]) -> Table:
    sheet = Table("way", "what grows", "to", "seconds per photo", box=None, pad_edge=False)
    for row in rows:
        sheet.add_row(row["way"], row["what"], str(row["to"]), f"{row['seconds']:.3f}")
    return sheet


def plot(rows: Mapping[str, Row], path: Path, about: str) -> None:
    """Draw mAP against seconds per photo, with the middle half of the photos."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, row in rows.items():
        if "mAP" in row and "median" in row:
            at, spread = (
                (row["median"], 100 * row["mAP"]),
                [[row["median"] - row["lower"]], [row["upper"] - row["median"]]],
            )
            form = "s" if name in ("plain", "rival") else "o"
            colour = {
                "plain": "grey",
                "rival": "grey",
                "both": "tab:green",
                "crops": "tab:blue",
                "shared": "tab:orange",
            }
            axes.errorbar(*at, xerr=spread, fmt=form, color=colour.get(name.split(",")[0], "tab:green"))
            offset = {"xytext": (-7, -11), "ha": "right"} if "int8" in name else {"xytext": (7, 5), "ha": "left"}
            axes.annotate("YOLOX" if name == "rival" else name, at, textcoords="offset points", size=9, **offset)
    axes.set(xscale="log", xlabel="seconds per photo", ylabel="mAP (VOC 2007)", title=about)
    axes.title.set_size(8)
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
