"""`rcnn propose` from photos to a folder of boxes, and back through `file:`."""

import json
import shutil
import sys

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from detect.ahead import Prepared, prepare_ahead
from detect.cli import main
from detect.detector import Detector
from detect.propose import Plan, carry_out
from detect.sources import Photo
from proposals.baselines import Random
from proposals.generators import build
from proposals.ranking import Ranked
from proposals.store import ProposalStore
from structures.images import read_image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "sub/a.png"]):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3)).repeat(5, axis=0).repeat(5, axis=1)
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def rcnn(monkeypatch):
    """Run the command line in this process; return its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rcnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0

    return run


def test_boxes_of_a_folder_and_back(photos, tmp_path, rcnn):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--workers", 2) == 0
    store = ProposalStore(out)
    assert sorted(store.image_ids) == ["a.png", "b.png", "sub/a.png"]
    again = build(f"file:{out}")
    for image_id in store.image_ids:
        image = read_image(photos / image_id)
        expected = build("selective-search")(image)
        for found in (again(image), store.named(image_id)):
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            np.testing.assert_array_equal(found.scores, expected.scores)
            assert found.image_size == (45, 60)


def test_manifest_says_how(photos, tmp_path, rcnn):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--factor", 4, "--seed", 3, "--max-boxes", 2) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert {strategy["k"] for strategy in manifest["parameters"]["strategies"]} == {200, 400}
    assert manifest["parameters"]["seed"] == 3
    assert manifest["max_boxes"] == 2
    assert manifest["photos"] == 3
    assert manifest["versions"]["numba"]
    assert all(len(ProposalStore(out).named(name)) <= 2 for name in ("a.png", "b.png", "sub/a.png"))


def test_own_strategies(photos, tmp_path, rcnn, capsys):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--strategy", "RGB:TF:30", "--strategy", "C:S:40:9") == 0
    found = ProposalStore(out).manifest["parameters"]["strategies"]
    assert found == [
        {"colour_space": "RGB", "similarity": "TF", "k": 30, "min_size": 30},
        {"colour_space": "C", "similarity": "S", "k": 40, "min_size": 9},
    ]
    assert rcnn("propose", photos, "--out", tmp_path / "x", "--strategy", "RGB:TF") == 2
    assert "SPACE:SIMILARITY:K" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_second_run_only_does_what_is_new(photos, tmp_path, rcnn, capsys, monkeypatch):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos / "a.png", photos / "sub", "--out", out, "--generator", "grid") == 0
    PIL.Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photos / "sub" / "a.png")  # another photo, same name
    assert rcnn("propose", photos, "--out", out, "--generator", "grid") == 0
    assert "1 of 3 photos are done already" in capsys.readouterr().err
    store = ProposalStore(out)
    assert store.named("sub/a.png").image_size == (30, 30)
    assert sorted(store.image_ids) == ["a.png", "b.png", "sub/a.png"]


def test_other_settings_do_not_mix(photos, tmp_path, rcnn, capsys):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--generator", "grid") == 0
    assert rcnn("propose", photos, "--out", out, "--generator", "random") == 2
    assert "another generator and parameters" in capsys.readouterr().err
    assert rcnn("propose", photos, "--out", out, "--generator", "grid", "--exif", "ignore") == 2


def test_bad_photos_are_named_and_counted(photos, tmp_path, rcnn, capsys):
    (photos / "bad.jpg").write_text("no picture")
    (photos / "empty.png").write_bytes(b"")
    assert rcnn("propose", photos, "--out", tmp_path / "boxes", "--generator", "grid") == 1
    told = capsys.readouterr().err
    assert "2 of 5 photos were skipped" in told
    assert "bad.jpg" in told
    assert "empty.png" in told
    assert len(ProposalStore(tmp_path / "boxes")) == 3
    assert rcnn("propose", photos / "bad.jpg", "--out", tmp_path / "none", "--generator", "grid") == 2


@pytest.mark.parametrize("arguments", [["--generator", "nothing"], ["--generator", "grid", "--factor", "2"]])
def test_wrong_use_is_one_line(photos, tmp_path, rcnn, capsys, arguments):
    assert rcnn("propose", photos, "--out", tmp_path / "boxes", *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "boxes").exists()


def test_boxes_of_another_program_become_a_store(photos, tmp_path, rcnn, capsys):
    entries = [{"image_id": 7, "bbox": [5, 5, 20, 30], "score": 0.5}]
    (tmp_path / "theirs.json").write_text(json.dumps(entries))
    shutil.copy(photos / "a.png", photos / "000007.png")
    (photos / "a.png").unlink()
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--generator", f"file:{tmp_path / 'theirs.json'}") == 1
    assert "has no photo 'b.png'" in capsys.readouterr().err
    found = build(f"file:{out}")(read_image(photos / "000007.png"))
    assert found.boxes.tolist() == [[5, 5, 25, 35], [0, 0, 60, 45]]


class Half:
    """A classifier that is half sure of everything."""

    classes = ("thing",)

    def __call__(self, image, boxes):
        return np.full((len(boxes), 2), 0.5, np.float32)


@pytest.mark.parametrize("ranked", [False, True])
def test_stored_boxes_give_the_detections_of_their_generator(photos, tmp_path, ranked):
    """Scores that tell how well a box fits still do when they come out of a folder, and only those."""
    generator = Random(count=40)
    if ranked:
        generator = Ranked(generator, lambda image, boxes: (boxes[:, 2] / 60).astype(np.float32), {"by": "right edge"})
    found = [Photo("a.png", photos / "a.png"), Photo("b.png", photos / "b.png")]
    for name, source in (("boxes", generator), ("copy", f"file:{tmp_path / 'boxes'}")):
        made_by = build(source) if isinstance(source, str) else source
        assert carry_out(Plan(found, tmp_path / name), made_by, Console(quiet=True)).done == 2
        stored = build(f"file:{tmp_path / name}")
        assert stored.parameters.get("scores_tell_fit", False) is ranked
        direct, looked_up = Detector(generator, Half()), Detector(stored, Half())
        assert looked_up.weigh_by_fit is ranked
        for photo in found:
            expected, got = direct(read_image(photo.path)), looked_up(read_image(photo.path))
            assert len(expected) > 1
            assert (len(set(expected.scores.tolist())) > 1) is ranked
            for column in ("boxes", "labels", "scores"):
                np.testing.assert_array_equal(getattr(got, column), getattr(expected, column))


def test_a_failing_generator_does_not_stop_the_rest(photos):
    def propose(image):
        raise RuntimeError("odd photo")

    results = list(prepare_ahead([Photo("a", photos / "a.png")], propose))
    assert not isinstance(results[0], Prepared)
    assert "odd photo" in results[0].reason
