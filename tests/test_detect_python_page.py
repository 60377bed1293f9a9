"""The examples of docs/python.md run, with a detector that needs no network."""

import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from detect.detector import Detector
from detect.settings import DetectorSettings
from proposals.baselines import Grid
from structures.boxes import Boxes, Floats
from structures.images import read_image
from structures.records import Image

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
EXTRAS = ("pandas", "supervision")


class Dogs:
    """Sees a dog in every region."""

    classes = ("cat", "dog", "person")

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        return np.tile(np.float32([0, 0.9, 0, 0.1]), (len(boxes), 1))


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let `Detector.load` need no weights, and photos lie where the examples look for them."""

    def load(proposals: str = "grid", **options: Any) -> Detector:
        known = DetectorSettings.__dataclass_fields__
        assert set(options) <= {*known, "device", "mirrored"}
        return Detector(Grid(), Dogs(), **{name: value for name, value in options.items() if name in known})

    monkeypatch.setattr(Detector, "load", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        PIL.Image.new("RGB", (90, 60), "grey").save(name)
    return {"__name__": "page"}


def run(blocks: list[str], namespace: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), namespace)
    return printed.getvalue()


def extra_of(block: str) -> str | None:
    return next((name for name in EXTRAS if f".to_{name}(" in block), None)


def test_the_examples_run(namespace: dict[str, Any], tmp_path: Path) -> None:
    plain = [block for block in BLOCKS if extra_of(block) is None]
    assert len(plain) >= 7
    printed = run(plain, namespace)
    assert "dog 0.9" in printed
    assert "photos/b.jpg" in printed
    assert read_image(tmp_path / "drawn.png").shape == (60, 90, 3)


@pytest.mark.parametrize("name", EXTRAS)
def test_the_examples_for_other_libraries_run(namespace: dict[str, Any], name: str) -> None:
    pytest.importorskip(name)
    (block,) = [block for block in BLOCKS if extra_of(block) == name]
    first = ["from detect import Detector\nfound = Detector.load()('photo.jpg')\n"]
    assert run([*first, block], namespace).count("dog") >= 1


def test_the_table_of_keywords_lists_every_keyword_of_loading() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"None"}
    assert told == set(inspect.signature(Detector.load).parameters)
