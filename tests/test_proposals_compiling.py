"""Selective Search is compiled in another process, once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detect import generators
from detect.generators import compile_ahead, import_ahead
from proposals import compiling
from proposals.compiling import KIND, begin_compiling, note_compiled, wait_until_compiled
from structures.cache import CACHE_VARIABLE, OFF, read_kept
from tests.processes import alive

QUICK = "from proposals.compiling import note_compiled; note_compiled()"
ENDLESS = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def nothing_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start with an empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_begun", [])
    monkeypatch.setattr("atexit.register", lambda _: None)


def test_another_process_compiles_and_is_not_needed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CODE", QUICK)
    begin_compiling()
    begin_compiling()
    assert len(compiling._begun) == 1
    wait_until_compiled()
    assert compiling._begun[0].returncode == 0
    assert read_kept(KIND, compiling._key()) == b"done"
    monkeypatch.setattr(compiling, "_begun", [])
    begin_compiling()
    assert compiling._begun == []


def test_what_it_runs_compiles_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-c", *sys.path])
    exec(compiling.CODE, {})
    assert read_kept(KIND, compiling._key()) == b"done"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_it_ends_with_a_killed_parent() -> None:
    code = (
        "import os, signal; from proposals import compiling; compiling.CODE = 'import time; time.sleep(600)'; "
        "compiling.begin_compiling(); print(compiling._begun[0].pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child = int(parent.stdout)
    for _ in range(600):
        if not alive(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the other process outlived this one")


def test_other_sources_are_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note_compiled()
    (tmp_path / "selective_search").mkdir()
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "compiling.py"))
    assert read_kept(KIND, compiling._key()) is None


def test_without_a_cache_there_is_nothing_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, OFF)
    begin_compiling()
    assert compiling._begun == []


def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CODE", ENDLESS)
    monkeypatch.setattr(compiling, "MOST_SECONDS", 0.01)
    begin_compiling()
    wait_until_compiled()
    assert compiling._begun[0].wait(60) != 0


def test_one_that_is_not_needed_any_more_ends_with_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CODE", ENDLESS)
    begin_compiling()
    compiling._end()
    assert compiling._begun[0].returncode != 0


@pytest.mark.parametrize(
    ("name", "cores", "needed"),
    [
        ("ranked:selective-search+multibox", 2, True),
        ("grid+selective-search-1x", 8, True),
        ("selective-search", 1, False),
        ("multibox", 2, False),
        ("opencv-selective-search", 2, False),
        ("selective-search-of-others", 2, False),
    ],
)
def test_only_our_selective_search_is_compiled(
    monkeypatch: pytest.MonkeyPatch, name: str, cores: int, needed: bool
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(generators, "cores", lambda: cores)
    monkeypatch.setattr(generators, "begin_compiling", lambda: begun.append(name))
    compile_ahead(name)
    assert begun == [name] * needed


@pytest.mark.parametrize(
    ("name", "needed"), [("ranked:selective-search+multibox", True), ("multibox", False), ("grid", False)]
)
def test_only_our_selective_search_is_imported_ahead(monkeypatch: pytest.MonkeyPatch, name: str, needed: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(generators, "begun", lambda make: make())
    monkeypatch.setattr(generators.importlib, "import_module", asked.append)
    import_ahead(name)
    assert asked == ["proposals.selective_search"] * needed
