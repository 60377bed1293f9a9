"""Everything on a GPU, in one command of at most eight minutes: is it right, how fast, and where does the time go?

    python benchmarks/gpu.py --out gpu-results                       # on a machine with a GPU
    python benchmarks/gpu.py --out try --device cpu --quick          # the same code, small, on any machine

Needs torch, torchvision, numpy, numba, pillow, rich, typer, safetensors and opencv-python-headless, nothing else.
Photos are those of a folder in VOC layout (`--voc`), else drawn ones. Every part runs in a process of its own with a
time limit: one that fails or hangs is a row of the table, and what it found before stays. OUT gets gpu.json, gpu.txt,
and a log for each part.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SECONDS = {  # that each part may take; what one leaves is shared by those after it
    "versions": 15,
    "parity": 55,
    "memory": 25,
    "crops": 65,
    "canvases": 65,
    "detect": 125,
    "train": 125,
}
BUDGET = 480
GRACE = 3  # seconds between asking a part to stop and ending it


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--voc", type=Path, help="photos in VOC layout; default $RCNN_DATA/voc2007, else drawn ones")
    parser.add_argument("--quick", action="store_true", help="a few photos and steps, to try the script itself")
    parser.add_argument("--parts", default=",".join(SECONDS), help="which, with commas between them")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all parts together")
    parser.add_argument("--only", choices=list(SECONDS), help=argparse.SUPPRESS)  # the process of one part
    options = parser.parse_args(words)
    unknown = [name for name in options.parts.split(",") if name not in SECONDS]
    if unknown:
        parser.error(f"--parts {','.join(unknown)}: the parts are {','.join(SECONDS)}")
    return options


def run_part(name: str, options: argparse.Namespace, limit: float) -> list[dict[str, Any]]:
    """Run a part in a process of its own; return its rows, the last of which says how it ended if that was odd."""
    rows_file, begin = options.out / f"{name}.jsonl", time.perf_counter()
    rows_file.unlink(missing_ok=True)
    words = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--only",
        name,
        "--out",
        str(options.out),
        "--device",
        options.device,
    ]
    words += ["--quick"] * options.quick + (["--voc", str(options.voc)] if options.voc else [])
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    with (options.out / f"{name}.log").open("w") as log:
        part = subprocess.Popen(words, stdout=log, stderr=log, env=env, cwd=ROOT, start_new_session=True)
        try:
            ended = "" if part.wait(limit) == 0 else f"ended with exit code {part.returncode}, see {name}.log"
        except subprocess.TimeoutExpired:
            ended = f"stopped after its {limit:.0f} s"
        finally:
            _stop(part)  # on Ctrl-C, too, which does not reach it; and what a part that ended has left behind
    lines = rows_file.read_text().splitlines() if rows_file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    rows += [{"part": name, "what": "failed", "why": ended}] if ended else []
    return [*rows, {"part": name, "what": "all of it", "seconds": round(time.perf_counter() - begin, 1)}]


def _stop(part: "subprocess.Popen[bytes]") -> None:
    """End a part and what it started, if anything of it is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):  # what hangs in the driver cannot be ended at all
            os.killpg(part.pid, number)
            part.wait(GRACE)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    sheet = Table(box=None, pad_edge=False)
    for heading in ("part", "what", "figures"):
        sheet.add_column(heading, overflow="fold")
    for row in rows:
        figures = ", ".join(f"{name} {_short(value)}" for name, value in row.items() if name not in ("part", "what"))
        sheet.add_row(row["part"], str(row["what"]), figures)
    return sheet


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only:
        from benchmarks.gpu_parts import run

        run(options.only, options.out, options.device, quick=options.quick, voc=options.voc)
        return 0
    rows, begin, names = list[dict[str, Any]](), time.perf_counter(), options.parts.split(",")
    for number, name in enumerate(names):
        left = options.budget - (time.perf_counter() - begin) - 2 * GRACE
        if left < GRACE:
            rows.append({"part": name, "what": "failed", "why": "no time was left"})
            continue
        share = SECONDS[name] / sum(SECONDS[each] for each in names[number:])
        rows += run_part(name, options, left * share)
        about = {"machine": platform.platform(), "device": options.device, "quick": options.quick, "rows": rows}
        (options.out / "gpu.json").write_text(json.dumps(about, indent=1) + "\n")  # now: the machine may go away
    Console().print(table(rows))
    with (options.out / "gpu.txt").open("w") as file:
        Console(file=file, width=160).print(table(rows))
    return int(any("why" in row for row in rows))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
