"""What the page about an evaluation shows: its values by hand and against a slow count, its HTML parsed again."""

import base64
import hashlib
import html.parser
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from detect.commands.eval import app
from eval.confusion import confusion
from eval.lost import Losses, LostObject
from eval.mistakes import KINDS, JudgedRun, find_mistakes, judge
from eval.page.curves import ByScore, by_score, precision_recall, recall_by_iou
from eval.page.figures import run_values
from eval.page.gallery import mistakes_at, photo_values, scale_of, worst_first
from eval.page.plots import plots
from eval.page.thumbnails import thumbnails
from eval.scores import score
from structures.boxes import area, as_boxes
from structures.errors import InputError
from structures.files import FileRefused
from structures.records import Detections, GroundTruth
from tests.report_files import HOSTILE_CLASS, HOSTILE_PHOTO, hostile_run

CLASSES = ("cat", "dog")
SIZE = (100, 100)


def truth(name: str, *objects: tuple[list[float], int], ignore: tuple[int, ...] = ()) -> GroundTruth:
    boxes = as_boxes([box for box, _ in objects])
    ignored = np.isin(np.arange(len(objects)), ignore)
    return GroundTruth(name, boxes, np.array([label for _, label in objects], np.int64), ignored, area(boxes), SIZE)


def found(*boxes: tuple[list[float], int, float]) -> Detections:
    labels, scores = [label for _, label, _ in boxes], [score for _, _, score in boxes]
    return Detections(as_boxes([box for box, _, _ in boxes]), np.array(labels, np.int64), np.float32(scores), SIZE)


A, B, C, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 90, 90], [90, 0, 95, 5]


def two_photos() -> tuple[JudgedRun, list[GroundTruth]]:
    """Photo one: a cat found, a dog taken for a cat. Photo two: a dog missed, a false dog, an ignored cat found."""
    truths = [truth("one", (A, 0), (B, 1)), truth("two", (C, 1), (A, 0), ignore=(1,))]
    detections = [found((A, 0, 0.9), (B, 0, 0.8)), found((FAR, 1, 0.7), (A, 0, 0.95))]
    return judge(truths, detections, CLASSES), truths


def random_run(seed: int) -> tuple[JudgedRun, list[GroundTruth], list[Detections]]:
    generator = np.random.default_rng(seed)

    def boxes(count: int) -> list[list[float]]:
        corners = generator.integers(0, 6, (count, 2)) * 10.0
        return np.hstack([corners, corners + generator.integers(1, 4, (count, 2)) * 10.0]).tolist()

    truths, detections = [], []
    for name in "abcd":
        objects = [(box, int(generator.integers(2))) for box in boxes(int(generator.integers(5)))]
        truths.append(truth(name, *objects, ignore=(0,) if generator.random() < 0.3 else ()))
        scored = [(b, int(generator.integers(2)), float(generator.integers(1, 9)) / 8) for b in boxes(6)]
        detections.append(found(*sorted(scored, key=lambda each: -each[2])))
    return judge(truths, detections, CLASSES), truths, detections


def test_confusion_by_hand() -> None:
    assert confusion(two_photos()[0]) == {(0, 0): 1, (None, 1): 1, (1, None): 2}


def test_a_dog_taken_for_a_cat_is_counted_where_a_cat_may_be() -> None:
    judged = judge([truth("a", (A, 0), (B, 1))], [found((B, 0, 0.8))], CLASSES)
    assert confusion(judged) == {(1, 0): 1, (0, None): 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_class_is_said_as_often_as_it_has_best_detections_and_each_object_is_somewhere(seed: int) -> None:
    judged, *_ = random_run(seed)
    counts = confusion(judged)
    said = [sum(n for (_, label), n in counts.items() if label == each) for each in range(2)]
    assert said == np.bincount(judged.found.labels[judged.best], minlength=2).tolist()
    meant = [sum(n for (label, _), n in counts.items() if label == each) for each in range(2)]
    assert all(n >= objects for n, objects in zip(meant, judged.objects.counted(2), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_precision_and_recall_by_score_as_counted_one_by_one(seed: int) -> None:
    judged, *_ = random_run(seed)
    curve, positives = by_score(judged), int((~judged.objects.ignore).sum())
    for at, precision, recall in zip(curve.scores, curve.precision, curve.recall, strict=True):
        kept = judged.matches.outcome[judged.found.scores >= at]
        true, false = int((kept == 1).sum()), int((kept == 0).sum())
        assert (precision, recall) == pytest.approx((true / (true + false), true / positives))
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(curve.precision, curve.recall, strict=True)]
    best = curve.balance
    assert (best.f1 if best else 0) == pytest.approx(max(f1, default=0))


def test_a_long_curve_is_thinned_evenly_by_score_too_and_keeps_its_ends() -> None:
    scores = np.float32(np.linspace(1, 0, 50_000) ** 8)  # most are near 0
    curve = ByScore(scores, np.linspace(1, 0.1, 50_000), np.linspace(0, 1, 50_000))
    thin = curve.thinned()
    assert len(thin.scores) < 500
    assert (thin.scores[0], thin.scores[-1]) == (scores[0], scores[-1])
    assert (np.diff(thin.scores) < 0).all()
    assert np.diff(thin.scores).min() > -0.01


def test_no_detections_and_no_objects_have_no_balance() -> None:
    assert by_score(judge([truth("a", (A, 0))], [found()], CLASSES)).balance is None
    assert by_score(judge([truth("a")], [found((A, 0, 0.5))], CLASSES)).balance is None
    assert by_score(judge([], [], CLASSES)).balance is None


def test_the_curve_of_a_perfect_class_goes_along_the_top_to_its_end_and_can_be_seen() -> None:
    truths, detections = [truth("a", (A, 0), (B, 0))], [found((A, 0, 0.9), (B, 0, 0.8))]
    judged = judge(truths, detections, CLASSES)
    curve = precision_recall(judged)["cat"]
    assert (curve.recall.tolist(), curve.ceiling.tolist()) == ([0.5, 1], [1, 1])
    values = run_values(score("voc07", truths, detections, CLASSES), judged, None)
    figure = json.loads(plots([values])["plot-curves"])
    assert figure["data"][0]["x"] == [0, 0.5, 1, 1]
    assert figure["data"][0]["y"] == [1, 1, 1, 0]
    assert figure["layout"]["xaxis"]["range"][1] > 1.01
    assert figure["layout"]["yaxis"]["range"][1] > 1.01


def test_lines_of_one_colour_differ_in_their_strokes() -> None:
    names = tuple(f"c{number:02d}" for number in range(20))
    truths, detections = [truth("a", *((A, label) for label in range(20)))], [found(*((A, n, 0.9) for n in range(20)))]
    values = run_values(score("voc07", truths, detections, names), judge(truths, detections, names), None)
    lines = [trace["line"] for trace in json.loads(plots([values, values])["plot-curves"])["data"]]
    assert len({(line["color"], line["dash"]) for line in lines}) == len(lines) == 40


def test_recall_counts_boxes_of_the_right_class_apart() -> None:
    curves = recall_by_iou(two_photos()[0])
    assert curves["right class"][0] == pytest.approx(1 / 3)
    assert curves["any class"][0] == pytest.approx(2 / 3)


def test_mistakes_of_a_photo_by_score_and_the_worst_first() -> None:
    judged, _ = two_photos()
    assert mistakes_at(judged, 0.0, 2).tolist() == [2, 2]
    assert mistakes_at(judged, 0.75, 2).tolist() == [2, 1]
    assert mistakes_at(judged, 0.99, 2).tolist() == [2, 1]  # nothing is kept, three objects count
    assert worst_first(np.array([1, 3, 0, 3]), 2) == [1, 3]


def test_the_boxes_of_a_photo_with_what_became_of_them() -> None:
    judged, truths = two_photos()
    two, one = photo_values(judged, truths, [1, 0])
    assert (two["image"], two["found"]["kinds"], two["found"]["scores"]) == (
        "two",
        ["ignored", "background"],
        [0.95, 0.7],
    )
    assert two["objects"]["found_at"] == [None, None]
    assert two["objects"]["ignored"] == [False, True]
    assert one["found"]["kinds"] == ["true", "confusion"]
    assert one["found"]["labels"] == ["cat", "cat"]
    assert (one["found"]["ious"], one["found"]["meant"]) == ([1, 1], [None, "dog"])
    assert one["objects"]["found_at"] == [0.9, None]
    assert one["objects"]["boxes"] == [A, B]


def test_the_boxes_of_a_photo_say_where_objects_were_lost() -> None:
    judged, truths = two_photos()
    lost = (LostObject("one", 1, 1, "small", "no proposal", box=(19.0, 20.0, 30.0, 40.0), iou=0.45),)
    losses = Losses(lost, CLASSES, np.zeros((2, 3), np.int64), 2, 2, 0.5, None)
    two, one = photo_values(judged, truths, [1, 0], losses)
    said = {"stage": "no proposal", "reason": "the best proposed box has IoU 0.45", "boxes": [[19, 20, 30, 40]]}
    assert one["objects"]["lost"] == [None, said]
    assert two["objects"]["lost"] == [None, None]
    assert "lost" not in photo_values(judged, truths, [0])[0]["objects"]


@pytest.mark.parametrize("seed", range(10))
def test_photos_hold_as_many_of_a_kind_as_the_whole(seed: int) -> None:
    judged, truths, _ = random_run(seed)
    kinds = [kind for photo in photo_values(judged, truths, range(len(truths))) for kind in photo["found"]["kinds"]]
    assert kinds.count("true") == int((judged.matches.outcome == 1).sum())
    for place, kind in enumerate(KINDS):
        assert kinds.count(kind) == int(((judged.matches.outcome == 0) & (judged.kinds == place)).sum())


def test_scores_of_other_programs_have_their_own_scale() -> None:
    ours, _ = two_photos()
    assert (scale_of([ours]).low, scale_of([ours]).high, scale_of([ours]).step) == (0, 1, 0.01)
    theirs = scale_of([judge([truth("a", (A, 0))], [found((A, 0, 12.0), (FAR, 0, -4.0))], CLASSES)])
    assert (theirs.low, theirs.high) == (-4, 12)
    assert theirs.low <= theirs.start <= 12


def test_thumbnails_are_small_and_unreadable_photos_are_named(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (400, 100), "red").save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    whole, broken = thumbnails([tmp_path / "a.png", tmp_path / "b.jpg"], 80)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(whole.data)))
    assert (picture.format, picture.size, whole.reason) == ("JPEG", (80, 20), "")
    assert broken.data == ""
    assert "b.jpg" in broken.reason


class Page(html.parser.HTMLParser):
    """The parts of a page: tags with their attributes, and the text right behind each."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, dict[str, str], str]] = []
        self._open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((*self.tags[-1], data))

    def of(self, tag: str, **attributes: str) -> list[str]:
        return [text for name, own, text in self.texts if name == tag and attributes.items() <= own.items()]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict[str, object], str]:
    """A page about photos and classes with names that try to be something else, with the JSON written with it."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile_run(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return Page(text), json.loads((folder / "report.json").read_text(encoding="utf-8")), text


def test_the_page_holds_the_json_that_was_written(hostile: tuple[Page, dict[str, object], str]) -> None:
    page, written, _ = hostile
    (held,) = page.of("script", id="data")
    assert json.loads(held) == written
    assert written["photos"][0]["image"] == HOSTILE_PHOTO
    assert HOSTILE_CLASS in written["classes"]


def test_names_are_text_not_markup(hostile: tuple[Page, dict[str, object], str]) -> None:
    page, _, text = hostile
    assert {tag for tag, _ in page.tags} & {"img", "b", "a", "marquee"} == {"a"}  # those of the page itself
    assert all(attributes["href"].startswith("#") for tag, attributes in page.tags if tag == "a")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text.replace(_plotly(), ""))
    assert r'<marquee onstart=hack()>"\u202ecat\x1b[2J' in page.of("bdi")


def _plotly() -> str:
    return str(pytest.importorskip("plotly.offline").get_plotlyjs())


def test_only_the_scripts_of_the_page_may_run_and_nothing_is_loaded(
    hostile: tuple[Page, dict[str, object], str],
) -> None:
    page, _, text = hostile
    (policy,) = [own["content"] for tag, own in page.tags if tag == "meta" and "http-equiv" in own]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts}
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert set(directives["script-src"].split()) == allowed
    assert len(allowed) == 2
    assert directives["default-src"] == "'none'"
    assert not [own for _, own in page.tags if "src" in own]
    assert "link" not in {tag for tag, _ in page.tags}


def test_the_tables_stand_in_the_page_without_scripts(hostile: tuple[Page, dict[str, object], str]) -> None:
    page, written, _ = hostile
    assert written["classes"][HOSTILE_CLASS]["AP"] == pytest.approx(51 / 101)  # recall 0 to 0.5, of COCO's 101 levels
    assert "50.50" in page.of("bdi")
    assert any("did not keep the scores of its regions" in text for text in page.of("p"))


def test_two_runs_stand_side_by_side(tmp_path: Path) -> None:
    hostile_run(tmp_path, against=True)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    heads = page.of("button", type="button")
    assert [text.strip() for text in heads if text.strip() in ("% A", "% B", "B - A")][:3] == ["% A", "% B", "B - A"]
    assert [each["image"] for each in written["photos"]] == [each["image"] for each in written["against"]["photos"]]
    assert written["against"]["AP"] == 0
    assert written["AP"] > 0
    assert json.loads(page.of("script", id="data")[0]) == written


def test_mistakes_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    hostile_run(tmp_path, "--no-mistakes")
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert not {"mistakes", "confusion", "lost"} & written.keys()
    ids = {own.get("id") for _, own in Page((tmp_path / "report.html").read_text(encoding="utf-8")).tags}
    assert "photos" in ids
    assert not {"mistakes", "confusion", "lost"} & ids


@pytest.mark.parametrize("package", ["jinja2", "plotly.graph_objects"])
def test_what_the_page_needs_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    needed = rf"^{package.partition('.')[0]} is not installed: pip install 'googlenet-rcnn\[report\]'$"
    with pytest.raises(InputError, match=needed):
        hostile_run(tmp_path)
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("name", ["photos/plain.png", "run/run.json", "run/detections.jsonl", "other/detections.jsonl"])
def test_the_page_never_replaces_its_inputs(tmp_path: Path, name: str) -> None:
    hostile_run(tmp_path, against=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    before = (tmp_path / name).read_bytes()
    words = ["run", "--ground-truth", "instances.json", "--images", "photos", "--against", "other", "--html", name]
    with pytest.raises(FileRefused, match="would be written over an input"):
        CliRunner().invoke(
            app,
            ["detections", *(w if w.startswith("--") else str(tmp_path / w) for w in words)],
            catch_exceptions=False,
        )
    assert (tmp_path / name).read_bytes() == before


def test_the_worst_photos_are_kept(tmp_path: Path) -> None:
    hostile_run(tmp_path, "--html-photos", "1", "--html-pixels", "32")
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [each["image"] for each in written["photos"]] == [HOSTILE_PHOTO]  # it has a mistake, the other has none


def test_the_kinds_in_the_json_are_those_of_the_mistakes() -> None:
    judged, truths, detections = random_run(3)
    mistakes = find_mistakes(judged)
    values = run_values(score("voc07", truths, detections, CLASSES), judged, mistakes)
    assert values["mistakes"]["kinds"] == mistakes.kinds
    assert sum(cell["count"] for cell in values["confusion"] if cell["said"]) == sum(mistakes.best)
