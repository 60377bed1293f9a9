"""COCO's figures are those of pycocotools on drawn files with all that is hard: a property, held against the original.

The files are drawn so that overlaps lie on thresholds, areas on the edges of ranges, scores are equal, and some photos
have more than the 100 detections of a class that count.
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.aligned import align_records
from eval.coco import CocoDataset
from eval.coco_matching import THRESHOLDS
from eval.coco_protocol import COCO_LEVELS, coco
from eval.coco_results import read_coco_results

IDS = st.integers(0, 3) | st.sampled_from([2**53, 2**53 + 1]) | st.integers(0, 2**62)  # floats merge these two
PLACES = st.sampled_from([0.0, 0.1, 10.0, 16.0, 100.3])
SIDES = st.sampled_from([0.0, 16.0, 17.6, 20.0, 32.0, 32.000001, 96.0])  # 32 x 32 and 96 x 96 are edges
SHARES = st.sampled_from([0.5, 0.55, 0.6, 0.75, 0.95, 1.0, -0.5])  # of an object's width: overlaps on the thresholds
AREAS = st.sampled_from([-4.0, 0.0, 1023.99999, 1024.0, 1024.00001, 9216.0, 9216.5, 1e10, 1.1e10])  # not float32's
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.5000000001, 0.75, 1.0])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw an instances.json and a list of results near its objects and elsewhere."""
    images = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    categories = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    boxes = st.tuples(PLACES, PLACES, SIDES, SIDES).map(list)
    kind = {"image_id": st.sampled_from(images), "category_id": st.sampled_from(categories)}
    objects = draw(
        st.lists(
            st.fixed_dictionaries(
                {**kind, "bbox": boxes, "area": AREAS, "iscrowd": st.sampled_from([0, 0, 0, 1])},
                optional={"ignore": st.just(1)},
            ),
            max_size=12,
        )
    )
    found = draw(st.lists(st.fixed_dictionaries({**kind, "bbox": boxes, "score": SCORES}), max_size=8))
    for item in objects:
        for share, score in draw(st.lists(st.tuples(SHARES, SCORES), max_size=4)):
            x, y, width, height = item["bbox"]
            place = {key: item[key] for key in kind}
            found.append({**place, "bbox": [x, y, width * share, height], "score": score})
    first = {"image_id": images[0], "category_id": categories[0]}
    found += draw(st.sampled_from([0, 0, 0, 101])) * [{**first, "bbox": [0.0, 0.0, 16.0, 16.0], "score": 0.6}]
    odd = st.lists(st.tuples(SIDES, SIDES), max_size=2)
    for width, height in draw(odd):
        box = [10.0, 10.0, -width, draw(st.sampled_from([height, -height]))]
        found.append({**first, "bbox": box, "score": draw(SCORES)})
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in images],
        "categories": [{"id": n, "name": f"c{n}"} for n in categories],
        "annotations": [{"id": n, **item} for n, item in enumerate(objects, 1)],
    }
    return content, draw(st.permutations(found))


def official(truth: Path, results: Path) -> list[float]:
    """Return pycocotools' twelve figures, then AP and AP50 of each category, in our order."""
    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO(str(truth))
        judge = COCOeval(table, table.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][..., 0, -1].mean(axis=1)  # (thresholds, categories)
    rows = [*judge.stats, *np.stack([precision.mean(axis=0), precision[0]], axis=1).ravel()]
    return [float("nan") if value < 0 else float(value) for value in rows]


def ours(truth: Path, results: Path) -> list[float]:
    data = CocoDataset(truth)
    found = align_records(read_coco_results(results, data)[0], data).detections
    return [value for _, value in coco(list(data), found, data.classes)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scenes())
def test_figures_are_those_of_pycocotools_on_any_file(tmp_path: Path, scene) -> None:
    content, found = scene
    truth, results = tmp_path / "instances.json", tmp_path / "results.json"
    truth.write_text(json.dumps(content))
    results.write_text(json.dumps(found))
    if found:  # pycocotools fails on an empty list
        assert ours(truth, results) == pytest.approx(official(truth, results), abs=1e-9, nan_ok=True)


def test_ids_that_doubles_would_merge_stay_apart(tmp_path: Path) -> None:
    ids = [2**53, 2**53 + 1]
    objects = [{"image_id": n, "category_id": n, "bbox": [10, 10, 40, 40]} for n in ids]
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in ids],
        "categories": [{"id": n, "name": f"c{n}"} for n in ids],
        "annotations": [{"id": n, "area": 1600, "iscrowd": 0, **each} for n, each in enumerate(objects, 1)],
    }
    truth, results = tmp_path / "instances.json", tmp_path / "results.json"
    truth.write_text(json.dumps(content))
    results.write_text(json.dumps([{**each, "score": 0.5} for each in objects]))
    figures = ours(truth, results)
    assert figures == pytest.approx(official(truth, results), abs=1e-9, nan_ok=True)
    assert figures[0] == pytest.approx(1)


def test_thresholds_and_levels_are_those_of_pycocotools() -> None:
    params = COCOeval(iouType="bbox").params
    assert THRESHOLDS.tolist() == params.iouThrs.tolist()
    assert COCO_LEVELS.tolist() == params.recThrs.tolist()


def test_of_objects_that_overlap_equally_the_last_is_taken(tmp_path: Path) -> None:
    """So the second detection, which is close to the last object alone, finds it taken."""
    place = {"image_id": 0, "category_id": 0}
    objects = [[0, 0, 16, 32], [4, 0, 16, 32]]
    found = [([2, 0, 16, 32], 0.9), ([6, 0, 16, 32], 0.8)]
    content = {
        "images": [{"id": 0, "file_name": "0.jpg", "width": 640, "height": 480}],
        "categories": [{"id": 0, "name": "c"}],
        "annotations": [
            {"id": n, "bbox": box, "area": 512, "iscrowd": 0, **place} for n, box in enumerate(objects, start=1)
        ],
    }
    truth, results = tmp_path / "instances.json", tmp_path / "results.json"
    truth.write_text(json.dumps(content))
    results.write_text(json.dumps([{"bbox": box, "score": score, **place} for box, score in found]))
    figures = ours(truth, results)
    assert figures == pytest.approx(official(truth, results), abs=1e-9, nan_ok=True)
    assert figures[1] == pytest.approx(51 / 101)  # AP50: one of two objects is found
