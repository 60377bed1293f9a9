"""Where Chromium is, for tests of pages."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE = 180_000  # ms, for busy machines; nothing waits that long where all is well
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Return the program; skip the test where there is none."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name it in CHROMIUM")
    return program


@contextmanager
def launched() -> Iterator[Any]:
    """Run Chromium without a window; skip the test where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=find_chromium(), timeout=PATIENCE)
        process = _process_of(opened)
        yield opened
        os.kill(process, signal.SIGKILL)  # asked to close, it takes 0.5 s or all 30 s that Playwright waits
        opened.close()


def _process_of(opened: Any) -> int:
    """Return the id of the process of a browser."""
    processes = opened.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return next(int(each["id"]) for each in processes if each["type"] == "browser")


def wait_until(page: Any, condition: str) -> None:
    """Wait until JavaScript is true on a page; Playwright's own waiting is `eval`, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)
