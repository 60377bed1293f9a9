"""Where objects were lost, as tables and as values for JSON."""

import io
import json

import numpy as np
from rich.console import Console

from eval.lost import STAGES, Losses, LostObject
from eval.lost_report import SHORT, lost_json, lost_sheets, lost_warnings
from eval.plain_page import plain_page
from eval.report import Sheet

LOST = (
    LostObject("a", 0, 0, "small", "no proposal", (0, 0, 4, 4), 0.25, "grid", 3, 9),
    LostObject("a", 2, 1, "large", "background", (0, 0, 9, 9), 0.75, "search", 1, 9, 0.125, {"cat": 0.125}),
    LostObject("b", 0, 1, "large", "unknown"),
)
LOSSES = Losses(LOST, ("cat", "[dog]"), np.array([[2, 0, 0], [0, 1, 4]]), 1, 2, 0.5, 0.25)


def test_tables() -> None:
    stages, classes, sources = lost_sheets(LOSSES)
    assert stages.caption == "Where objects were lost: 3 of 7 (no detection of their class with IoU 0.5 and score 0.25)"
    assert [[row[0], *row[3:]] for row in stages.rows] == [
        ["no proposal", "1", "0", "0", "1"],
        ["background", "0", "0", "1", "1"],
        ["unknown", "0", "0", "1", "1"],
    ]
    assert classes.head == ["class", "missed", "no box", "backgr.", "?"]
    assert classes.rows == [["[dog]", "2/5", "", "1", "1"], ["cat", "1/2", "1", "", ""]]
    assert sources.rows == [["grid", "1", "1", "", ""], ["search", "1", "", "1", ""], ["(none)", "1", "", "", "1"]]


def test_tables_stay_whole_at_80_columns() -> None:
    every = [
        LostObject("a", i, 0, "large", stage, source="ranked:selective-search+multibox")
        for i, stage in enumerate(STAGES)
    ]
    losses = Losses(tuple(every), ("diningtable",), np.array([[0, 0, 99]]), 1, 1, 0.5, None)
    console = Console(width=80, record=True, file=io.StringIO())
    for sheet in lost_sheets(losses):
        console.print(sheet.for_terminal())
    told = console.export_text()
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= 80


def test_every_stage_has_a_head_and_a_meaning() -> None:
    assert SHORT.keys() == STAGES.keys()
    assert len(set(SHORT.values())) == len(SHORT)


def test_values_for_json() -> None:
    values = lost_json(LOSSES)
    assert json.loads(json.dumps(values, allow_nan=False)) == values | {"lost": json.loads(json.dumps(values["lost"]))}
    assert (values["missed"], values["objects"], values["stages"]) == (
        3,
        7,
        {"no proposal": 1, "background": 1, "unknown": 1},
    )
    assert values["lost"][2] == {"image": "b", "row": 0, "class": "[dog]", "size": "large", "stage": "unknown"}
    assert values["lost"][1]["probabilities"] == {"cat": 0.125}


def test_photos_without_regions_are_reported() -> None:
    assert lost_warnings(LOSSES) == [
        "the regions of 1 of 2 photos were not kept "
        '(`keep="scores"` keeps them): where their objects were lost is inferred from the detections alone'
    ]


def test_nothing_lost_nothing_shown() -> None:
    assert lost_sheets(Losses((), ("cat",), np.array([[1, 0, 0]]), 1, 1, 0.5, None)) == []


def test_names_on_a_page_are_escaped() -> None:
    page = plain_page(
        "<b>", facts=["<i>"], warnings=["a & b"], sheets=[Sheet("<c>", ["<d>"], [["<e>"]])], pictures={'"': b"<svg/>"}
    )
    for name in "bicde":
        assert f"<{name}>" not in page.partition("</style>")[2].replace("<body>", "")
        assert f"&lt;{name}&gt;" in page
    assert "a &amp; b" in page
    assert 'alt="&quot;"' in page
