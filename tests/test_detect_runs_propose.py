"""`rcnn propose` from photos to a folder of boxes, and back through `file:`."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console

from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from classifier.weights.preprocessing import CAFFE
from detect.detector import Detector
from detect.flow import flow
from detect.runs.photos import Photo
from detect.runs.propose import ProposalJob, propose_to_folder, proposing_stages
from detect.runs.reading import PhotoReader, complaint
from proposals.baselines import Random
from proposals.generators import build
from proposals.ranking import Ranked
from proposals.stored.reader import ProposalStore
from structures.images import ORIENTATION, read_image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "sub/a.png"]):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3)).repeat(5, axis=0).repeat(5, axis=1)
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder


def test_boxes_of_a_folder_and_back(photos, tmp_path, rcnn):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--workers", 2, "--device", "cpu") == 0
    store = ProposalStore(out)
    assert sorted(store.image_ids) == ["a.png", "b.png", "sub/a.png"]
    again = build(f"file:{out}")
    for image_id in store.image_ids:
        image = read_image(photos / image_id)
        expected = build("selective-search")(image)
        for found in (again(image), store.proposals_of(image_id)):
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            np.testing.assert_array_equal(found.scores, expected.scores)
            assert found.image_size == (45, 60)


def test_manifest_says_how(photos, tmp_path, rcnn):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--factor", 4, "--seed", 3, "--max-boxes", 2, "--width", 50) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert {strategy["k"] for strategy in manifest["parameters"]["strategies"]} == {200, 400}
    assert (manifest["parameters"]["seed"], manifest["parameters"]["width"]) == (3, 50)
    assert manifest["max_boxes"] == 2
    assert manifest["photos"] == 3
    assert manifest["versions"]["numba"]
    assert all(len(ProposalStore(out).proposals_of(name)) == 2 for name in ("a.png", "b.png", "sub/a.png"))


def test_a_rate_needs_more_photos_than_a_handful(tmp_path, rcnn, capsys):
    """The first photos of the workers begin and end together, which would look like thousands a second."""
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 30, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for workers, told in ((2, False), (1, True)):
        out = tmp_path / f"with {workers}"
        assert rcnn("propose", tmp_path / "*.png", "--out", out, "--proposals", "grid", "--workers", workers) == 0
        assert ("photos/s with" in capsys.readouterr().err) is told


@pytest.mark.parametrize("name", ["boxes [red]", "boxes [", "[/b]"])
def test_a_folder_with_square_brackets_is_shown_by_its_name(photos, tmp_path, rcnn, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert rcnn("propose", photos / "a.png", "--out", f"out{name}", "--proposals", "grid") == 0
    assert f"out{name}" in capsys.readouterr().err


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
    assert rcnn("propose", photos / "a.png", photos / "sub", "--out", out, "--proposals", "grid") == 0
    PIL.Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photos / "sub" / "a.png")  # another photo, same name
    assert rcnn("propose", photos, "--out", out, "--proposals", "grid") == 0
    assert "1 of 3 photos done already" in capsys.readouterr().err
    store = ProposalStore(out)
    assert store.proposals_of("sub/a.png").image_size == (30, 30)
    assert sorted(store.image_ids) == ["a.png", "b.png", "sub/a.png"]


DYING = """
import os, signal
import proposals.stored.writer as store_writer
from detect.cli import main

def add(self, *photo, usual=store_writer.StoreWriter.add):
    if len(self.known) == 7:  # not in the generator, which is some photos ahead
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, *photo)

store_writer.SHARD_PHOTOS, store_writer.StoreWriter.add = 3, add
main()
"""


def test_killed_in_the_middle_it_goes_on(tmp_path, rcnn, capsys):
    """SIGKILL cannot be caught: what is on disk at that moment is all there is."""
    (tmp_path / "photos").mkdir()
    for number in range(10):
        PIL.Image.fromarray(np.full((20, 30, 3), (number, 0, 0), np.uint8)).save(tmp_path / f"photos/{number}.png")
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = ["propose", tmp_path / "photos", "--proposals", "grid", "--workers", "1", "--out"]
    command = [sys.executable, "-c", DYING, *map(str, arguments), str(out)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(ProposalStore(out)) == 6
    assert rcnn(*arguments, out) == 0
    assert "6 of 10 photos done already" in capsys.readouterr().err
    assert rcnn(*arguments, whole) == 0
    assert json.loads((out / "manifest.json").read_text())["photos"] == 10
    assert ProposalStore(out).image_ids == ProposalStore(whole).image_ids
    for image_id in ProposalStore(whole).image_ids:
        np.testing.assert_array_equal(
            ProposalStore(out).proposals_of(image_id).boxes, ProposalStore(whole).proposals_of(image_id).boxes
        )


def test_grey_and_16_bit_photos_get_the_same_boxes(photos, tmp_path, rcnn):
    grey = np.asarray(PIL.Image.open(photos / "a.png"))[:, :, 0]
    folder = tmp_path / "kinds"
    folder.mkdir()
    PIL.Image.fromarray(grey).save(folder / "grey.png")
    PIL.Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen.png")
    PIL.Image.fromarray(np.stack([grey] * 3, axis=2)).save(folder / "rgb.png")
    assert rcnn("propose", folder, "--out", tmp_path / "boxes") == 0
    store = ProposalStore(tmp_path / "boxes")
    for name in ("grey.png", "sixteen.png"):
        np.testing.assert_array_equal(store.proposals_of(name).boxes, store.proposals_of("rgb.png").boxes)


def test_detections_from_stored_boxes_are_those_of_the_generator(photos, tmp_path, rcnn):
    weights = tmp_path / "weights.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = GoogLeNet(3).state_dict()
    save_checkpoint(Checkpoint(state, ("cat", "dog"), replace(CAFFE, size=32, context=2), "paper", "regions"), weights)
    boxes = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", boxes, "--proposals", "grid") == 0
    shared = ["detect", photos, "--weights", weights, "--device", "cpu", "--engine", "torch", "--score", "0"]
    lines = []
    for generator in ("grid", f"file:{boxes}"):
        out = tmp_path / generator.partition(":")[0]
        assert rcnn(*shared, "--proposals", generator, "--max-boxes", "5", "--out", out) == 0
        lines.append((out / "detections.jsonl").read_text())
    assert lines[0] == lines[1]
    assert lines[0].count('"grid"') > 6


@pytest.mark.parametrize(("exif", "size"), [("apply", (30, 40)), ("ignore", (40, 30))])
def test_boxes_are_of_the_photo_as_it_is_shown_or_as_it_is_stored(tmp_path, rcnn, exif, size):
    turned = PIL.Image.Exif()
    turned[ORIENTATION] = 6
    PIL.Image.new("RGB", (30, 40)).save(tmp_path / "a.jpg", exif=turned)
    out = tmp_path / "boxes"
    assert rcnn("propose", tmp_path / "a.jpg", "--out", out, "--proposals", "grid", "--exif", exif) == 0
    assert ProposalStore(out).proposals_of("a.jpg").image_size == size


def test_other_settings_do_not_mix(photos, tmp_path, rcnn, capsys):
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--proposals", "grid") == 0
    assert rcnn("propose", photos, "--out", out, "--proposals", "random") == 2
    assert "another way (generator, parameters)" in capsys.readouterr().err
    assert rcnn("propose", photos, "--out", out, "--proposals", "grid", "--exif", "ignore") == 2


def test_bad_photos_are_named_and_counted(photos, tmp_path, rcnn, capsys):
    (photos / "bad.jpg").write_text("no picture")
    (photos / "empty.png").write_bytes(b"")
    assert rcnn("propose", photos, "--out", tmp_path / "boxes", "--proposals", "grid") == 1
    told = capsys.readouterr().err
    assert "2 of 5 photos skipped" in told
    assert "bad.jpg" in told
    assert "empty.png" in told
    assert len(ProposalStore(tmp_path / "boxes")) == 3
    assert rcnn("propose", photos / "bad.jpg", "--out", tmp_path / "none", "--proposals", "grid") == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--proposals", "nothing"], "unknown proposal generator 'nothing'; known: edge-boxes, "),
        (["--proposals", "grid", "--factor", "2"], "grid takes no option factor"),
        (["--proposals", "random", "--seed", "-1"], "the seed must be from 0 to 4294967295, got -1"),
        (["--seed", "-1"], "the seed must be from 0 to 4294967295, got -1"),
        *((["--factor", factor], "must be a number above 0, got") for factor in ("inf", "nan", "0")),
        (["--factor", "1e30"], "neither above 2147483647; got 5e+31"),
        (["--strategy", "HSV:C:1e30"], "k must be above 0"),
        (["--strategy", "HSV:C:100:99999999999999999999999"], "got 100 and 1e+23"),
        (["--strategy", "HSV:C:nan"], "strategy 'HSV:C:nan': k must be above 0, min_size not below 0"),
        (["--strategy", "HSV:C:inf"], "got inf and 0"),
    ],
)
def test_wrong_use_is_one_line(photos, tmp_path, rcnn, capsys, arguments, complaint):
    assert rcnn("propose", photos, "--out", tmp_path / "boxes", *arguments) == 2
    shown = capsys.readouterr().err
    assert complaint in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "boxes").exists()


def test_boxes_of_another_program_become_a_store(photos, tmp_path, rcnn, capsys):
    entries = [{"image_id": 7, "bbox": [5, 5, 20, 30], "score": 0.5}]
    (tmp_path / "theirs.json").write_text(json.dumps(entries))
    shutil.copy(photos / "a.png", photos / "000000000007.png")
    (photos / "a.png").unlink()
    out = tmp_path / "boxes"
    assert rcnn("propose", photos, "--out", out, "--proposals", f"file:{tmp_path / 'theirs.json'}") == 1
    assert "has no photo 'b.png'" in capsys.readouterr().err
    found = build(f"file:{out}")(read_image(photos / "000000000007.png"))
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
        assert propose_to_folder(ProposalJob(found, tmp_path / name), made_by, Console(quiet=True)).done == 2
        stored = build(f"file:{tmp_path / name}")
        assert stored.parameters.get("scores_tell_fit", False) is ranked
        direct, looked_up = Detector(generator, Half()), Detector(stored, Half())
        assert looked_up.options.weigh_by_fit is ranked
        for photo in found:
            expected, got = direct(read_image(photo.path)), looked_up(read_image(photo.path))
            assert len(expected) > 1
            assert (len(set(expected.scores.tolist())) > 1) is ranked
            for column in ("boxes", "labels", "scores"):
                np.testing.assert_array_equal(getattr(got, column), getattr(expected, column))


def test_a_failing_generator_does_not_stop_the_rest(photos):
    def propose(image):
        raise RuntimeError("odd photo")

    stages = proposing_stages(propose, PhotoReader())
    (passed,) = flow([Photo("a", photos / "a.png")], stages)
    assert complaint(passed) == f"{photos / 'a.png'}: no proposals: RuntimeError: odd photo"


def test_names_of_windows_find_their_photos(photos, tmp_path, rcnn):
    sides = [{"image_id": name, "bbox": [0, 0, 10, 20], "score": 1} for name in ("a.png", "b.png", "sub\\a.png")]
    (tmp_path / "boxes.json").write_text(json.dumps(sides))
    assert rcnn("propose", photos, "--proposals", f"file:{tmp_path / 'boxes.json'}", "--out", tmp_path / "out") == 0
    store = ProposalStore(tmp_path / "out")
    assert store.proposals_of("sub/a.png").boxes.tolist() == [[0, 0, 10, 20], [0, 0, 60, 45]]


def test_boxes_of_another_size_of_the_photos_are_counted_and_one_is_named(photos, tmp_path, rcnn, capsys):
    sides = [{"image_id": "a.png", "bbox": [x, 0, 10, 20], "score": 1} for x in (0, 300, 500)]
    sides += [{"image_id": "b.png", "bbox": [0, 0, 10, 20]}, {"image_id": "sub/a.png", "bbox": [0, 0, 0, 20]}]
    (tmp_path / "boxes.json").write_text(json.dumps(sides))
    assert rcnn("propose", photos, "--proposals", f"file:{tmp_path / 'boxes.json'}", "--out", tmp_path / "out") == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "boxes.json: 3 of 5 boxes on 2 of 3 photos outside the photo or without area, such as" in told
    assert "[300, 0, 310, 20] on a.png (60 x 45 pixels); most likely the photos had another size" in told
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 45}]
    objects = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 20]}]
    truth = {"images": images, "categories": [{"id": 1, "name": "dog"}], "annotations": objects}
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    (tmp_path / "boxes.json").write_text(json.dumps(sides[:3]))
    assert rcnn("eval", "proposals", tmp_path / "boxes.json", "--ground-truth", tmp_path / "instances.json") == 0
    assert "warning: 2 of 3 boxes on 1 of 1 photo outside the photo" in " ".join(capsys.readouterr().err.split())
