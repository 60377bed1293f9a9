"""Where objects were lost, as people and other programs read it: tables, and values for JSON."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from eval.lost import STAGES, Losses, LostObject, Stage
from eval.mistakes import SIZES
from eval.report import Sheet
from structures.text import number_of

SHORT: Mapping[Stage, str] = {
    "not searched": "no run",
    "no proposal": "no box",
    "not classified": "cut",
    "background": "backgr.",
    "wrong class": "class",
    "below the floor": "floor",
    "suppressed": "NMS",
    "loose": "loose",
    "shared": "shared",
    "unknown": "?",
}
"""Column heads, so short that the table of classes fits into 80 columns."""


def lost_sheets(losses: Losses) -> list[Sheet]:
    """Return the tables of where objects were lost: by stage and size, by class, and by generator."""
    stages = [stage for stage in STAGES if losses.stages[stage]]
    sheets = [_stage_sheet(losses, stages), _class_sheet(losses, stages)]
    if losses.with_regions:
        sheets.append(_source_sheet(losses, stages))
    return [sheet for sheet in sheets if sheet.rows]


def _stage_sheet(losses: Losses, stages: Sequence[Stage]) -> Sheet:
    by_size, total = losses.by_size(), losses.stages
    rows = [
        [
            stage,
            SHORT[stage],
            STAGES[stage],
            *(str(by_size.get(size, Counter())[stage]) for size in SIZES),
            str(total[stage]),
        ]
        for stage in stages
    ]
    least = "" if losses.score is None else f" and score {losses.score:g}"
    where = f"no detection of their class with IoU {losses.iou_threshold:g}{least}"
    caption = f"Where objects were lost: {len(losses.lost)} of {losses.objects.sum()} ({where})"
    return Sheet(caption, ["stage", "short", "what became of them", *SIZES, "all"], rows, texts=3)


def _class_sheet(losses: Losses, stages: Sequence[Stage]) -> Sheet:
    objects = dict(zip(losses.classes, losses.objects.sum(axis=1).tolist(), strict=True))
    rows = [
        [name, f"{counts.total()}/{objects[name]}", *_cells(counts, stages)]
        for name, counts in losses.by_class().items()
    ]
    head = ["class", "missed", *(SHORT[stage] for stage in stages)]
    return Sheet("Where they were lost, by class", head, sorted(rows))


def _source_sheet(losses: Losses, stages: Sequence[Stage]) -> Sheet:
    rows = [
        [name or "(none)", str(counts.total()), *_cells(counts, stages)] for name, counts in losses.by_source().items()
    ]
    head = ["generator of the best box", "missed", *(SHORT[stage] for stage in stages)]
    return Sheet("Where they were lost, by generator", head, rows)


def _cells(counts: Counter[Stage], stages: Sequence[Stage]) -> list[str]:
    return [str(counts[stage]) if counts[stage] else "" for stage in stages]


def lost_warnings(losses: Losses) -> list[str]:
    """Say for which photos less is known."""
    without = losses.photos - losses.with_regions
    if not without:
        return []
    return [
        f"the regions of {without} of {number_of(losses.photos, 'photo')} were not kept "
        '(`keep="scores"` keeps them): where their objects were lost is inferred from the detections alone'
    ]


def lost_json(losses: Losses) -> dict[str, Any]:
    """Return plain values: counts by stage in all groups, and every missed object with its figures."""
    return {
        "iou_threshold": losses.iou_threshold,
        "score": losses.score,
        "images": losses.photos,
        "images_with_regions": losses.with_regions,
        "missed": len(losses.lost),
        "objects": int(losses.objects.sum()),
        "stages": dict(losses.stages),
        "by_class": {name: dict(counts) for name, counts in losses.by_class().items()},
        "by_size": {name: dict(counts) for name, counts in losses.by_size().items()},
        "by_source": {name: dict(counts) for name, counts in losses.by_source().items()},
        "lost": [_object_json(each, losses.classes) for each in losses.lost],
    }


def _object_json(lost: LostObject, classes: Sequence[str]) -> dict[str, Any]:
    """Return the values of an object; those that are not known are left out."""
    known = {name: value for name, value in vars(lost).items() if value not in (None, "", 0, {}) and _is_number(value)}
    named = {"image": lost.image_id, "row": lost.row, "class": classes[lost.label]}
    return {**named, **{name: value for name, value in known.items() if name not in ("image_id", "row", "label")}}


def _is_number(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))
