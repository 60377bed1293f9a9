"""What several test files need: where the photos for measuring lie."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with voc2007/, coco128/ and so on; skip the test where nobody named one and there is none."""
    named = os.environ.get("RCNN_DATA")
    folder = Path(named or ROOT.parent / "shared" / "data")
    if named and not folder.is_dir():
        pytest.fail(f"RCNN_DATA is {named}, which is no folder", pytrace=False)
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}: set RCNN_DATA to the folder that holds voc2007/")
    return folder
