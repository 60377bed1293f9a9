"""Results on disk survive kills, are added to, and are never mixed with those of other settings."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.found import as_entry
from detect.runs.exports import export, require_exportable
from detect.runs.machine import commit, peak_memory, usual_readers, versions
from detect.runs.record import RunError, RunRecord, differences
from detect.runs.results import SKIPPED_FILE, ResultsFolder
from eval.coco import CocoDataset
from eval.coco_results import read_coco_results
from eval.results import DETECTIONS_FILE, ResultsError, read_line, read_lines, require_line
from structures.file_digests import stamp_of
from structures.files import FileRefused, file_digest
from structures.own_files import OwnFiles
from structures.records import Detections

CLASSES = ("cat", "dog")


def found(*scores: float, size: tuple[int, int] = (30, 40)) -> Detections:
    boxes = [[0.1, 1, 10 + i, 20] for i in range(len(scores))]
    labels = [i % 2 for i in range(len(scores))]
    sources = [(i + 1) % 2 for i in range(len(scores))]
    return Detections(boxes, labels, list(scores), size, sources, ("random", "grid"))  # type: ignore[arg-type]


def begun(folder: Path) -> Path:
    """Make the folder of a run."""
    RunRecord(folder, {})
    return folder


def fill(folder: Path, *names: str) -> None:
    with ResultsFolder(begun(folder)) as results:
        for name in names:
            results.write(name, found(0.9, 0.1), CLASSES)


def exported(folder: Path, *how: Any, **more: Any) -> list[Path]:
    with OwnFiles(folder) as files:
        return export(files, *how, **more)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_what_the_command_promises() -> None:
    entry = as_entry("a/b.jpg", found(0.9, 0.25), CLASSES)
    assert list(entry) == ["image", "width", "height", "boxes", "labels", "scores", "sources"]
    assert (entry["image"], entry["width"], entry["height"]) == ("a/b.jpg", 40, 30)
    assert (entry["labels"], entry["sources"]) == (["cat", "dog"], ["grid", "random"])


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 999, (50, 2, 2)), axis=1).reshape(50, 4).astype(np.float32)
    scores = rng.uniform(0, 1, 50).astype(np.float32)
    with ResultsFolder(tmp_path) as results:
        results.write("a.jpg", Detections(boxes, np.zeros(50, np.int64), scores, (999, 999)), CLASSES)
    (line,), _ = read_lines(tmp_path / DETECTIONS_FILE)
    np.testing.assert_array_equal(line.found.boxes, boxes)
    np.testing.assert_array_equal(line.found.scores, scores)


def test_convention_a_photo_without_detections_has_a_line_of_empty_columns(tmp_path: Path) -> None:
    with ResultsFolder(tmp_path) as results:
        results.write("empty.jpg", found(), CLASSES)
    (entry,) = lines(tmp_path / DETECTIONS_FILE)
    assert entry["boxes"] == entry["labels"] == entry["scores"] == []


def test_results_are_added_to(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    with ResultsFolder(tmp_path) as results:
        assert results.done.keys() == {"a.jpg"}
        results.write("b.jpg", found(0.5), CLASSES)
    assert [entry["image"] for entry in lines(tmp_path / DETECTIONS_FILE)] == ["a.jpg", "b.jpg"]
    assert not (tmp_path / SKIPPED_FILE).exists()  # nothing was skipped


def test_each_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with ResultsFolder(tmp_path) as results:
        results.write("a.jpg", found(0.5), CLASSES)
        results.skip("b.jpg", "empty")
        assert len(lines(tmp_path / DETECTIONS_FILE)) == len(lines(tmp_path / SKIPPED_FILE)) == 1


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_torn_last_line_is_cut_off_and_its_photo_done_again(tmp_path: Path, kept: int) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    path = tmp_path / DETECTIONS_FILE
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    with ResultsFolder(tmp_path) as results:
        if kept == -1:  # only the line's end was missing
            assert results.done.keys() == {"a.jpg", "b.jpg"}
        else:
            assert results.done.keys() == {"a.jpg"}
            results.write("b.jpg", found(0.9, 0.1), CLASSES)
    assert path.read_bytes() == first + second


def test_a_torn_line_is_cut_off_even_if_nothing_is_added(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    with (tmp_path / DETECTIONS_FILE).open("ab") as file:
        file.write(b'{"image": "b.j')
    with ResultsFolder(tmp_path) as results:
        assert results.done.keys() == {"a.jpg"}
    assert len(lines(tmp_path / DETECTIONS_FILE)) == 1


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    path = tmp_path / DETECTIONS_FILE
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0\0\0\n" + third)
    with pytest.raises(FileRefused, match=r"detections\.jsonl: line 2: not readable.*damaged"):
        ResultsFolder(tmp_path)
    assert path.read_bytes() == first + b"\0\0\0\n" + third


def test_skipped_photos_are_remembered_until_they_are_done(tmp_path: Path) -> None:
    with ResultsFolder(begun(tmp_path)) as results:
        results.skip("a.jpg", "a.jpg: empty")
        results.skip("b.jpg", "b.jpg: cut off")
    with ResultsFolder(tmp_path) as results:
        assert results.skipped == {"a.jpg": "a.jpg: empty", "b.jpg": "b.jpg: cut off"}
        results.skip("a.jpg", "a.jpg: empty")
        results.write("b.jpg", found(0.5), CLASSES)
        assert results.skipped == {"a.jpg": "a.jpg: empty"}
    with ResultsFolder(tmp_path) as results:
        assert results.skipped == {"a.jpg": "a.jpg: empty"}
        assert results.done.keys() == {"b.jpg"}
    assert [entry["image"] for entry in lines(tmp_path / SKIPPED_FILE)] == ["a.jpg"]


def test_overwrite_forgets_everything(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    with ResultsFolder(tmp_path, overwrite=True) as results:
        assert results.done == {}
        results.skip("a.jpg", "empty")
    assert lines(tmp_path / DETECTIONS_FILE) == []


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ["ünï cödé.jpg", "a\nb.jpg", "undecodable\udcff.jpg", '"quoted".jpg']
    fill(tmp_path, *names)
    with ResultsFolder(tmp_path) as results:
        assert set(results.done) == set(names)


def test_a_run_records_its_settings_and_facts(tmp_path: Path) -> None:
    run = RunRecord(tmp_path, {"exif": "apply"})
    before = json.loads((tmp_path / "run.json").read_text())
    assert before["runs"][0]["finished"] is None
    run.finish(done=3)
    after = json.loads((tmp_path / "run.json").read_text())
    assert after["settings"] == {"exif": "apply"}
    assert after["runs"][0]["done"] == 3
    assert after["runs"][0]["finished"] >= after["runs"][0]["started"]
    assert {"command", "commit", "versions", "peak_memory"} <= after["runs"][0].keys()


def test_a_resumed_run_is_added_to_the_record(tmp_path: Path) -> None:
    RunRecord(tmp_path, {"score_floor": 0.05}).finish()
    RunRecord(tmp_path, {"score_floor": 0.05}, in_use=True).finish()
    assert len(json.loads((tmp_path / "run.json").read_text())["runs"]) == 2


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    old = {"score_floor": 0.05, "proposals": {"name": "grid", "sides": [1, 2]}, "exif": "apply"}
    new = {"score_floor": 0.5, "proposals": {"name": "random", "sides": [1, 2]}, "exif": "apply"}
    RunRecord(tmp_path, old)
    content = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError) as error:
        RunRecord(tmp_path, new, in_use=True)
    for part in (
        "`score_floor`: 0.05 then, 0.5 now",
        "`proposals`: grid then, random now",
        "`overwrite=True`",
        "`out`",
    ):
        assert part in str(error.value)
    assert "exif" not in str(error.value)
    assert "sides" not in str(error.value)  # says nothing more where the names differ
    assert (tmp_path / "run.json").read_bytes() == content
    RunRecord(tmp_path, new, in_use=True, overwrite=True)
    RunRecord(tmp_path, new, in_use=True)


def test_other_settings_are_fine_where_nothing_is_done_yet(tmp_path: Path) -> None:
    RunRecord(tmp_path, {"exif": "apply"})
    RunRecord(tmp_path, {"exif": "ignore"}, in_use=False)


def test_results_without_their_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json is missing"):
        RunRecord(tmp_path, {}, in_use=True)
    (tmp_path / "run.json").write_text("{torn")
    with pytest.raises(RunError, match=r"run\.json: not readable"):
        RunRecord(tmp_path, {}, in_use=True)


def test_equal_settings_do_not_differ_after_a_trip_through_json() -> None:
    settings = {"classes": ("a", "b"), "proposals": {"k": (50, 100)}}
    assert differences(json.loads(json.dumps(settings)), settings) == []


def test_facts_of_the_machine() -> None:
    assert {"python", "numpy", "torch"} <= versions().keys()
    assert peak_memory().get("host", 10**8) > 10**7
    assert commit() is None or len(str(commit()).rstrip("+")) == 40


def test_voc_files(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "sub/b.png")
    paths = exported(tmp_path, "voc", CLASSES, split="val")
    assert [path.name for path in paths] == ["comp4_det_val_cat.txt", "comp4_det_val_dog.txt"]
    rows = paths[1].read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["a", "sub/b"]
    assert [float(value) for value in rows[0].split()[1:]] == pytest.approx([0.1, 1.1, 2, 11, 20])


def test_voc_names_keep_their_suffix_where_they_would_be_equal(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "a.png")
    rows = exported(tmp_path, "voc", CLASSES)[0].read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["a.jpg", "a.png"]


@pytest.mark.parametrize(("names", "numbers"), [(("x.jpg", "y.jpg"), [1, 2]), (("000139.jpg", "7.jpg"), [139, 7])])
def test_coco_results_with_numbers_of_their_own(tmp_path: Path, names: tuple[str, str], numbers: list[int]) -> None:
    fill(tmp_path, *names)
    results, images = (json.loads(path.read_text()) for path in exported(tmp_path, "coco", CLASSES))
    assert [entry["image_id"] for entry in results] == [numbers[0]] * 2 + [numbers[1]] * 2
    assert [entry["category_id"] for entry in results] == [1, 2, 1, 2]
    assert results[0]["bbox"] == pytest.approx([0.1, 1, 9.9, 19])
    assert images["images"] == [
        {"id": number, "file_name": name, "height": 30, "width": 40}
        for name, number in zip(names, numbers, strict=True)
    ]
    assert images["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def test_coco_results_with_the_ids_of_a_ground_truth(tmp_path: Path) -> None:
    images = [{"id": 42, "file_name": "a.jpg", "width": 40, "height": 30}]
    categories = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}]
    truth = tmp_path / "instances.json"
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    fill(tmp_path, "deep/a.jpg")
    (path,) = exported(tmp_path, "coco", CLASSES, numbering=truth)
    assert [(e["image_id"], e["category_id"]) for e in json.loads(path.read_text())] == [(42, 17), (42, 18)]
    assert len(read_coco_results(path, CocoDataset(truth))[0]["a.jpg"]) == 2
    with pytest.raises(ValueError, match="no categories zebra"):
        exported(tmp_path, "coco", (*CLASSES, "zebra"), numbering=truth)
    truth.write_text(
        json.dumps({"images": images, "categories": [*categories, {"id": 5, "name": "Cat"}], "annotations": []})
    )
    (path,) = exported(tmp_path, "coco", CLASSES, numbering=truth)
    assert [e["category_id"] for e in json.loads(path.read_text())] == [17, 18]  # the very name, not that in capitals
    with pytest.raises(ValueError, match="'tv/monitor' cannot be part of a file name"):
        require_exportable("voc", ["a.jpg"], ["tv/monitor"], numbering=None)


@pytest.mark.parametrize("names", [(), ("a.jpg",), ('"ü".jpg', "b\n.jpg")])
def test_the_list_of_coco_images_is_written_as_all_json_is(tmp_path: Path, names: tuple[str, ...]) -> None:
    fill(tmp_path, *names)
    path = exported(tmp_path, "coco", CLASSES)[1]
    assert path.read_text() == json.dumps(json.loads(path.read_text()), indent=2) + "\n"
    assert [image["file_name"] for image in json.loads(path.read_text())["images"]] == list(names)


PLAIN: dict[str, Any] = {
    "image": "a",
    "width": 4,
    "height": 3,
    "boxes": [[0, 0.5, 1, 2]],
    "labels": ["x"],
    "scores": [1],
}
ODD = [
    {"image": ""}, {"image": "."}, {"image": "a/."}, {"image": "./"}, {"image": 7}, {"image": None}, {"image": True},
    {"width": 0}, {"width": 4.0}, {"width": True}, {"height": 2**31}, {"height": "3"}, {"boxes": []},
    {"boxes": [[1, 2]]}, {"boxes": [[0, 0, 1, float("nan")]]}, {"boxes": [[0, 0, 1, 1e39]]},
    {"boxes": [[0, 0, 1, 10**400]]},
    {"boxes": [[0, 0, 1, "2"]]}, {"boxes": ["abcd"]}, {"boxes": {}}, {"boxes": None}, {"labels": []}, {"labels": "x"},
    {"labels": [1]}, {"labels": None}, {"scores": [None]}, {"scores": [True]}, {"scores": 1}, {"scores": [-1e38, 1]},
    {"scores": [float("inf")]},
]  # fmt: skip


@pytest.mark.parametrize("change", ODD, ids=repr)
def test_the_quick_look_at_a_line_refuses_what_the_full_one_does(change: dict[str, Any]) -> None:
    entry = PLAIN | change
    try:
        expected = read_line(entry, "place").image
    except ResultsError as error:
        with pytest.raises(ResultsError, match=re.escape(str(error))):
            require_line(entry, "place")
    else:
        assert require_line(entry, "place") == expected


def test_a_line_that_lacks_something_is_refused() -> None:
    for name in PLAIN:
        with pytest.raises(ResultsError, match=f"no {name}"):
            require_line({key: value for key, value in PLAIN.items() if key != name}, "place")
    for entry in (None, [], "image", 3):
        with pytest.raises(ResultsError, match="no image"):
            require_line(entry, "place")


def test_other_photos_of_the_same_names_are_noticed(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")}
    for name, path in paths.items():
        path.write_text(name)
    with ResultsFolder(begun(tmp_path / "out")) as results:
        for name, path in paths.items():
            results.write(name, found(0.5), CLASSES, file_digest(path), stamp_of(path))
    paths["b.jpg"].write_text("other")
    paths["c.jpg"].unlink()
    with ResultsFolder(tmp_path / "out") as results:
        assert results.changed(paths.items()) == ["b.jpg"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'xml' is not one of jsonl, coco, voc"):
        exported(tmp_path, "xml", CLASSES)


def test_a_gpu_gets_readers_and_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detect.runs.machine.cores", lambda: 12)
    assert [usual_readers("cpu", on_cpu=count) for count in (0, 2)] == [0, 2]
    assert usual_readers("cuda", on_cpu=0) == 11
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert usual_readers("cuda", on_cpu=0) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert usual_readers("cuda", on_cpu=0) == 1
