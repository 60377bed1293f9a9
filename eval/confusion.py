"""Which class is taken for which: the best detections of a run, counted by the class meant and the class said."""

from collections import Counter

import numpy as np

from eval.matching import TRUE
from eval.mistakes import JudgedRun

Confusion = dict[tuple[int | None, int | None], int]


def confusion(judged: JudgedRun) -> Confusion:
    """Return the counts by (class meant, class said), without those that are 0.

    The detections are the best of each class, as many as it has objects, as for the kinds of mistakes. The class meant
    is that of the object found, or of the object of another class that the detection lies on (IoU at least 0.5); None
    stands for no such object: duplicates, loose boxes and background. The class said is None for an object that none of
    these detections lies on.

    So a class said occurs as often as it has best detections; a class meant may occur more often than it has objects,
    where two detections of different classes lie on one.
    """
    true = judged.best[judged.matches.outcome[judged.best] == TRUE]
    confused = judged.best_confused
    elsewhere = np.setdiff1d(judged.best_false, confused)
    labels, said = judged.objects.labels, judged.found.labels
    counts: Counter[tuple[int | None, int | None]] = Counter(zip(said[true].tolist(), said[true].tolist(), strict=True))
    counts.update(zip(labels[judged.others[confused]].tolist(), said[confused].tolist(), strict=True))
    counts.update((None, label) for label in said[elsewhere].tolist())
    touched = ~judged.objects.ignore
    touched[judged.matches.nearest[true]] = False
    touched[judged.others[confused]] = False
    counts.update((label, None) for label in labels[touched].tolist())
    return dict(counts)
