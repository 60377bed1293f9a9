"""Where Chromium is, for tests of pages."""

import os
import shutil

import pytest

PATIENCE = 180_000  # ms, for busy machines; nothing waits that long where all is well
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Return the program; skip the test where there is none."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name it in CHROMIUM")
    return program
