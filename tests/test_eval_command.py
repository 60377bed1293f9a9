"""`rcnn eval detections` from files to tables, JSON and a page."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from detect.commands.eval import app
from detect.evaluation import show
from eval.coco import CocoDataset
from eval.report import Sheet
from eval.voc import VocDataset
from proposals.stored.writer import StoreWriter
from structures.records import Proposals

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
SIZE = "<size><width>100</width><height>80</height></size>"


@pytest.fixture
def voc(tmp_path):
    """A VOC folder: a dog and a cat in photo a, a dog in photo b."""
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    bodies = {
        "a": OBJECT.format("dog", 11, 11, 30, 30) + OBJECT.format("cat", 51, 51, 70, 70),
        "b": OBJECT.format("dog", 1, 1, 100, 80),
    }
    for name, body in bodies.items():
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(f"<annotation>{SIZE}{body}</annotation>")
    (tmp_path / "voc" / "ImageSets/Main/val.txt").write_text("a\nb\n")
    return tmp_path / "voc"


def write_perfect(path, dataset, leave_out=()):
    rows = [
        {
            "image": f"photos/{truth.image_id}.jpg",
            "width": truth.image_size[1],
            "height": truth.image_size[0],
            "boxes": truth.boxes.tolist(),
            "labels": [dataset.classes[label] for label in truth.labels],
            "scores": [0.5] * len(truth),
        }
        for truth in dataset
        if truth.image_id not in leave_out
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("protocol", ["voc07", "voc", "ilsvrc", "coco"])
def test_perfect_detections_score_one_hundred(voc, tmp_path, protocol):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    report = tmp_path / "out" / "report.json"
    result = run("detections", file, "--ground-truth", voc, "--split", "val", "--protocol", protocol, "--json", report)
    assert re.search(rf"\(?{protocol}\)? 100.00 % on 2 photos with 3 objects", result.stdout)
    content = json.loads(report.read_text())
    assert content["AP" if protocol == "coco" else "mAP"] == pytest.approx(1.0)
    assert content["classes"]["dog"]["AP"] == pytest.approx(1.0)
    assert content["classes"]["dog"]["objects"] == 2
    assert content["classes"]["sofa"]["AP"] is None
    assert len(content["classes_without_objects"]) == 18


def test_a_box_in_a_crowd_is_no_false_alarm_and_one_in_a_difficult_object_is(tmp_path):
    """COCO excuses by coverage, VOC by IoU: the score is 1, or the mean of 1/2 over all recalls."""
    crowd = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 80, 80], "area": 6400, "iscrowd": 1}
    single = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [90, 90, 10, 10], "area": 100, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}
    content = {"images": [image], "categories": [{"id": 1, "name": "dog"}], "annotations": [crowd, single]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    difficult = OBJECT.format("dog", 1, 1, 80, 80).replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    body = difficult + OBJECT.format("dog", 91, 91, 100, 100)
    size = "<size><width>100</width><height>100</height></size>"
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text(f"<annotation>{size}{body}</annotation>")
    (tmp_path / "voc" / "ImageSets/Main/val.txt").write_text("a\n")
    line = {"image": "a.jpg", "width": 100, "height": 100, "labels": ["dog", "dog"], "scores": [0.9, 0.8]}
    line["boxes"] = [[0, 0, 20, 20], [90, 90, 100, 100]]
    (tmp_path / "detections.jsonl").write_text(json.dumps(line) + "\n")
    for truth, expected in ((tmp_path / "instances.json", 1.0), (tmp_path / "voc", 0.5)):
        report = tmp_path / "report.json"
        options = ("--ground-truth", truth, "--protocol", "coco", "--json", report)
        run("detections", tmp_path / "detections.jsonl", *options)
        assert json.loads(report.read_text())["AP"] == pytest.approx(expected)


def test_missing_images_count_as_misses_and_are_reported(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"), leave_out=("b",))
    report = tmp_path / "report.json"
    table = tmp_path / "tables.csv"
    result = run("detections", file, "--ground-truth", voc, "--protocol", "voc", "--json", report, "--csv", table)
    assert table.read_text().startswith("table,row,column,value\n")
    assert "warning: 1 image (b) of the ground truth without results counted as misses" in result.stderr
    content = json.loads(report.read_text())
    assert (content["classes"]["dog"]["AP"], content["mAP"]) == pytest.approx((0.5, 0.75))
    assert content["missing_images"] == 1


def test_only_the_photos_that_were_run_are_scored(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"), leave_out=("b",))
    report, usual = (
        tmp_path / "report.json",
        ("--ground-truth", voc, "--protocol", "voc", "--json", tmp_path / "report.json"),
    )
    assert "(--only-detected leaves them out)" in run("detections", file, *usual).stderr
    result = run("detections", file, *usual, "--only-detected")
    assert "100.00 % on 1 photo with 2 objects" in result.stdout
    assert "warning: 1 image (b) of the ground truth without results left out" in result.stderr
    assert json.loads(report.read_text())["images"] == 1
    run("detections", file, *usual, "--only-detected", "--classes", "cat", "--html", tmp_path / "page.html")
    assert json.loads(report.read_text())["objects"] == 1
    file.write_text("")
    with pytest.raises(ValueError, match="`only_detected` leaves none"):
        run("detections", file, *usual, "--only-detected")
    results, truth = as_coco([], VocDataset(voc, "val"), tmp_path)
    with pytest.raises(ValueError, match=r"`only_detected` needs detections\.jsonl"):
        run("detections", results, "--ground-truth", truth, "--only-detected")


@pytest.mark.parametrize(("floor", "warned"), [(0.05, True), (0.001, False), (0.01, False), ("high", False)])
def test_a_high_score_floor_is_reported(voc, tmp_path, floor, warned):
    write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    record = {"settings": {"score_floor": floor}, "runs": [{"started": "2026"}]}
    (tmp_path / "run.json").write_text(json.dumps(record))
    for file in (tmp_path, tmp_path / "detections.jsonl"):
        told = run("detections", file, "--ground-truth", voc).stderr
        assert ("detections below 0.05 were dropped, which lowers mAP" in told) == warned
    (tmp_path / "run.json").write_text("of another program")
    assert "dropped" not in run("detections", tmp_path, "--ground-truth", voc).stderr


def test_where_nothing_is_annotated_nothing_is_gained(tmp_path, voc):
    for name in "ab":
        (voc / "Annotations" / f"{name}.xml").write_text(f"<annotation>{SIZE}</annotation>")
    line = {"image": "a", "width": 100, "height": 80, "boxes": [[0, 0, 9, 9]], "labels": ["dog"], "scores": [0.5]}
    (tmp_path / "detections.jsonl").write_text(json.dumps(line) + "\n")
    told = run("detections", tmp_path / "detections.jsonl", "--ground-truth", voc).stdout
    assert "nan" not in told
    assert re.search(r"^ *background .* - *$", told, re.MULTILINE)


def test_classes_with_commas_and_blanks_in_their_names(voc, tmp_path):
    dataset = VocDataset(voc, "val")
    lines = [json.loads(line) for line in write_perfect(tmp_path / "lines", dataset).read_text().splitlines()]
    _, truth = as_coco(lines, dataset, tmp_path)
    truth.write_text(truth.read_text().replace('"dog"', '" crane, bird "'))
    file = write_perfect(tmp_path / "detections.jsonl", CocoDataset(truth))
    file.write_text(file.read_text().replace(".jpg.jpg", ".jpg"))
    (tmp_path / "names.txt").write_text(" crane, bird\n\n")
    for words, classes in (
        (["--classes", "crane, bird"], ["crane, bird"]),
        (["--classes", "crane, bird", "--classes", "cat"], ["crane, bird", "cat"]),
        (["--classes", tmp_path / "names.txt"], ["crane, bird"]),
    ):
        if "names.txt" in str(words):
            (tmp_path / "names.txt").write_text("cat\n")
            classes = ["cat"]
        run("detections", file, "--ground-truth", truth, *words, "--json", tmp_path / "scores.json")
        scores = json.loads((tmp_path / "scores.json").read_text())["classes"]
        assert {name: scores[name]["AP"] for name in scores} == pytest.approx(dict.fromkeys(classes, 1.0))


@pytest.mark.parametrize("kind", ["lines", "coco results"])
def test_some_classes_are_scored_as_if_there_were_no_others(voc, tmp_path, kind):
    """The dogs are found and the cat is not; the dataset has eighteen more classes."""
    dataset = VocDataset(voc, "val")
    file, truth = write_perfect(tmp_path / "detections.jsonl", dataset), voc
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["boxes"] = [[0, 0, 5, 5] if n == "cat" else b for b, n in zip(line["boxes"], line["labels"], strict=True)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if kind == "coco results":
        file, truth = as_coco(lines, dataset, tmp_path)
    for classes, expected in (("dog", 1.0), ("cat", 0.0), ("Cat, dog", 0.5)):
        options = ["--ground-truth", truth, "--protocol", "voc07", "--classes", classes]
        run("detections", file, *options, "--json", voc / "s")
        scores = json.loads((voc / "s").read_text())
        assert scores["mAP"] == pytest.approx(expected)
        assert list(scores["classes"]) == [name.strip().lower() for name in classes.split(",")]
        assert scores["detections"] == {"dog": 2, "cat": 1, "Cat, dog": 3}[classes]
    with pytest.raises(ValueError, match="no class cup: the classes are"):
        run("detections", file, "--ground-truth", truth, "--classes", "dog,cup")


def as_coco(lines, dataset, folder):
    numbers = {"dog": 5, "cat": 9}
    photos = [{"id": n, "file_name": f"{name}.jpg", "width": 100, "height": 80} for n, name in enumerate("ab")]
    rows = [
        {"image_id": n, "category_id": numbers[name], "bbox": [x, y, right - x, bottom - y], "score": 0.5}
        for n, line in enumerate(lines)
        for name, (x, y, right, bottom) in zip(line["labels"], line["boxes"], strict=True)
    ]
    (folder / "results.json").write_text(json.dumps(rows))
    objects = [
        {"id": 10 * n + k, "image_id": n, "category_id": numbers[dataset.classes[label]], "bbox": [x, y, r - x, b - y]}
        for n, truth in enumerate(dataset)
        for k, (label, (x, y, r, b)) in enumerate(zip(truth.labels, truth.boxes.tolist(), strict=True))
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    whole = {"images": photos, "annotations": objects, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(whole))
    return folder / "results.json", folder / "instances.json"


def test_classes_that_differ_only_in_case_stay_apart(voc, tmp_path):
    dataset = VocDataset(voc, "val")
    lines = [json.loads(line) for line in write_perfect(tmp_path / "lines", dataset).read_text().splitlines()]
    _, truth = as_coco(lines, dataset, tmp_path)
    truth.write_text(truth.read_text().replace('"dog"', '"Cat"'))
    file = write_perfect(tmp_path / "detections.jsonl", CocoDataset(truth))
    file.write_text(file.read_text().replace(".jpg.jpg", ".jpg"))
    for options, classes in (([], ["Cat", "cat"]), (["--classes", "cat"], ["cat"])):
        run("detections", file, "--ground-truth", truth, *options, "--json", tmp_path / "scores.json")
        scores = json.loads((tmp_path / "scores.json").read_text())["classes"]
        assert {name: scores[name]["AP"] for name in scores} == pytest.approx(dict.fromkeys(classes, 1.0))


def test_extra_images_stop_the_run_unless_allowed(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    (voc / "ImageSets/Main/val.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"line 2: photos/b\.jpg is not in the ground truth"):
        run("detections", file, "--ground-truth", voc)
    result = run("detections", file, "--ground-truth", voc, "--allow-extra")
    assert "1 image (photos/b.jpg) not in the ground truth left out" in result.stderr


def test_extra_images_of_coco_results_stop_the_run_unless_allowed(voc, tmp_path):
    dataset = VocDataset(voc, "val")
    lines = [json.loads(line) for line in write_perfect(tmp_path / "lines", dataset).read_text().splitlines()]
    file, truth = as_coco(lines, dataset, tmp_path)
    extra = {"image_id": 7, "category_id": 5, "bbox": [0, 0, 9, 9], "score": 0.9}
    file.write_text(json.dumps([*json.loads(file.read_text()), extra, extra]))
    with pytest.raises(ValueError, match=r"entry 3: image 7 is not in the ground truth \(`allow_extra=True`"):
        run("detections", file, "--ground-truth", truth)
    result = run("detections", file, "--ground-truth", truth, "--allow-extra", "--json", tmp_path / "scores.json")
    assert "warning: 1 image (7) not in the ground truth left out" in result.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["AP"], scores["extra_images"]) == (pytest.approx(1.0), 1)


def test_objects_are_lost_where_no_detection_has_the_score_asked_for(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))  # all of them at 0.5
    assert "objects were lost" not in run("detections", file, "--ground-truth", voc).stdout
    for score, missed in ((0.5, 0), (0.6, 3)):
        report = tmp_path / f"{score}.json"
        result = run("detections", file, "--ground-truth", voc, "--lost-score", score, "--json", report)
        assert json.loads(report.read_text())["lost"]["missed"] == missed
        told = f"Where objects were lost: {missed} of 3 (no detection of their class with IoU 0.5 and score {score})"
        assert (told in result.stdout) == bool(missed)
        assert "the regions of 2 of 2 photos were not kept" in result.stderr


def test_a_cut_off_last_line_is_named(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    file.write_text(file.read_text()[:-30])
    assert "line 2: the last line is cut off" in run("detections", file, "--ground-truth", voc).stderr


def test_the_page_of_a_voc_folder_without_its_photos_has_their_boxes(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    page = tmp_path / "page.html"
    result = run("detections", file, "--ground-truth", voc, "--html", page)
    assert re.search(r"page\.html: \d+\.\d MB, 2 photos of at most 320 pixels", result.stdout)
    text = page.read_text()
    assert '<td class="text"><bdi>dog</bdi></td><td><bdi>100.00</bdi></td>' in text
    assert "2 photos shown without a picture, the first because" in text
    assert '"kinds":["true"]' in text


def test_square_brackets_in_names_are_shown(voc, tmp_path):
    for name in "ab":
        path = voc / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("dog", "dog[/b]").replace("cat", "cat[big]"))
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    rows = [line.split() for line in run("detections", file, "--ground-truth", voc).stdout.splitlines()]
    assert ["cat[big]", "100.00", "1", "0", "1"] in rows
    assert ["dog[/b]", "100.00", "2", "0", "2"] in rows


def test_a_table_shows_its_caption_head_and_cells_as_they_are(capsys):
    show([Sheet("all [/b] photos", ["[red]", "x[/]"], [["a[b]", ":cat:"]])], [])
    assert [line.split() for line in capsys.readouterr().out.splitlines() if "[" in line] == [
        ["all", "[/b]", "photos"],
        ["[red]", "x[/]"],
        ["a[b]", ":cat:"],
    ]


def test_an_unknown_protocol_is_named(voc, tmp_path):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    with pytest.raises(ValueError, match="no protocol 'voc2012'; there are voc07, voc, coco, ilsvrc"):
        run("detections", file, "--ground-truth", voc, "--protocol", "voc2012")


def test_coco_results_need_coco_ground_truth(voc, tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json: COCO results need COCO ground truth"):
        run("detections", tmp_path / "results.json", "--ground-truth", voc)


def store(folder, dataset, leave_out=()):
    with StoreWriter(folder, {"generator": "by hand"}) as writer:
        for truth in dataset:
            if truth.image_id not in leave_out:
                half = truth.boxes.copy()
                half[:, 2] = (half[:, 0] + half[:, 2]) / 2
                found = Proposals(half, np.arange(len(half), 0, -1), truth.image_size)
                writer.add(f"photos/{truth.image_id}.jpg", truth.image_id * 32, truth.image_id * 32, found)
    return folder


def test_stored_proposals_that_cover_half_of_each_object(voc, tmp_path):
    folder = store(tmp_path / "proposals", VocDataset(voc, "val"))
    report, plot = tmp_path / "recall.json", tmp_path / "recall.png"
    options = ("--split", "val", "--json", report, "--plot", plot, "--csv", report.with_suffix(".csv"))
    result = run("proposals", folder, "--ground-truth", voc, *options, "--images", voc / "JPEGImages")
    assert report.with_suffix(".csv").read_text().startswith('table,row,column,value\n"Every class, all boxes",')
    assert "MABO 50.00 %, recall@0.50 100.00 %, recall@0.70 0.00 % with 2 boxes per photo" in result.stdout
    content = json.loads(report.read_text())
    assert (content["MABO"], content["recall@0.55"], content["AR@100"]) == pytest.approx((0.5, 0, 0.1))
    assert content["classes"]["dog"] == {"ABO": 0.5, "recall@0.50": 1}
    assert content["classes"]["sofa"]["ABO"] is None
    assert content["made"]["generator"] == "by hand"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert result.stderr == ""


def test_photos_without_stored_proposals_count_as_missed(voc, tmp_path):
    folder = store(tmp_path / "proposals", VocDataset(voc, "val"), leave_out="b")
    result = run("proposals", folder, "--ground-truth", voc)
    assert "recall@0.50 66.67 %" in result.stdout
    assert "warning: 1 image (b) of the ground truth without boxes in the file" in result.stderr


def test_proposals_of_other_programs_and_a_leak(voc, tmp_path):
    file = tmp_path / "boxes.json"
    boxes = {"a": [[10, 10, 20, 20], [50, 50, 20, 20]], "b": [[0, 0, 100, 80]]}
    file.write_text(json.dumps([{"image_id": k, "bbox": b, "score": 1} for k, v in boxes.items() for b in v]))
    result = run("proposals", file, "--ground-truth", voc)
    assert "MABO 100.00 %" in result.stdout
    assert "is the ground truth among the proposals?" in result.stderr


def test_proposals_of_other_photos_are_refused(voc, tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps([{"image_id": 7, "bbox": [0, 0, 1, 1]}]))
    with pytest.raises(ValueError, match=r"boxes\.json: none of the photos is in the ground truth, such as 7"):
        run("proposals", file, "--ground-truth", voc)


def test_a_plot_of_an_unknown_kind_is_refused(voc, tmp_path):
    folder = store(tmp_path / "proposals", VocDataset(voc, "val"))
    with pytest.raises(ValueError, match=r"plot\.xyz: pictures are written as"):
        run("proposals", folder, "--ground-truth", voc, "--plot", tmp_path / "plot.xyz")


def test_the_folder_of_the_results_will_do(voc, tmp_path):
    write_perfect(tmp_path / "detections.jsonl", VocDataset(voc, "val"))
    assert "mAP (voc07) 100.00 %" in run("detections", tmp_path, "--ground-truth", voc).stdout


def test_known_answers_from_the_command_line(data_dir, tmp_path):
    folder = data_dir / "eval_fixtures" / "coco_bbox"
    truth, report = folder / "gts" / "sampled_gts_bbox_area.json", tmp_path / "report.json"
    run("detections", folder / "cocoapi_results.json", "--ground-truth", truth, "--json", report)
    content = json.loads(report.read_text())
    assert content["protocol"] == "coco"
    assert (content["AP"], content["AP50"], content["AR_100"]) == pytest.approx(
        (0.503647, 0.696973, 0.595353), abs=1e-6
    )


def test_detections_of_real_photos_against_coco(data_dir, tmp_path):
    dataset = CocoDataset(data_dir / "coco128" / "instances.json")
    file = write_perfect(tmp_path / "detections.jsonl", dataset)
    file.write_text(file.read_text().replace(".jpg.jpg", ".jpg"))
    report = tmp_path / "report.json"
    run("detections", file, "--ground-truth", dataset.annotations, "--json", report)
    assert json.loads(report.read_text())["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("protocol", ["voc07", "voc"])
def test_perfect_detections_of_all_val_photos(data_dir, tmp_path, protocol):
    file = write_perfect(tmp_path / "detections.jsonl", VocDataset(data_dir / "voc2007", "val"))
    truth = data_dir / "voc2007"
    result = run("detections", file, "--ground-truth", truth, "--protocol", protocol, "--no-mistakes")
    assert "100.00 % on 978 photos with 2417 objects" in result.stdout
    assert result.stderr == ""
