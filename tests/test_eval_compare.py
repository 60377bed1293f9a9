"""`rcnn eval compare` and `--fail-under`: from result files to tables, JSON, CSV and exit codes."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from detect.commands.eval import app
from eval.compare import compare_runs
from structures.boxes import as_boxes
from structures.records import Detections
from tests.boxes import truth

OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
SIZE = "<size><width>100</width><height>80</height></size>"
PHOTOS = [f"photo{n}" for n in range(8)]


@pytest.fixture
def voc(tmp_path):
    """A VOC folder: a dog in each of eight photos, a cat in place of the last."""
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    for name in PHOTOS:
        body = OBJECT.format("cat" if name == PHOTOS[-1] else "dog")
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(f"<annotation>{SIZE}{body}</annotation>")
    (tmp_path / "voc" / "ImageSets/Main/val.txt").write_text("".join(f"{name}\n" for name in PHOTOS))
    return tmp_path / "voc"


def write_run(path, found, photos=PHOTOS):
    """Write results that find the object of some photos, and nothing on the others."""
    path.parent.mkdir(exist_ok=True)
    rows = [
        {
            "image": f"{name}.jpg",
            "width": 100,
            "height": 80,
            "boxes": [[0, 0, 40, 40]] * (name in found),
            "labels": ["cat" if name == PHOTOS[-1] else "dog"] * (name in found),
            "scores": [0.5] * (name in found),
        }
        for name in photos
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments, code=0, env=None):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_differences_of_runs_in_tables_json_and_csv(voc, tmp_path):
    one, two = (write_run(tmp_path / name / "detections.jsonl", PHOTOS[3 - n :]) for n, name in enumerate("ab"))
    report, table = tmp_path / "out.json", tmp_path / "out.csv"
    shown = run(
        *("compare", one, two.parent, "--ground-truth", voc, "--protocol", "voc", "--draws", 200),
        *("--json", report, "--csv", table, "--photos", 1, "--images", voc / "JPEGImages"),
        env={"FORCE_COLOR": "1", "TERM": "dumb"},  # a terminal of 80 columns; in a pipe, lines are as long as rows are
    )
    content = json.loads(report.read_text())
    first, second = content["runs"]
    assert (first["mAP"]["value"], second["mAP"]["value"]) == pytest.approx(((4 / 7 + 1) / 2, (5 / 7 + 1) / 2))
    assert second["difference"]["value"] == pytest.approx(1 / 14)
    assert second["difference"]["low"] < 1 / 14 < second["difference"]["high"]
    assert second["classes"]["dog"]["difference"]["value"] == pytest.approx(1 / 7)
    assert second["classes"]["cat"]["difference"] == {"value": 0, "standard_error": 0, "low": 0, "high": 0}
    assert second["classes"]["sofa"]["AP"]["value"] is None
    assert content["photos"][0] == {"image": "photo2", "objects": 1, "true": [0, 1], "false": [0, 0]}
    assert "B - A: +7.14 points of mAP" in shown.stdout
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["class"] for row in rows[:3]] == ["", "aeroplane", "bicycle"]
    dog = next(row for row in rows if row["run"] == str(two.parent) and row["class"] == "dog")
    assert float(dog["difference"]) == pytest.approx(1 / 7)
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_only_photos_of_all_runs_are_compared_and_the_others_are_counted(voc, tmp_path):
    one = write_run(tmp_path / "a.jsonl", PHOTOS)
    two = write_run(tmp_path / "b.jsonl", PHOTOS[2:], photos=PHOTOS[2:])
    report = tmp_path / "out.json"
    shown = run("compare", one, two, "--ground-truth", voc, "--json", report, "--draws", 20)
    content = json.loads(report.read_text())
    assert content["images"] == 6
    assert content["runs"][1]["difference"]["value"] == 0
    assert "2 images (photo0, photo1) of the ground truth left out, as not every run has a line" in shown.stderr
    assert shown.stderr.count("of the ground truth") == 1  # said once for all runs, not again for each
    apart = write_run(tmp_path / "c.jsonl", [], photos=PHOTOS[:2])
    with pytest.raises(ValueError, match="no photo of the ground truth has a line of results in every run"):
        run("compare", two, apart, "--ground-truth", voc)


def test_classes_that_one_run_never_finds_are_named(voc, tmp_path):
    one = write_run(tmp_path / "a.jsonl", PHOTOS)
    two = write_run(tmp_path / "b.jsonl", PHOTOS[:-1])
    shown = run("compare", one, two, "--ground-truth", voc, "--draws", 20)
    assert f"{two}: no detection of cat, which other runs find" in shown.stderr
    of_dogs = run("compare", one, two, "--ground-truth", voc, "--draws", 20, "--classes", "dog")
    assert "no detection of" not in of_dogs.stderr


def test_one_run_has_an_interval_and_26_are_compared_at_most(voc, tmp_path):
    file = write_run(tmp_path / "a.jsonl", PHOTOS[:4])
    shown = run("compare", file, "--ground-truth", voc, "--protocol", "voc", "--draws", 50)
    assert "A: 28.57% mAP, 95% interval" in shown.stdout
    with pytest.raises(ValueError, match="at most 26 runs to compare, got 27"):
        run("compare", *[file] * 27, "--ground-truth", voc)


def test_a_figure_below_fail_under_ends_with_code_3(voc, tmp_path):
    half = write_run(tmp_path / "a.jsonl", PHOTOS[:4])  # AP of dogs 4/7, of cats 0
    whole = write_run(tmp_path / "b.jsonl", PHOTOS)
    score = ("detections", half, "--ground-truth", voc, "--protocol", "voc", "--fail-under")
    run(*score, 0.28)
    report = tmp_path / "out.json"
    assert "mAP (voc) 0.2857 is below 0.29" in run(*score, 0.29, "--json", report, code=3).stderr
    assert json.loads(report.read_text())["mAP"] == pytest.approx(2 / 7)  # all is written nevertheless
    nothing = run(*score, 0, "--classes", "car", code=3).stderr  # no photo shows one
    assert "mAP (voc) cannot be measured, and does not reach 0 (--fail-under)" in nothing
    pair = ("--ground-truth", voc, "--draws", 10, "--fail-under", -0.01)
    run("compare", half, whole, *pair)
    run("compare", whole, whole, *pair)
    lower = run("compare", whole, whole, half, *pair, code=3).stderr
    assert "C - A: difference in mAP -0.7273 is below -0.01 (--fail-under)" in lower
    with pytest.raises(ValueError, match="--fail-under needs at least two runs"):
        run("compare", whole, *pair)
    run("detections", half, "--ground-truth", voc, "--classes", "sofa", "--fail-under", 0, code=3)
    run("detections", half, "--ground-truth", voc, "--fail-under", 50, code=2)  # percent are not taken


def test_photos_are_ranked_by_true_less_false_detections():
    def found(*boxes):
        return Detections(as_boxes(boxes), np.zeros(len(boxes)), np.full(len(boxes), 0.5), (100, 100))

    box, far = [0, 0, 40, 40], [60, 60, 90, 90]
    truths = [truth(box, name=name) for name in "abc"]
    one, two = [found(box), found(box), found(far)], [found(box), found(far), found()]
    photos = compare_runs("voc", truths, [one, two], ["x"], draws=5).photos
    assert [(photo.image_id, photo.found, photo.false) for photo in photos] == [
        ("b", (1, 0), (0, 1)),  # two apart
        ("c", (0, 0), (1, 0)),
        ("a", (1, 1), (0, 0)),
    ]


def test_a_split_is_compared_and_photos_beyond_it_are_left_out_where_that_is_allowed(voc, tmp_path):
    (voc / "ImageSets/Main/half.txt").write_text("".join(f"{name}\n" for name in PHOTOS[:4]))
    pair = [write_run(tmp_path / name, PHOTOS[:found]) for name, found in (("a.jsonl", 4), ("b.jsonl", 2))]
    words = ("compare", *pair, "--ground-truth", voc, "--split", "half", "--draws", 20)
    with pytest.raises(ValueError, match=r"photo4\.jpg is not in the ground truth \(`allow_extra=True`"):
        run(*words)
    run(*words, "--allow-extra", "--json", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["images"] == 4
    assert content["runs"][0]["classes"]["dog"]["AP"]["value"] == 1


def test_the_seed_decides_what_is_drawn(voc, tmp_path):
    pair = write_run(tmp_path / "a.jsonl", PHOTOS[:5]), write_run(tmp_path / "b.jsonl", PHOTOS[2:])
    intervals = []
    for seed in (1, 2, 1):
        run("compare", *pair, "--ground-truth", voc, "--draws", 30, "--seed", seed, "--json", tmp_path / "out.json")
        intervals.append(json.loads((tmp_path / "out.json").read_text())["runs"][1]["difference"])
    assert intervals[0] == intervals[2] != intervals[1]
