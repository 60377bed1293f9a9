"""`rcnn bench proposals`: turns that are fair, figures that agree with the evaluation, a run that resumes."""

import json

import numpy as np
import PIL.Image
import pytest

from detect.bench.proposals import Contestant, contestants, time_in_turn, time_rows
from detect.bench.timing import or_nan
from detect.consoles import open_console
from structures.boxes import whole_image
from structures.cores import cores
from structures.records import Proposals
from tests.shapes import write_cats


class Slow:
    """A generator that takes a given time on a clock of its own."""

    parameters = {}  # noqa: RUF012

    def __init__(self, name, seconds, clock):
        self.name, self._seconds, self._clock, self.seen = name, seconds, clock, []

    def __call__(self, image):
        self._clock.now += self._seconds * (100 if not self.seen else 1)  # the first photo compiles
        self.seen.append(int(image[0, 0, 0]))
        size = (image.shape[0], image.shape[1])
        return Proposals(whole_image(size), np.ones(1, np.float32), size)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_every_contestant_gets_every_photo_and_warming_up_is_not_counted():
    clock = Clock()
    slow, quick = Slow("slow", 2.0, clock), Slow("quick", 0.5, clock)
    entries = [Contestant("slow", 1, slow), Contestant("quick", 1, quick)]
    seconds = time_in_turn(entries, (np.full((4, 4, 3), i, np.uint8) for i in range(4)), clock)
    assert slow.seen == quick.seen == [0, 1, 2, 3]
    np.testing.assert_allclose(seconds, [[2.0, 0.5]] * 3)
    figures = time_rows(entries, seconds)
    assert figures["quick", 1]["times as fast as the first"] == pytest.approx(4)
    assert figures["slow", 1]["times as fast as the first"] == pytest.approx(1)


def test_a_generator_that_fails_on_a_photo_is_not_timed_on_it_and_costs_the_others_nothing(capsys):
    class Failing(Slow):
        def __call__(self, image):
            if image[0, 0, 0] == 2:
                raise RuntimeError("no boxes today")
            return super().__call__(image)

    clock = Clock()
    entries = [Contestant("failing", 1, Failing("failing", 2.0, clock)), Contestant("quick", 1, Slow("q", 0.5, clock))]
    tolerant = or_nan(["failing", "quick"], open_console(stderr=True))
    seconds = time_in_turn(entries, (np.full((4, 4, 3), i, np.uint8) for i in range(4)), clock, tolerant)
    np.testing.assert_allclose(seconds, [[2.0, 0.5], [np.nan, 0.5], [2.0, 0.5]])
    assert capsys.readouterr().err == "not timed on every photo: failing: RuntimeError: no boxes today\n"
    assert time_rows(entries, seconds)["quick", 1]["times as fast as the first"] == pytest.approx(4)


def test_one_photo_cannot_be_timed():
    with pytest.raises(ValueError, match="at least 2 photos are needed for timing"):
        time_in_turn([], [np.zeros((4, 4, 3), np.uint8)])


def test_ours_runs_with_one_thread_and_with_all():
    found = [(entry.name, entry.threads) for entry in contestants(["grid", "selective-search"])]
    assert found == [("grid", 1), *(("selective-search", n) for n in sorted({1, cores()}))]


@pytest.fixture
def voc(tmp_path):
    """Three photos with a bright object each."""
    return write_cats(tmp_path / "VOC")


def test_figures_are_those_of_the_evaluation(voc, tmp_path, rcnn, capsys):
    wanted = ["--proposals", "opencv-selective-search", "--proposals", "selective-search"]
    files = ["--out", tmp_path / "boxes", "--json", tmp_path / "bench.json", "--plot", tmp_path / "bench.png"]
    files += ["--csv", tmp_path / "bench.csv"]
    assert rcnn("bench", "proposals", "--ground-truth", voc, "--timed", 9, *wanted, *files) == 0
    told = capsys.readouterr()
    assert "timing 2 photos, after one to warm up" in told.err  # there are three
    assert "on 2 photos: median" in told.out
    assert "selective-search" in told.out
    assert "MABO" in told.out
    found = json.loads((tmp_path / "bench.json").read_text())
    assert (found["timed"], found["photos"]) == (2, 3)
    assert [row["threads"] for row in found["speed"]] == [1, *sorted({1, cores()})]
    assert all(row["seconds"] > 0 for row in found["speed"])
    with PIL.Image.open(tmp_path / "bench.png") as plot:
        assert plot.size[0] > 500

    evaluated = tmp_path / "eval.json"
    assert (
        rcnn("eval", "proposals", tmp_path / "boxes/selective-search", "--ground-truth", voc, "--json", evaluated) == 0
    )
    figures = json.loads(evaluated.read_text())
    quality = found["quality"]["selective-search"]
    assert quality["recall@0.50"] == pytest.approx(figures["recall@0.50"])
    assert quality["MABO"] == pytest.approx(figures["MABO"])
    assert quality["recall@0.50"] == 1  # a bright square on a dark ground is not missed


def test_boxes_of_an_earlier_run_are_used_again(voc, tmp_path, rcnn, capsys):
    command = [
        "bench",
        "proposals",
        "--ground-truth",
        voc,
        "--timed",
        0,
        "--proposals",
        "grid",
        "--out",
        tmp_path / "b",
    ]
    assert rcnn(*command, "--photos", 2) == 0
    capsys.readouterr()
    assert rcnn(*command) == 0
    assert "2 of 3 photos done already" in capsys.readouterr().err


def test_a_photo_damaged_since_has_no_boxes_and_no_time(voc, tmp_path, rcnn, capsys):
    arguments = ["bench", "proposals", "--ground-truth", voc, "--proposals", "grid", "--out", tmp_path / "boxes"]
    assert rcnn(*arguments, "--timed", 0, "--json", tmp_path / "before.json") == 0
    (voc / "JPEGImages" / "1.jpg").write_text("no picture")
    assert rcnn(*arguments, "--timed", 3, "--json", tmp_path / "after.json") == 1
    said = capsys.readouterr()
    assert "not timed" in said.err
    assert "grid: 1 of 3 photos could not be processed, and count as without boxes" in said.out + said.err
    before, after = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after"))
    assert after["timed"] == 1
    assert after["quality"]["grid"]["boxes"] == pytest.approx(before["quality"]["grid"]["boxes"] * 2 / 3)
    assert after["quality"]["grid"]["MABO"] < before["quality"]["grid"]["MABO"]


def test_photos_without_objects_have_no_recall(voc, tmp_path, rcnn):
    for path in (voc / "Annotations").iterdir():
        path.write_text("<annotation><size><width>120</width><height>90</height></size></annotation>")
    command = ["bench", "proposals", "--ground-truth", voc, "--timed", 0, "--proposals", "grid", "--device", "cpu"]
    photos = ["--split", "val", "--images", voc / "JPEGImages"]
    assert rcnn(*command, *photos, "--json", tmp_path / "bench.json") == 0
    assert json.loads((tmp_path / "bench.json").read_text())["quality"]["grid"]["recall@0.50"] is None


def test_an_unknown_generator_is_named(voc, rcnn, capsys):
    assert rcnn("bench", "proposals", "--ground-truth", voc, "--proposals", "nothing-such") == 2
    assert "nothing-such" in capsys.readouterr().err


def test_boxes_that_are_read_are_not_written_over(voc, tmp_path, rcnn, capsys):
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"0": [[0, 0, 9, 9]]}')
    assert rcnn("bench", "proposals", "--ground-truth", voc, "--generator", f"file:{boxes}", "--json", boxes) == 2
    assert "would be written over an input" in capsys.readouterr().err
    assert boxes.read_text() == '{"0": [[0, 0, 9, 9]]}'
