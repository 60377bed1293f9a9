"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of photos, annotations and weights: $RCNN_DATA, or shared/data next to the repository; else skip."""
    named = os.environ.get("RCNN_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data: {folder} is absent (set RCNN_DATA to the folder that holds voc2007, coco128, ...)")
    return folder
