"""The detector in its own process: killed, crashed or hung, each request has an answer, and the next is worked on."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from detect.serving.child import Child
from detect.serving.jobs import JSON, Answer, Job, Offer
from detect.stopping import Stopped
from structures.errors import InputError


@dataclass(frozen=True)
class Loader:
    """Loads what does as the bytes of its photos say; notes in a file what it was handed."""

    notes: Path
    fault: str = ""

    def __call__(self) -> "Obeying":
        if self.fault == "slow":
            self.notes.write_text(str(os.getpid()))
            time.sleep(600)
        if self.fault:
            raise InputError(self.fault)
        return Obeying(self.notes)


class Obeying:
    offer = Offer(("cat",), ("quick",), 0.05)

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        for job in jobs:
            before = self._notes.read_text() if self._notes.exists() else ""
            self._notes.write_text(f"{before}{job.name}\n")
            if job.content == b"crash" or (job.content == b"crash once" and f"{job.name}\n" not in before):
                os._exit(7)
            if job.content == b"hang":
                time.sleep(600)
            if job.content == b"raise":
                raise RuntimeError("on purpose")
            yield Answer(200, JSON, str(os.getpid()).encode())


def jobs(*contents: bytes) -> list[Job]:
    return [Job(content, f"{number}", "quick", 0.05) for number, content in enumerate(contents)]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(Loader(tmp_path / "notes"), seconds=20)
    yield made
    made.close()


def process_of(child: Child) -> int:
    [answer] = child(jobs(b""))
    return int(answer.body)


def test_photos_are_answered_in_another_process_and_killing_it_loses_none(child: Child) -> None:
    before = process_of(child)
    assert before != os.getpid()
    os.kill(before, signal.SIGKILL)
    assert [answer.status for answer in child(jobs(b"", b"", b""))] == [200] * 3
    assert child.restarts == 1
    assert process_of(child) != before


def test_it_is_started_again_where_nobody_asks(child: Child) -> None:
    before = process_of(child)
    os.kill(before, signal.SIGKILL)
    child._process.join()
    assert not child.ready
    child.look_after()
    assert child.ready
    assert process_of(child) != before


def test_a_photo_that_ends_the_process_is_tried_once_more_alone_and_the_others_are_answered(
    child: Child, tmp_path: Path
) -> None:
    found = list(child(jobs(b"", b"crash", b"crash once")))
    assert [answer.status for answer in found] == [200, 500, 200]
    assert b"twice" in found[1].body
    assert (tmp_path / "notes").read_text().split() == ["0", "1", "1", "2", "2"]


def test_a_photo_that_hangs_is_given_up_and_the_others_are_answered(tmp_path: Path) -> None:
    child = Child(Loader(tmp_path / "notes"), seconds=1)
    child._seconds = 0.5  # once it is loaded
    try:
        [first, hung] = child(jobs(b"", b"hang"))
        assert (first.status, hung.status) == (200, 504)
        assert child.ready
    finally:
        child.close()


def test_what_cannot_be_loaded_is_said_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the detector cannot be loaded: no such weights$"):
        Child(Loader(tmp_path / "notes", "no such weights"), seconds=5)


def test_a_stop_while_it_is_loaded_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "notes"

    def stopped(self: Connection, timeout: float | None = 0.0) -> bool:
        while not notes.exists() or not notes.read_text():
            time.sleep(0.01)
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(Connection, "poll", stopped)
    with pytest.raises(Stopped):
        Child(Loader(notes, "slow"), seconds=20)
    assert not Path(f"/proc/{notes.read_text()}").exists()
