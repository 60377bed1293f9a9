"""`rcnn scale` on a real cluster of this machine, from here and through Ray's client: heads and a worker are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classifier.weights import save_checkpoint
from tests.networks import make
from tests.ray_cluster import ROOT, Head, environment, free_port, needs_ray, workers_below
from tests.shapes import draw_photo

pytestmark = [
    needs_ray,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes of Ray in /proc"),
]
PHOTOS, PER_SHARD = 96, 4
OPTIONS = ["--proposals", "grid", "--max-boxes", "8", "--score", "0.001"]
OPTIONS += ["--device", "cpu", "--engine", "torch", "--dtype", "float32"]
OUT = "out"
SECONDS = 1500.0  # on a busy machine; a wait ends as soon as what it is for is there


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder with a short name, since Ray's sockets lie there, with photos and a file that is not one."""
    made = Path(tempfile.mkdtemp(prefix="rcnn"))
    (made / "photos").mkdir()
    for number in range(PHOTOS - 1):
        draw_photo(number)[0].save(made / "photos" / f"{number:03}.png")
    (made / "photos" / "broken.png").write_bytes(b"no photo")
    save_checkpoint(make(), made / "small.safetensors")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def heads(folder: Path) -> Iterator[Callable[[], Head]]:
    """Start the head of the cluster, at the same address and in place of an earlier one; the last one is killed."""
    port, started = free_port(), list[Head]()

    def start() -> Head:
        for head in started:
            head.kill()
        started.append(Head(port, folder))
        return started[-1]

    yield start
    for head in started:
        head.kill()


def scale(folder: Path, head: Head, *, workers: int, remote: bool = False) -> subprocess.Popen[str]:
    """Begin a run, or go on with it, in OUT."""
    command = [sys.executable, "-m", "detect", "scale", "detect", str(folder / "photos"), "--out", str(folder / OUT)]
    command += [*OPTIONS, "--weights", str(folder / "small.safetensors"), "--shard", str(PER_SHARD)]
    command += ["--workers", str(workers), *(["--on", head.remote] if remote else [])]
    given = os.environ | environment(None if remote else head.address)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=given, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def wait_for_more(folder: Path, count: int, running: subprocess.Popen[str]) -> None:
    """Wait until a run has written shards beyond those that were there; it must not have written all."""
    begin = time.monotonic()
    while len(shard_files(folder)) < count + 2:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() - begin < SECONDS
        time.sleep(0.02)


def shard_files(folder: Path) -> list[Path]:
    return list((folder / OUT).glob("photos-*.parquet"))


def shards(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return when each shard was written, and its content."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in shard_files(folder)}


def interrupted(run: subprocess.Popen[str], head: Head, folder: Path, before: int) -> tuple[int, str]:
    """Kill the head in the middle of a run; return its exit code and what it said."""
    wait_for_more(folder, before, run)
    head.kill()
    _, said = run.communicate(timeout=SECONDS)
    assert before < len(shards(folder)) < PHOTOS // PER_SHARD, "it was too quick to be disturbed"
    return run.returncode, said


def already(count: int) -> str:
    return f"{count * PER_SHARD} of {PHOTOS} photos done already"


def test_heads_and_a_worker_that_are_killed_change_nothing(
    folder: Path, heads: Callable[[], Head], rcnn: Callable[..., int]
) -> None:
    """One run in three parts: results are those of one process, to the last byte, and no shard is written again."""
    head = heads()
    code, said = interrupted(scale(folder, head, workers=1), head, folder, 0)
    first = shards(folder)
    assert code != 0, said

    head = heads()
    code, said = interrupted(scale(folder, head, workers=1, remote=True), head, folder, len(first))
    second = shards(folder)
    assert code == 2, said
    assert already(len(first)) in said
    assert "the cluster failed" in said.splitlines()[-1]
    assert "Traceback" not in said

    head = heads()
    run = scale(folder, head, workers=2, remote=True)
    wait_for_more(folder, len(second), run)
    worker, _ = workers_below(head.process.pid, "(OnOneCore)")
    os.kill(worker, signal.SIGKILL)
    assert len(shard_files(folder)) < PHOTOS // PER_SHARD, "it was too quick to be disturbed"
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 1, said
    assert already(len(second)) in said
    assert "1 photo failed in this run" in said

    assert first.items() <= second.items() <= shards(folder).items()
    runs = json.loads((folder / OUT / "run.json").read_text())["runs"]
    assert [each["finished"] is None for each in runs] == [True, True, False]
    assert runs[-1]["before"] == len(second) * PER_SHARD
    assert not [path for path in (folder / OUT).iterdir() if path.name.endswith(".partial")]
    assert_as_one_process(folder, rcnn)


def assert_as_one_process(folder: Path, rcnn: Callable[..., int]) -> None:
    weights, one, lines = folder / "small.safetensors", folder / "one", folder / "lines"
    assert rcnn("scale", "collect", folder / OUT, "--out", lines) == 0
    assert rcnn("detect", folder / "photos", "--out", one, *OPTIONS, "--weights", weights) == 1
    for name in ("detections.jsonl", "skipped.jsonl"):
        assert (lines / name).read_bytes() == (one / name).read_bytes(), name
