"""The tables that people read, and their JSON, from results made by hand whose numbers all differ."""

import math

from eval.mistakes import KINDS, Mistakes
from eval.proposal_recall import COUNTS
from eval.proposal_report import proposal_sheets
from eval.report import class_sheet, mistake_sheets, overall_sheet
from eval.scores import Scores

SCORES = Scores(
    protocol="coco",
    values={"AP": 0.41, "AR_1": 0.2, "AP/cat": 0.1, "AP50/cat": 0.3, "AP/dog": math.nan, "AP50/dog": math.nan},
    classes=("cat", "dog"),
    objects=(7, 0),
    ignored=(2, 1),
    detections=(9, 3),
    images=5,
)
MISTAKES = Mistakes(
    best=(12, 8),
    kinds={"duplicate": 1, "localisation": 4, "confusion": 3, "both": 0, "background": 0},
    by_class={},
    gain={"duplicate": 0.01, "localisation": 0.05, "confusion": -0.02, "both": 0.0, "background": 0.0},
    confusions=[("dog", "cat", 2), ("cat", "cow", 1)],
    sizes={"small": (10, 3), "medium": (5, 4), "large": (0, 0)},
)


def test_a_class_stands_with_its_figures_and_counts():
    sheet = class_sheet(SCORES)
    assert sheet.head == ["class", "AP %", "AP50 %", "objects", "ignored", "detections"]
    assert sheet.rows == [["cat", "10.00", "30.00", "7", "2", "9"], ["dog", "-", "-", "0", "1", "3"]]


def test_figures_over_all_classes_stand_apart():
    assert overall_sheet(SCORES).rows == [["AP", "41.00"], ["AR_1", "20.00"]]


def test_json_holds_the_same_figures_and_counts():
    assert SCORES.as_json() == {
        "protocol": "coco",
        "AP": 0.41,
        "AR_1": 0.2,
        "images": 5,
        "objects": 7,
        "ignored_objects": 3,
        "detections": 12,
        "classes_without_objects": ["dog"],
        "classes": {
            "cat": {"AP": 0.1, "AP50": 0.3, "objects": 7, "ignored_objects": 2, "detections": 9},
            "dog": {"AP": None, "AP50": None, "objects": 0, "ignored_objects": 1, "detections": 3},
        },
    }


def test_mistakes_are_listed_by_kind_the_commonest_first():
    kinds, confusions, sizes = mistake_sheets(MISTAKES)
    assert "among the 20 best" in kinds.caption
    assert kinds.head == ["kind", "what it is", "count", "share %", "mAP without it"]
    assert kinds.rows == [
        ["localisation", KINDS["localisation"], "4", "20.00", "+5.00"],
        ["confusion", KINDS["confusion"], "3", "15.00", "-2.00"],
        ["duplicate", KINDS["duplicate"], "1", "5.00", "+1.00"],
        ["both", KINDS["both"], "0", "0.00", "+0.00"],
        ["background", KINDS["background"], "0", "0.00", "+0.00"],
    ]
    assert confusions.rows == [["dog for cat", "2"], ["cat for cow", "1"]]
    assert sizes.head == ["size", "area", "objects", "missed", "missed %"]
    assert sizes.rows == [
        ["small", "from 0 x 0 px", "10", "7", "70.00"],
        ["medium", "from 32 x 32 px", "5", "1", "20.00"],
        ["large", "from 96 x 96 px", "0", "0", "-"],
    ]


def test_proposal_recall_is_listed_by_class_by_iou_and_by_number_of_boxes():
    values = {
        **{"MABO": 0.61, "AR@100": 0.21, "AR": 0.45},
        **{f"recall@{0.5 + i / 20:.2f}": (90 - i) / 100 for i in range(11)},
        **{f"recall@0.50 of {n} boxes": (50 + i) / 100 for i, n in enumerate(COUNTS)},
        **{f"recall@0.70 of {n} boxes": (20 + i) / 100 for i, n in enumerate(COUNTS)},
        **{"recall@0.50 of small objects": 0.05, "boxes per image, mean": 1234.56},
        **{"ABO/cat": 0.7, "recall@0.50/cat": 0.8, "ABO/dog": 0.6, "recall@0.50/dog": math.nan},
    }
    classes, by_iou, by_count, whole = proposal_sheets(values, ["cat", "dog"])
    assert classes.head == ["class", "ABO %", "recall at IoU 0.5 %"]
    assert classes.rows == [["cat", "70.00", "80.00"], ["dog", "60.00", "-"]]
    assert by_iou.rows == [[f"{0.5 + i / 20:.2f}", f"{90 - i}.00"] for i in range(11)]
    assert by_count.head == ["best boxes per image", "IoU 0.5 %", "IoU 0.7 %"]
    assert by_count.rows == [[str(n), f"{50 + i}.00", f"{20 + i}.00"] for i, n in enumerate(COUNTS)]
    assert whole.rows == [
        ["MABO %", "61.00"],
        ["AR@100 %", "21.00"],
        ["AR %", "45.00"],
        ["recall@0.50 of small objects %", "5.00"],
        ["boxes per image, mean", "1234.6"],
    ]
