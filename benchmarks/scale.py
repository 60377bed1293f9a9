"""Photos per second of `rcnn scale detect` with one and two workers, what a killed worker costs, bytes and memory.

    python benchmarks/scale.py PHOTOS --sample 2000 --photos 20000 -- --features shared --proposals multibox

Fills a folder with links to the photos of PHOTOS, as often as needed, and detects objects on them: on a sample with
one process (`rcnn detect --threads 1`, so that its networks have one core as those of a worker do) and on a cluster of
this machine with each number of `--workers`; once more with the last number, and one worker killed (kill -9) when half
of the shards are there; then on all of `--photos`, undisturbed. `--photos 0` leaves the long run out.

Shards of one sample must have the same bytes, and the same lines as one process, to the last bit: the settings of the
networks, which stand behind `--`, go to all commands. Exit code 1: something differs.

Seconds are those of `run.json`. On a cluster they begin before its processes do, so that they include the start of
Python and the loading of the networks in each: photos/s of a small sample say little. What comes after that is the rate
behind the first shard. "Start and end" is what the command takes apart from its seconds: imports, and Ray's own start.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.passed_on import split_words  # noqa: E402

PER_FOLDER = 1000  # photos
LOOK_SECONDS = 0.5  # between two looks at memory and shards
NETWORKS = ("(Networks)", "(OnOneCore)")  # in the names that Ray gives to processes
ONE = ["--threads", "1"]  # of the networks, as a worker on a CPU has them
ALONE = f"`rcnn detect {' '.join(ONE)}`, one process"
MB = 1e6


@dataclass(frozen=True)
class Measured:
    """What one run took.

    Attributes:
        photos: of the sample.
        seconds: of its work.
        wall: the same with start and end.
        steady: photos per second from the first shard to the last; None of fewer than two shards.
        written: bytes.
        memory: of all its processes, at most.
    """

    photos: int
    seconds: float
    wall: float
    steady: float | None
    written: int
    memory: int

    def row(self, name: str, read: int) -> str:
        """Return a row of the table."""
        steady = "" if self.steady is None else f"{self.steady:.2f}"
        rate = f"{self.photos / self.seconds:.2f} | {steady} | {self.wall - self.seconds:.0f}"
        size = f"{read / self.photos / 1000:.1f} | {self.written / self.photos / 1000:.2f}"
        return f"| {name} | {self.photos} | {self.seconds:.0f} | {rate} | {size} | {self.memory / MB:.0f} |"


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    ours, theirs = split_words(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of photos")
    parser.add_argument("--sample", type=int, default=2000, help="photos of the short runs")
    parser.add_argument("--photos", type=int, default=20000, help="photos of the long run; 0 for none")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shard", type=int, default=64, help="photos per shard")
    parser.add_argument("--folder", type=Path, help="for all files; a temporary one that is removed if none is named")
    options = parser.parse_args(ours)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rcnn-scale-", dir="."))
    try:
        same = measure(options, folder.resolve(), theirs)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    sys.exit(0 if same else 1)


def measure(options: argparse.Namespace, folder: Path, theirs: list[str]) -> bool:
    """Run all, print the table, and return whether all gave the same."""
    few, most, shard = options.sample, options.workers[-1], options.shard
    sample, read = link(options.source, folder / "sample", few)
    print(
        "| run | photos | seconds | photos/s | photos/s behind the first shard | start and end, s | kB in per photo "
        "| kB out per photo | MB memory |\n|---|---|---|---|---|---|---|---|---|"
    )
    alone = folder / "alone"
    print(run(["detect", str(sample), "--out", str(alone), *ONE, *theirs], alone, few, 0, shard).row(ALONE, read))
    runs = {}
    for workers in options.workers:
        out = folder / f"workers{workers}"
        runs[workers] = run(scaled(sample, out, workers, shard, theirs), out, few, 0, shard)
        print(runs[workers].row(f"workers: {workers}", read))
    out = folder / "killed"
    killed = run(scaled(sample, out, most, shard, theirs), out, few, 1, shard)
    print(killed.row(f"workers: {most}, one killed half way", read))
    if options.photos:
        photos, all_read = link(options.source, folder / "photos", options.photos)
        long = run(scaled(photos, folder / "long", most, shard, theirs), folder / "long", options.photos, 0, shard)
        print(long.row(f"workers: {most}", all_read))
    shards = same_shards([folder / f"workers{n}" for n in options.workers] + [out])
    lines = same_lines(folder)
    print(f"\nThe killed worker cost {killed.seconds - runs[most].seconds:.1f} s.")
    print(f"Shards of all runs on a cluster have the same bytes: {'yes' if shards else 'NO'}.")
    print(f"Their lines are those of {ALONE}: {'yes' if lines else 'NO'}.")
    print(f"Networks, one process: {placed(alone)}; workers: {placed(out)}.")
    return shards and lines


def placed(out: Path) -> str:
    """Return where the networks of a run were."""
    return "; ".join(json.loads((out / "run.json").read_text())["runs"][-1]["placement"])


def link(source: Path, folder: Path, count: int) -> tuple[Path, int]:
    """Fill a folder with photos by hard links, or copies where there can be none; return it, and how many bytes."""
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    sizes = [path.stat().st_size for path in files]
    if not folder.exists():
        for number, path in enumerate(islice(cycle(files), count)):
            to = folder / f"{number // PER_FOLDER:04d}" / f"{number:07d}{path.suffix}"
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, to)
            except OSError:
                shutil.copyfile(path, to)
    return folder, sum(islice(cycle(sizes), count))


def scaled(photos: Path, out: Path, workers: int, shard: int, theirs: list[str]) -> list[str]:
    numbers = ["--workers", str(workers), "--shard", str(shard)]
    return ["scale", "detect", str(photos), "--out", str(out), *numbers, *theirs]


def run(words: list[str], out: Path, photos: int, kills: int, shard: int) -> Measured:
    """Run a command on its own, look at its processes, and kill workers when half of the shards are there."""
    environment = os.environ | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    begin, memory = time.perf_counter(), 0
    with (out.parent / f"{out.name}.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "detect", *words], env=environment, stderr=log, stdout=log)
        while process.poll() is None:
            time.sleep(LOOK_SECONDS)
            below = family(process.pid)
            memory = max(memory, sum(map(held, below)))
            if kills and len(list(out.glob("photos-*.parquet"))) >= photos / shard / 2:
                kills -= kill_one(below)
    wall = time.perf_counter() - begin
    if process.returncode not in (0, 1) or kills:
        sys.exit(f"{' '.join(words)}: exit code {process.returncode}, {kills} not killed\n{Path(log.name).read_text()}")
    record = json.loads((out / "run.json").read_text())["runs"][-1]
    written = sum(path.stat().st_size for path in out.iterdir() if path.suffix in (".parquet", ".jsonl"))
    return Measured(photos, record["seconds"], wall, steady(out, photos, shard), written, memory)


def steady(out: Path, photos: int, shard: int) -> float | None:
    """Return the photos per second from the first shard to the last; None of fewer than two."""
    times = sorted(path.stat().st_mtime for path in out.glob("photos-*.parquet"))
    return (photos - shard) / (times[-1] - times[0]) if len(times) > 1 else None


def family(process: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found


def held(process: int) -> int:
    """Return the memory of a process in bytes; what several share counts once over all of them."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def kill_one(processes: list[int]) -> int:
    for process in processes:
        with suppress(OSError):
            if any(name in Path(f"/proc/{process}/cmdline").read_text() for name in NETWORKS):
                os.kill(process, signal.SIGKILL)
                return 1
    return 0


def same_shards(folders: list[Path]) -> bool:
    contents = [{path.name: path.read_bytes() for path in folder.glob("photos-*.parquet")} for folder in folders]
    return all(content == contents[0] for content in contents)


def same_lines(folder: Path) -> bool:
    words = ["scale", "collect", str(folder / "killed"), "--out", str(folder / "lines")]
    subprocess.run([sys.executable, "-m", "detect", *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    one, many = ((folder / name / "detections.jsonl").read_bytes().splitlines() for name in ("alone", "lines"))
    return sorted(one) == sorted(many)


if __name__ == "__main__":
    main()
