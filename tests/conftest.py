"""What several test files need: where the photos for measuring lie."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with voc2007/, coco128/ and so on; skip the test where it is absent."""
    folder = Path(os.environ.get("RCNN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}: set RCNN_DATA to the folder that holds voc2007/")
    return folder
