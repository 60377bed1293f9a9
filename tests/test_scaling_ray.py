"""`rcnn scale` on a real cluster of this machine: two workers, one of which is killed, and a head that is restarted."""

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
from tests.ray_cluster import ROOT, Head, environment, family, free_port, needs_ray, workers_below
from tests.shapes import draw_photo

pytestmark = [
    needs_ray,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes of Ray in /proc"),
]
PHOTOS, PER_SHARD = 120, 4
OPTIONS = ["--proposals", "grid", "--max-boxes", "16", "--score", "0.001"]
OPTIONS += ["--device", "cpu", "--engine", "torch", "--dtype", "float32"]
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


def scale(folder: Path, out: str, head: Head, *, remote: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detect", "scale", "detect", str(folder / "photos"), "--out", str(folder / out)]
    command += [*OPTIONS, "--weights", str(folder / "small.safetensors"), "--workers", "2", "--shard", str(PER_SHARD)]
    command += ["--on", head.remote] if remote else []
    given = os.environ | environment(None if remote else head.address)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=given, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def wait_until(there: Callable[[], object], running: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    while not there():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() - begin < SECONDS
        time.sleep(0.02)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("photos-*.parquet"))}


def assert_as_one_process(folder: Path, out: str, rcnn: Callable[..., int]) -> None:
    weights, one = folder / "small.safetensors", folder / "one"
    assert rcnn("scale", "collect", folder / out, "--out", folder / f"{out}-lines") == 0
    if not one.exists():
        assert rcnn("detect", folder / "photos", "--out", one, *OPTIONS, "--weights", weights) == 1
    for name in ("detections.jsonl", "skipped.jsonl"):
        assert (folder / f"{out}-lines" / name).read_bytes() == (one / name).read_bytes(), name


def test_killed_workers_and_a_restarted_head_change_nothing(
    folder: Path, heads: Callable[[], Head], rcnn: Callable[..., int]
) -> None:
    """Results are those of one process, to the last byte; and no shard that is there is written again."""
    head = heads()
    run = scale(folder, "killed", head)
    wait_until(lambda: len(shards(folder / "killed")) >= 2, run)
    first, second = workers_below(head.process.pid, "(OnOneCore)")
    os.kill(first, signal.SIGKILL)
    assert len(shards(folder / "killed")) < PHOTOS // PER_SHARD, "it was too quick to be disturbed"
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 1, said
    assert "1 photo failed in this run" in said
    assert second not in family(head.process.pid) or first not in family(head.process.pid)
    assert_as_one_process(folder, "killed", rcnn)

    run = scale(folder, "restarted", head)
    wait_until(lambda: len(shards(folder / "restarted")) >= 2, run)
    head.kill()
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode != 0, said
    before = {path: path.stat().st_mtime_ns for path in (folder / "restarted").glob("photos-*.parquet")}
    assert 2 <= len(before) < PHOTOS // PER_SHARD
    run = scale(folder, "restarted", heads())
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode in (0, 1), said
    assert f"{len(before) * PER_SHARD} of {PHOTOS} photos are done already" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert shards(folder / "restarted") == shards(folder / "killed")
    runs = json.loads((folder / "restarted" / "run.json").read_text())["runs"]
    assert (runs[0]["finished"], runs[1]["before"]) == (None, len(before) * PER_SHARD)
    assert not [path for path in (folder / "restarted").iterdir() if path.name.endswith(".partial")]


def test_a_remote_cluster_gives_the_same_also_if_its_head_is_restarted(
    folder: Path, heads: Callable[[], Head], rcnn: Callable[..., int]
) -> None:
    head = heads()
    run = scale(folder, "remote", head, remote=True)
    wait_until(lambda: len(shards(folder / "remote")) >= 2, run)
    head.kill()
    _, said = run.communicate(timeout=SECONDS)
    before = shards(folder / "remote")
    assert 2 <= len(before) < PHOTOS // PER_SHARD, "it was too quick to be disturbed"
    assert run.returncode == 2, said
    assert "the cluster failed" in said.splitlines()[-1]
    assert "Traceback" not in said
    run = scale(folder, "remote", heads(), remote=True)
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode in (0, 1), said
    assert f"{len(before) * PER_SHARD} of {PHOTOS} photos are done already" in said
    assert before.items() <= shards(folder / "remote").items()
    assert_as_one_process(folder, "remote", rcnn)
