"""A scored run as plain values: what a page and a JSON file say of it."""

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.confusion import confusion
from eval.mistakes import JudgedRun, Mistakes
from eval.page.curves import IOU_LEVELS, by_score, precision_recall, recall_by_iou
from eval.scores import Scores, or_null

DIGITS = 6  # of curves, boxes and scores: more than a page can show


def run_values(scores: Scores, judged: JudgedRun, mistakes: Mistakes | None) -> dict[str, Any]:
    """Return all figures of a run for a JSON file; NaN becomes null.

    Args:
        scores: of any protocol.
        judged: the same detections at IoU 0.5.
        mistakes: what is wrong with them; None leaves this out, and the confusion of classes.
    """
    score_curve = by_score(judged)
    values = {
        **scores.as_json(),
        "best_f1": asdict(balance) if (balance := score_curve.balance) else None,
        "curves": {
            "precision_recall": {
                name: {key: rounded(getattr(curve, key)) for key in ("recall", "precision", "ceiling", "scores")}
                for name, curve in precision_recall(judged).items()
            },
            "by_score": {
                key: rounded(getattr(score_curve.thinned(), key)) for key in ("scores", "precision", "recall")
            },
            "recall_by_iou": {
                "iou": rounded(IOU_LEVELS),
                **{name: rounded(shares) for name, shares in recall_by_iou(judged).items()},
            },
        },
    }
    if mistakes is None:
        return values
    return {**values, "mistakes": mistake_values(mistakes), "confusion": _confusion_values(judged)}


def mistake_values(mistakes: Mistakes) -> dict[str, Any]:
    """Return the kinds of mistakes for a JSON file."""
    true, false = mistakes.best
    return {
        "best_detections": {"true": true, "false": false},
        "kinds": dict(mistakes.kinds),
        "map_without": {kind: or_null(gain) for kind, gain in mistakes.gain.items()},
        "kinds_by_class": {name: dict(kinds) for name, kinds in mistakes.by_class.items()},
        "confusions": [{"said": said, "meant": meant, "count": n} for said, meant, n in mistakes.confusions],
        "sizes": {name: {"objects": objects, "found": found} for name, (objects, found) in mistakes.sizes.items()},
    }


def rounded(values: npt.ArrayLike) -> list[Any]:
    """Return numbers of any shape as nested lists, with six significant digits; NaN becomes null.

    >>> rounded([0.123456789, float("nan")])
    [0.123457, None]
    """
    return [_rounded(value) for value in np.asarray(values).tolist()]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return or_null(float(f"{value:.{DIGITS}g}"))


def _confusion_values(judged: JudgedRun) -> list[dict[str, Any]]:
    def name(label: int | None) -> str | None:
        return None if label is None else judged.classes[label]

    counts = sorted(confusion(judged).items(), key=lambda item: -item[1])
    return [{"meant": name(meant), "said": name(said), "count": count} for (meant, said), count in counts]
