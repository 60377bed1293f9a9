"""The options of `rcnn scale`: each of them reaches the run, under the name that the run has for it."""

from collections.abc import Callable
from typing import Any

import pytest

import detect.scaling.run
from detect.scaling.run import Scale, ScaleSummary

Words = dict[str, Any]  # option -> value, or None for a switch


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a run was called with, in place of running it."""
    arguments: dict[str, Any] = {}

    def note(source: str, out: str, **more: Any) -> ScaleSummary:
        arguments.update(source=source, out=out, **more)
        return ScaleSummary(photos=2, before=0, fresh=2)

    monkeypatch.setattr(detect.scaling.run, "detect_at_scale", note)
    monkeypatch.setattr(detect.scaling.run, "propose_at_scale", note)
    return arguments


def spelled(words: Words) -> list[Any]:
    return [part for name, value in words.items() for part in ([name] if value is None else [name, value])]


CLUSTER: Words = {
    "--on": "ray://head:10001",
    "--workers": 3,
    "--readers": 5,
    "--together": 2,
    "--shard": 7,
    "--max-pixels": 10**6,
}
SCALE = Scale("ray://head:10001", workers=3, readers=5, together=2, shard_photos=7, max_pixels=10**6)


def test_every_option_of_detect_reaches_the_run(rcnn: Callable[..., int], called: dict[str, Any]) -> None:
    own: Words = {
        "--proposals": "multibox",
        "--features": "both",
        "--exact": 8,
        "--score": 0.2,
        "--nms": 0.4,
        "--class-agnostic": None,
        "--classes": "dog,cat",
        "--max-boxes": 50,
        "--mirrored": None,
        "--vote": None,
        "--vote-power": 2,
        "--device": "cpu",
        "--engine": "torch",
        "--dtype": "float32",
        "--exif": "ignore",
    }
    assert rcnn("scale", "detect", "photos", "--out", "shards", *spelled({**CLUSTER, **own})) == 0
    assert called == {
        "source": "photos",
        "out": "shards",
        "scale": SCALE,
        "proposals": "multibox",
        "features": "both",
        "exact": 8,
        "score_floor": 0.2,
        "nms_threshold": 0.4,
        "class_agnostic": True,
        "only": ["dog", "cat"],
        "max_boxes": 50,
        "mirrored": True,
        "vote_threshold": 0.5,
        "vote_power": 2,
        "device": "cpu",
        "engine": "torch",
        "dtype": "float32",
        "exif": "ignore",
    }


def test_every_option_of_propose_reaches_the_run(rcnn: Callable[..., int], called: dict[str, Any]) -> None:
    own: Words = {
        "--proposals": "selective-search",
        "--device": "cpu",
        "--max-boxes": 9,
        "--exif": "ignore",
        "--factor": 1.5,
        "--strategy": "hsv:ctsf:50",
        "--width": 300,
        "--seed": 4,
    }
    assert rcnn("scale", "propose", "photos", "--out", "shards", *spelled({**CLUSTER, **own})) == 0
    assert called == {
        "source": "photos",
        "out": "shards",
        "scale": SCALE,
        "proposals": "selective-search",
        "device": "cpu",
        "max_boxes": 9,
        "exif": "ignore",
        "factor": 1.5,
        "strategies": ["hsv:ctsf:50"],
        "width": 300,
        "seed": 4,
    }
