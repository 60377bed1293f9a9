"""How long one photo takes from the start of a fresh process, with an empty cache and with a warm one.

Usage: python benchmarks/start.py PHOTO [--repeats 5] [--cold 2] [--dtype auto float32]

For each choice, `rcnn detect` runs with an empty cache folder (--cold times, a new folder each), then with a full one:
once uncounted, then --repeats times. Printed are the median and the range of the seconds until the boxes are on disk
and until the process has ended, and of the processor's seconds, those of the process that compiles included.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHOICES = {
    "the default": [],
    "--features shared --proposals multibox": "--features shared --proposals multibox".split(),
}
POLL = 0.005  # seconds

Run = tuple[float, float, float]  # seconds to the boxes, to the end, and of the processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", type=int, default=2)
    parser.add_argument("--dtype", nargs="+", default=["auto"])
    given = parser.parse_args()
    print("| `rcnn detect` with | precision | cache | to the boxes, s | to the end, s | processor, s |")
    print("|---|---|---|---|---|---|")
    for name, options in CHOICES.items():
        for dtype in given.dtype:
            whole = [str(given.photo.absolute()), "--dtype", dtype, *options]
            with tempfile.TemporaryDirectory() as folder:
                caches = [Path(folder, f"cold{n}") for n in range(given.cold)]
                cold = [measure(whole, cache, Path(folder, "out")) for cache in caches]
                warm = [measure(whole, Path(folder, "warm"), Path(folder, "out")) for _ in range(given.repeats + 1)]
            for kind, runs in (("empty", cold), ("warm", warm[1:])):
                if runs:
                    figures = " | ".join(map(spread, zip(*runs, strict=True)))
                    print(f"| {name} | {dtype} | {kind} | {figures} |", flush=True)


def measure(words: list[str], cache: Path, out: Path) -> Run:
    command = [sys.executable, "-m", "detect", "detect", *words, "--out", str(out), "--overwrite"]
    boxes = out / "detections.jsonl"
    boxes.unlink(missing_ok=True)
    before, begin, first = os.times(), time.perf_counter(), 0.0
    environment = {**os.environ, "RCNN_CACHE": str(cache)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while process.poll() is None:
        if not first and boxes.exists() and boxes.stat().st_size:
            first = time.perf_counter() - begin
        time.sleep(POLL)
    end, after = time.perf_counter() - begin, os.times()
    assert process.returncode == 0, command
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return first or end, end, used


def spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
