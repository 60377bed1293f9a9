"""Stopped or killed, a command leaves no process behind, no lock, and says whether the same command resumes it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classifier.weights.checkpoint import save_checkpoint
from detect.stopping import Stopped, stoppable
from structures.locks import FolderInUse, lock_folder
from tests.processes import alive
from tests.shapes import random_start, write_voc

ROOT = Path(__file__).resolve().parent.parent
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for child processes in /proc")
STARTED, ENDED = 180.0, 120.0  # seconds on a busy machine; a wait ends as soon as what it is for is there
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
sys.modules["openvino"] = None  # as if missing: torch needs no conversion
from detect.cli import main
main()
"""


def children_of(process: int) -> set[int]:
    """Return the child processes that have not ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended meanwhile
            continue
        if int(parent) == process and state != "Z":
            found.add(int(folder.name))
    return found


def is_free(folder: Path) -> bool:
    try:
        lock_folder(folder).release()
    except FolderInUse:
        return False
    return True


def wait_until(there: Callable[[], object], seconds: float = ENDED) -> None:
    begin = time.monotonic()
    while not there():
        assert time.monotonic() - begin < seconds
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python with these arguments; what is left of it in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, *map(str, arguments)]
        started.append(subprocess.Popen(words, stdout=-1, stderr=-1, text=True, env=environment))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@LINUX
@pytest.mark.parametrize(
    ("command", "number"),
    [("multibox", signal.SIGKILL), ("classifier", signal.SIGTERM)],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_readers_end_with_a_training_and_never_hold_its_lock(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], command: str, number: signal.Signals
) -> None:
    write_voc(tmp_path / "voc", "train", range(8))
    usual = ["--out", tmp_path / "net.safetensors", "--device", "cpu", "--batch", 2, "--workers", 2, "--epochs", 999]
    if command == "multibox":
        save_checkpoint(random_start(64, 4), tmp_path / "start.safetensors")
        data = ["--voc", tmp_path / "voc", "--split", "train", "--weights", tmp_path / "start.safetensors"]
    else:
        (tmp_path / "voc/JPEGImages").rename(tmp_path / "voc/photos")
        data = ["--folder", tmp_path / "voc", "--size", 32]
        (tmp_path / "voc/other").mkdir()
        (tmp_path / "voc/photos/000.png").rename(tmp_path / "voc/other/000.png")
        for folder in ("Annotations", "ImageSets"):
            (tmp_path / "voc" / folder).rename(tmp_path / folder)
    run, work = start("-c", COMMAND, "train", command, *data, *usual), tmp_path / "net.work"
    curves = work / "curves.csv"
    wait_until(lambda: run.poll() is not None or (curves.exists() and curves.read_text().count("\n") > 1), STARTED)
    readers = children_of(run.pid)
    assert len(readers) == 2, run.communicate()
    assert not is_free(work)
    time.sleep(0.5)  # the readers have made what they may ahead, and wait to hand it over
    run.send_signal(number)
    said = run.stderr.read() if run.stderr and number != signal.SIGKILL else ""
    assert run.wait() == (-number if number == signal.SIGKILL else 128 + number)
    assert is_free(work)  # at once, though readers may still be about to end
    wait_until(lambda: not any(map(alive, readers)))
    if said:
        assert said.splitlines()[-1] == "rcnn: stopped; the same command resumes the run"
        assert "Traceback" not in said


LEFT = """
import multiprocessing, socket, sys, time
from multiprocessing import resource_sharer
from classifier.children import begin_reading

def read(left):
    if left:
        begin_reading(0)
    place, key = resource_sharer.DupFd(1)._id  # as a batch that waits for its taker
    taker = socket.socket(socket.AF_UNIX)
    taker.connect(place)
    taker.close()
    time.sleep(0.3)

if __name__ == "__main__":
    reader = multiprocessing.get_context("fork").Process(target=read, args=(sys.argv[1] == "reader",))
    reader.start()
    reader.join()
"""


@LINUX
@pytest.mark.parametrize(("kind", "says"), [("reader", False), ("any other child", True)])
def test_a_reader_whose_batch_is_not_taken_says_nothing(
    start: Callable[..., subprocess.Popen[str]], kind: str, says: bool
) -> None:
    _, said = start("-c", LEFT, kind).communicate()
    assert ("Error" in said) == says, said


BLOCKED = """
import os, signal, sys, time
from detect import stopping
stopping.BLOCKED_SECONDS = 0.1
with stopping.stoppable("words"):
    if sys.argv[1] == "blocked":  # the handler of a signal has to wait for a call that does not come back
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.write(1, b"ready")
    try:
        time.sleep(60)
    finally:
        stopping.AGAIN_SECONDS = float(sys.argv[2])
        if sys.argv[1] == "twice":
            os.kill(os.getpid(), signal.SIGTERM)
        os.write(1, b" closed")
        if sys.argv[1] == "failing":
            raise RuntimeError("a process that the stop ended is missed")
"""


@pytest.mark.parametrize(
    ("case", "again", "written"),
    [
        ("plain", 0, "ready closed"),
        ("failing", 0, "ready closed"),
        ("blocked", 0, "ready"),
        ("twice", 60, "ready closed"),
        ("twice", 0, "ready"),
    ],
)
def test_a_stop_is_in_order_unless_that_would_take_for_ever(
    start: Callable[..., subprocess.Popen[str]], case: str, again: float, written: str
) -> None:
    """The same signal again is one stop if it comes at once, and ends the process if it comes later."""
    process = start("-c", BLOCKED, case, again)
    assert process.stdout is not None
    assert process.stdout.read(5) == "ready"
    time.sleep(0.05)
    process.terminate()
    out, said = process.communicate()
    assert ("ready" + out, process.returncode) == (written, 143)
    assert said == "rcnn: words\n"


EARLY = """
import signal, sys, time
from detect.__main__ import main

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "detect.cli":
            print("importing", flush=True)
            time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
sys.meta_path.insert(0, Slow())
main()
"""


def test_ctrl_c_while_the_command_line_is_imported_is_one_line(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("-c", EARLY)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "rcnn: stopped\n"
    assert process.returncode == 130


FORKS = """
import multiprocessing, sys, threading, time
from detect.stopping import stoppable

def fork_and_stop():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.2)
    child.terminate()
    child.join()
    print(child.exitcode)

with stoppable("stopped"):
    if sys.argv[1] == "main":
        fork_and_stop()
    else:
        thread = threading.Thread(target=fork_and_stop)
        thread.start()
        thread.join()
    time.sleep(0.2)
print("on")
"""


@LINUX
@pytest.mark.parametrize("thread", ["main", "another"])
def test_a_signal_to_a_fork_is_not_one_to_its_parent(start: Callable[..., subprocess.Popen[str]], thread: str) -> None:
    """As of a library that forks to do something, and ends the fork when that takes too long."""
    assert start("-c", FORKS, thread).communicate() == (f"{-signal.SIGTERM}\non\n", "")


class Stops:
    """Is stopped while it is removed, where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.001)


def test_a_stop_that_falls_into_a_destructor_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with stoppable("stopped"):
            Stops()
            time.sleep(ENDED)

    with pytest.raises(Stopped) as stop:
        run()
    assert stop.value.code == 143
    assert capsys.readouterr().err == "rcnn: stopped\n"


def test_signals_are_as_before_when_a_command_has_ended(rcnn: Callable[..., int]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert rcnn("--help") == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


TOGETHER = """
import os, sys, time
from pathlib import Path
import torch
from classifier.processes import first_then_others, joined
from detect import stopping
from detect.cli import guarded
from detect.training.folder import occupied

stopping.BLOCKED_SECONDS = 0.2
here = Path(sys.argv[1])

def run():
    with joined(torch.device("cpu")):
        with first_then_others() as first:
            if first:
                with occupied(here / "work"):
                    (here / "0").write_text(str(os.getpid()))
                    time.sleep(600)

def told():
    (here / (os.environ["RANK"] + ".pid")).write_text(str(os.getpid()))
    run()

guarded(told)
"""


@LINUX
@pytest.mark.parametrize("killed", ["0", "1", "torchrun"])
def test_of_processes_on_one_training_none_outlives_another(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], killed: str
) -> None:
    """The first holds the lock and works; the other waits for it in a call that handles no signals."""
    script = tmp_path / "script.py"
    script.write_text(TOGETHER)
    begin = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    torchrun = start(*begin, script, tmp_path)
    wait_until(lambda: torchrun.poll() is not None or (tmp_path / "0").exists(), STARTED)
    ranks = {name: int((tmp_path / f"{name}.pid").read_text()) for name in ("0", "1")}
    os.kill(ranks.get(killed, torchrun.pid), signal.SIGKILL)
    wait_until(lambda: not any(map(alive, [*ranks.values(), torchrun.pid])))
    wait_until(lambda: is_free(tmp_path / "work"))
