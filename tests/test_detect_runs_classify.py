"""`rcnn classify`, `rcnn eval classification` and `rcnn weights`, on a small untrained network and painted photos."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from classifier.weights.load import load_weights
from classifier.weights.preprocessing import CAFFE, TORCHVISION
from classifier.weights.torchvision import TRANSFORM_INPUT
from detect.commands import weights as weights_commands
from detect.commands.classify import classify
from detect.commands.eval_classification import classification
from detect.runs.class_folders import columns_of, limit_photos, read_class_folders
from detect.runs.classify import PhotoStream, load_image_classifier, score_labelled
from detect.runs.photos import SourceError
from detect.training.setup import with_origin
from structures.images import ImageError, read_image

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = GoogLeNet(3)
    network.fc.weight.data *= 30
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_checkpoint(Checkpoint(network.state_dict(), CLASSES, replace(CAFFE, size=32, resize=40)), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, count in (("ant", 3), ("bee", 2), ("cat", 4)):
        (root / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (50 + number, 60, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / ".hidden").mkdir()
    return root


def run(command, *arguments: object):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def model(net: Path, **options):
    return load_image_classifier([str(net)], crops=options.pop("crops", 1), engine="torch", dtype="float32", **options)


def test_classify_prints_the_best_classes(net: Path, photos: Path) -> None:
    result = run(classify, photos, "--weights", net, "--top", 2, "--json", "--crops", 10)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["image"] for row in rows][:4] == ["ant/0.png", "ant/1.png", "ant/2.png", "bee/0.png"]
    expected = model(net, crops=10).top(read_image(photos / "ant" / "0.png"), 2)
    assert [each["class"] for each in rows[0]["classes"]] == [name for name, _ in expected]
    text = run(classify, photos / "ant" / "0.png", "--weights", net).stdout.splitlines()
    assert text[0] == "0.png"
    assert len(text) == 1 + len(CLASSES)


def test_options_decide_how_photos_are_looked_at(net: Path, photos: Path, tmp_path: Path) -> None:
    exact = {"engine": "torch", "dtype": "float32"}
    words = [word for name, value in exact.items() for word in (f"--{name}", value)]
    seen = {}
    for crops, warp in ((1, False), (1, True), (10, False), (10, True)):
        options = ["--weights", net, "--crops", crops, *(["--warp"] if warp else []), *words]
        result = run(classify, photos / "ant" / "0.png", "--json", "--top", 1, *options)
        seen[crops, warp] = json.loads(result.stdout)["classes"][0]["probability"]
        one = load_image_classifier([str(net)], crops=crops, warp=warp, photos=1, **exact)  # a batch as large as there
        assert seen[crops, warp] == pytest.approx(max(one(read_image(photos / "ant" / "0.png"))), abs=1e-6)  # 6 digits
        run(classification, "--folder", photos, *options, "--json", tmp_path / "scores.json")
        wanted = load_image_classifier([str(net)], crops=crops, warp=warp, **exact)
        loss = score_labelled(wanted, read_class_folders(photos)).scores["log loss"]
        assert json.loads((tmp_path / "scores.json").read_text())["log loss"] == pytest.approx(loss)
    assert len(set(seen.values())) == 4


def test_a_list_says_which_folder_is_which_column(net: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\nbee\nant\n")
    options = ["--weights", net, "--engine", "torch", "--dtype", "float32", "--json", tmp_path / "scores.json"]
    run(
        classification,
        "--folder",
        photos,
        *options,
        "--classes",
        tmp_path / "classes.txt",
        "--photos",
        6,
        "--device",
        "cpu",
    )
    data = limit_photos(read_class_folders(photos, {"cat": 0, "bee": 1, "ant": 2}), 6)
    got = json.loads((tmp_path / "scores.json").read_text())
    assert got["photos"] == 6
    assert got["log loss"] == pytest.approx(score_labelled(model(net), data).scores["log loss"])


def test_a_bad_photo_is_named_and_the_others_are_done(net: Path, photos: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes((photos / "ant" / "0.png").read_bytes())
    bad.write_text("no picture")
    result = run(classify, tmp_path, "--weights", net)
    assert result.exit_code == 1
    assert "good.png" in result.stdout
    assert f"skipped: {bad}" in result.stderr
    assert "1 of 2 photos" in result.stderr
    with pytest.raises(ValueError, match="none of 1 photo could be read"):
        raise run(classify, bad, "--weights", net).exception
    assert "skipped: " in run(classify, good, "--weights", net, "--max-pixels", 9).stderr


def test_a_photo_whose_name_is_not_utf_8_does_not_stop_the_run(
    net: Path, photos: Path, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"caf\xe9.png", b"dog.png"):
        (tmp_path / os.fsdecode(name)).write_bytes((photos / "ant" / "0.png").read_bytes())
    assert rcnn("classify", tmp_path, "--weights", net) == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if "png" in line] == [r"caf\udce9.png", "dog.png"]


def test_weights_for_something_else_are_refused_by_name(net: Path, tmp_path: Path) -> None:
    checkpoint = load_weights(net)
    network = GoogLeNet(4).state_dict()
    narrow = replace(checkpoint.preprocessing, context=4)
    regions = replace(checkpoint, task="regions", state=network, preprocessing=narrow)
    save_checkpoint(regions, tmp_path / "regions.safetensors")
    save_checkpoint(replace(checkpoint, classes=("bee", "ant", "cat")), tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other\.safetensors: an ensemble needs the same classes in the same order as .*net"
    ):
        load_image_classifier([str(net), str(tmp_path / "other.safetensors")], crops=1)
    with pytest.raises(ValueError, match=r"regions\.safetensors: these weights are for regions, an image classifier"):
        load_image_classifier([str(tmp_path / "regions.safetensors")], crops=1)
    for name, complaint in (
        ("nothing", "nothing: no such file or name; weights are imagenet, default, multibox, shared, a file"),
        ("default", "default: these weights are for regions, an image classifier is needed"),
    ):
        with pytest.raises(ValueError, match=complaint):
            load_image_classifier([name], crops=1)


def test_small_jobs_do_not_wait_for_a_compiler(net: Path) -> None:
    assert load_image_classifier([str(net)], crops=1, photos=5, device="cpu").reason.startswith("torch")
    assert load_image_classifier([str(net)], crops=1, photos=5, device="cpu").batch_size == 5


def test_photos_stream_in_order_with_their_errors(net: Path, photos: Path, tmp_path: Path) -> None:
    paths = [photos / "ant" / "0.png", tmp_path / "missing.png", photos / "cat" / "3.png", photos / "bee" / "1.png"]
    classifier = model(net, photos=2)
    got = list(PhotoStream(classifier)(paths))
    assert [path for path, _ in got] == paths
    assert isinstance(got[1][1], ImageError)
    for index in (0, 2, 3):
        assert np.allclose(got[index][1], classifier(read_image(paths[index])), atol=1e-6)
    assert list(PhotoStream(classifier)([])) == []


def test_errors_of_photos_that_are_kept_hold_no_contents(net: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((photos / "ant" / "0.png").read_bytes()[:90])
    [(_, error)] = PhotoStream(model(net, photos=2))([tmp_path / "cut.png"])
    assert isinstance(error, ImageError)
    assert error.__traceback__ is None
    assert error.__context__ is None or error.__context__.__traceback__ is None


def test_eval_classification_scores_folders(net: Path, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "scores.json"
    table = tmp_path / "report.csv"
    words = ["--json", report, "--csv", table, "--engine", "torch"]
    result = run(classification, "--folder", photos, "--weights", net, *words)
    assert table.read_text().startswith("table,row,column,value\nclassification,top-1,value,")
    assert result.exit_code == 0, result.stderr
    got = json.loads(report.read_text())
    classifier = model(net)
    hits = [
        classifier(read_image(path)).argmax() == label
        for label, name in enumerate(CLASSES)
        for path in sorted((photos / name).iterdir())
    ]
    assert got["photos"] == len(hits) == 9
    assert got["top-1"] == pytest.approx(np.mean(hits))
    assert got["top-5"] == 1
    assert got["log loss"] > 0
    assert (got["crops"], got["weights"], got["skipped"]) == (1, [str(net)], [])
    assert f"log loss            {got['log loss']:.4f}" in result.stdout.splitlines()


def test_eval_classification_scores_a_split_of_annotated_photos(net: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    for name in CLASSES:
        body = f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        size = "<size><width>60</width><height>50</height></size>"
        xml = f"<annotation>{size}{body}</object></annotation>"
        (tmp_path / "voc/Annotations" / f"{name}.xml").write_text(xml)
        PIL.Image.open(photos / name / "0.png").convert("RGB").save(tmp_path / "voc/JPEGImages" / f"{name}.jpg")
    (tmp_path / "voc/ImageSets/Main/val.txt").write_text("ant\nbee\ncat\n")
    (tmp_path / "voc/ImageSets/Main/two.txt").write_text("ant\nbee\n")
    words = ["--weights", net, "--classes", "ant,bee", "--json", tmp_path / "scores.json", "--engine", "torch"]
    moved = (tmp_path / "voc/JPEGImages").rename(tmp_path / "moved")
    for split, count in (("val", 3), ("two", 2)):
        result = run(classification, "--ground-truth", tmp_path / "voc", "--images", moved, "--split", split, *words)
        assert result.exit_code == 0, result.exception
        assert json.loads((tmp_path / "scores.json").read_text())["photos"] == count


def test_eval_classification_names_what_it_left_out(net: Path, photos: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.png").write_bytes((photos / name / "0.png").read_bytes())
    (tmp_path / "photos" / "bee" / "1.png").write_text("no picture")
    options = ["--weights", net, "--json", tmp_path / "scores.json", "--engine", "torch"]
    result = run(classification, "--folder", tmp_path / "photos", *options)
    assert result.exit_code == 1
    assert "bee/1.png" in result.stderr
    got = json.loads((tmp_path / "scores.json").read_text())
    assert got["photos"] == 3
    assert "bee/1.png" in got["skipped"][0]


def test_an_ensemble_is_judged_by_its_mean(net: Path, photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = GoogLeNet(3).state_dict()
    save_checkpoint(replace(load_weights(net), state=state), tmp_path / "other.safetensors")
    files = [str(net), str(tmp_path / "other.safetensors")]
    both = load_image_classifier(files, crops=1, engine="torch", dtype="float32")
    data = read_class_folders(photos)
    expected = np.mean([[model(Path(file))(read_image(path)) for path in data.paths] for file in files], axis=0)
    rows = [row for _, row in PhotoStream(both)(data.paths)]
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    loss = -np.log(expected[np.arange(len(expected)), data.labels]).mean()
    assert score_labelled(both, data).scores["log loss"] == pytest.approx(loss, rel=1e-5)


def test_folders_are_matched_to_columns_by_name_or_by_a_list(photos: Path, tmp_path: Path) -> None:
    data = read_class_folders(photos, columns_of(("cat", "bee", "ant", "dog"), None))
    assert data.labels.tolist() == [2, 2, 2, 1, 1, 0, 0, 0, 0]
    assert data.classes == ("cat", "bee", "ant", "dog")
    listed = tmp_path / "classes.txt"
    listed.write_text("bee\thoney bee\ncat\tdomestic cat\n\nant\tan ant\n")
    assert read_class_folders(photos, columns_of(("b", "c", "a"), [str(listed)])).labels.tolist() == [
        2,
        2,
        2,
        0,
        0,
        1,
        1,
        1,
        1,
    ]
    with pytest.raises(SourceError, match=r"classes\.txt: 3 classes, but the weights have 2"):
        columns_of(("x", "y"), [str(listed)])
    with pytest.raises(SourceError, match="ant: no class has this name"):
        read_class_folders(photos, columns_of(("x", "y"), None))
    listed.write_text("bee\nbee\n")
    with pytest.raises(ValueError, match="names a class twice: bee"):
        columns_of(("x", "y"), [str(listed)])


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        read_class_folders(tmp_path / "none")
    with pytest.raises(SourceError, match="has no folders"):
        read_class_folders(tmp_path)
    (tmp_path / "ant").mkdir()
    with pytest.raises(SourceError, match="no pictures in this folder"):
        read_class_folders(tmp_path)


def test_a_limit_spreads_over_all_classes(photos: Path) -> None:
    assert limit_photos(read_class_folders(photos), 3).labels.tolist() == [0, 1, 2]
    assert len(limit_photos(read_class_folders(photos), 0)) == 9


def test_convert_and_show(tmp_path: Path, net: Path) -> None:
    state = GoogLeNet(3, variant="batchnorm").state_dict()
    torch.save(state, tmp_path / "net.pth")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\nbee\ncat\n")
    (tmp_path / "twice.txt").write_text("ant\nbee\nant\n")
    out = tmp_path / "out.safetensors"
    result = run(weights_commands.convert, tmp_path / "net.pth", out, "--classes", tmp_path / "names.txt")
    assert result.exit_code == 0, result.exception
    assert load_weights(out).classes == CLASSES
    assert load_weights(out).preprocessing == TRANSFORM_INPUT
    run(weights_commands.convert, tmp_path / "net.pth", out, "--no-transform-input", "--dtype", "float32")
    assert load_weights(out).preprocessing == TORCHVISION
    assert torch.equal(load_weights(out).state["fc.weight"], state["fc.weight"])
    shown = json.loads(run(weights_commands.show, out, "--json").stdout)
    assert shown["variant"] == "batchnorm"
    assert shown["parameters"] == sum(p.numel() for p in GoogLeNet(3, variant="batchnorm").parameters())
    assert "classes                     3: ant, bee, cat" in run(weights_commands.show, net).stdout
    for arguments, complaint in (
        ((net, tmp_path / "x.npz"), "written as .safetensors"),
        ((net, out, "--dtype", "int4"), "is not one of float16, float32"),
        ((net, out, "--no-transform-input"), "--no-transform-input is for .pth and .pt"),
        ((net, out, "--classes", tmp_path / "latin.txt"), "latin.txt: not a list of classes, one per line in UTF-8"),
        ((net, out, "--classes", net.parent / "none"), "none"),
        ((net, out, "--classes", tmp_path / "twice.txt"), "names a class twice: ant"),
    ):
        assert complaint in str(run(weights_commands.convert, *arguments).exception)


def test_weights_remember_their_command_without_folders(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "train classifier --folder /home/photos/ --out=/srv/x=1/net.safetensors --rate 0.1 --val ../.."
    monkeypatch.setattr("sys.argv", ["/opt/bin/rcnn", *command.split()])
    noted = with_origin(load_weights(net), {"data": "photos"}).training
    assert noted["command"] == "rcnn train classifier --folder photos --out=net.safetensors --rate 0.1 --val .."
    assert noted["data"] == "photos"
