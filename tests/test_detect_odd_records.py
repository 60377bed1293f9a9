"""What runs wrote about themselves, damaged or made up by others: one line that names the file, and nothing lost."""

import json
from pathlib import Path

import pytest
import torch

from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from detect.networks.multibox import from_checkpoint, learned_classes
from detect.runs.exports import export
from detect.runs.record import RunError, RunRecord
from detect.runs.results import ResultsFolder
from detect.training.folder import require_same_origin
from eval.results import ResultsError, read_lines
from structures.files import FileRefused
from structures.own_files import OwnFiles

LINE = {"image": "a.jpg", "width": 9, "height": 8, "boxes": [[1, 2, 3, 4]], "labels": ["dog"], "scores": [0.5]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"settings": {}, "runs": 7}', "was written by another program"),
        ('{"settings": {}, "runs": {"a": 1}}', "was written by another program"),
        ('{"settings": {}, "runs": [null]}', "was written by another program"),
        ('{"settings": 7, "runs": []}', "was written by another program"),
        ('{"settings": {}, "runs": [{"started": "", "placement": 3}]}', "'placement' in 'runs' is not a list of texts"),
        ('{"settings": {}, "runs": [{"started": "", "placement": [[]]}]}', "is not a list of texts"),
        ('{"settings": {}, "runs": [{"started": "", "seconds": NaN}]}', "a number that is not finite"),
        ('{"settings": {}, "runs": [{"started": "", "seconds": 1e999}]}', "a number that is not finite"),
        ('{"settings": {}, "settings": {"a": 1}}', "the key 'settings' appears twice"),
        ("[" * 100_000, "nested deeper"),
        ('{"settings": {}, "runs": [' + "1" * 5000 + "]}", "too many digits"),
    ],
)
def test_odd_records_of_runs(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=rf"run\.json: .*{reason}.* name another `out`"):
        RunRecord(tmp_path, {}, in_use=True)
    assert (tmp_path / "run.json").read_text() == content


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"image": "b", "image": "c"}', '{"image": ' + "1" * 5000 + "}", "\xe9"]
)
def test_lines_that_cannot_be_read_are_damaged_lines(tmp_path: Path, line: str) -> None:
    RunRecord(tmp_path, {})
    content = f"{json.dumps(LINE)}\n{line}\n{json.dumps(LINE)}\n".encode("latin1")
    (tmp_path / "detections.jsonl").write_bytes(content)
    with pytest.raises(
        FileRefused, match=r"detections\.jsonl: line 2: .*; it is damaged, or was written by another program"
    ):
        ResultsFolder(tmp_path)
    with pytest.raises(ResultsError, match=r"detections\.jsonl: line 2: "):
        read_lines(tmp_path / "detections.jsonl")
    assert (tmp_path / "detections.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": ["a"]}, "no image"),
        ({"image": "/"}, "no image"),
        ({"image": True}, "no image"),
        ({"width": 0}, "width must be a whole number"),
        ({"width": 10**400}, "width must be a whole number"),
        ({"height": 1e300}, "height must be a whole number"),
        ({"height": "8"}, "height must be a whole number"),
        ({"boxes": {"a": 1}}, "a.jpg: "),
        ({"labels": 3}, "a.jpg: "),
    ],
)
def test_odd_types_in_lines_of_results(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    (tmp_path / "detections.jsonl").write_text(json.dumps({**LINE, **change}) + "\n")
    with pytest.raises(ResultsError, match=rf"detections\.jsonl: line 1: .*{reason}"):
        read_lines(tmp_path / "detections.jsonl")


def test_a_class_that_the_run_does_not_know_is_named(tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text(json.dumps(LINE) + "\n")
    unknown = r"detections\.jsonl: line 1: a\.jpg: 'dog' is not a class of this run"
    with OwnFiles(tmp_path) as files, pytest.raises(ValueError, match=unknown):
        export(files, "voc", ["cat"])


@pytest.mark.parametrize("content", ["[]", "7", "[" * 100_000, '{"a": 1, "a": 2}', '{"a": ' + "1" * 5000 + "}"])
def test_odd_records_of_trainings(tmp_path: Path, content: str) -> None:
    (tmp_path / "start.json").write_text(content)
    with pytest.raises(WeightsError, match=r"start\.json: not a readable record .*; go away"):
        require_same_origin(tmp_path / "start.json", {"a": 1}, remedy="go away")


@pytest.mark.parametrize(
    ("training", "shapes", "reason"),
    [
        ({}, (4, 3, 2), "width"),
        ({"multibox": 7}, (4, 3, 2), "width"),
        ({"multibox": {"width": 10**9}}, (4, 3, 2), "width"),
        ({"multibox": {"width": True}}, (4, 3, 2), "width"),
        ({"multibox": {"width": 8}}, (3,), "head.shapes"),
        ({"multibox": {"width": 8}}, (4, 10_000, 2), "head.shapes"),
    ],
)
def test_odd_metadata_of_multibox_weights(training: dict[str, object], shapes: tuple[int, ...], reason: str) -> None:
    checkpoint = Checkpoint({"head.shapes": torch.ones(shapes)}, (), task="multibox", training=training)
    with pytest.raises(WeightsError, match=reason):
        from_checkpoint(checkpoint)


def test_learned_classes_of_another_type_count_as_none() -> None:
    odd = Checkpoint({}, (), task="multibox", training={"classes": 7})
    assert learned_classes(odd) == ()
