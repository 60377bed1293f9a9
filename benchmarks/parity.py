"""Do our figures equal the references' on hard random files? Prints a table: python benchmarks/parity.py [--files 300].

COCO's are compared with pycocotools, on the files that the tests draw as well: overlaps on the thresholds, areas on the
edges of ranges or below 0, equal scores, crowds, photos without objects, ids of 0 and beyond 2^53, boxes turned inside
out. VOC's and ILSVRC's are compared with the rules of their development kits, written out as loops.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hypothesis import HealthCheck, Phase, given, seed, settings

from eval.protocols import ilsvrc, voc, voc07
from tests.test_eval_coco_parity import official, ours, scenes
from tests.test_eval_protocols import scene, slow_ilsvrc, slow_voc, truth

Pair = tuple[float, float]  # our figure, and the reference's; both NaN where there is nothing to measure
CLASSES = ("x", "y", "z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    files = parser.parse_args().files
    print(f"{files} files each")
    print("| protocol | reference | figures | not measurable, in both | mean: ours, theirs | largest difference |")
    print("|---|---|---|---|---|---|")
    print(row("coco", "pycocotools", coco_pairs(files)))
    for name, reference, pairs in (
        ("voc07", "VOCevaldet.m of 2007", [pair for n in range(files) for pair in voc_pairs(n, voc07, 0)]),
        ("voc", "VOCevaldet.m and VOCap.m", [pair for n in range(files) for pair in voc_pairs(n, voc, 1)]),
        ("ilsvrc", "eval_detection.m", [pair for n in range(files) for pair in ilsvrc_pairs(n)]),
    ):
        print(row(name, reference, pairs))


def row(protocol: str, reference: str, pairs: Sequence[Pair]) -> str:
    known = [pair for pair in pairs if not any(map(math.isnan, pair))]
    empty = sum(all(map(math.isnan, pair)) for pair in pairs)
    assert len(known) + empty == len(pairs), "a figure is measurable for one of the two alone"
    means = [f"{100 * sum(side) / len(known):.4f}" for side in zip(*known, strict=True)]
    apart = max(abs(a - b) for a, b in known)
    return f"| `{protocol}` | {reference} | {len(pairs):,} | {empty:,} | {', '.join(means)} | {apart:.0e} |"


def coco_pairs(files: int) -> list[Pair]:
    """Return the twelve figures, and AP and AP50 of each class, of every file."""
    pairs: list[Pair] = []

    @seed(0)
    @settings(
        max_examples=files,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(scenes())
    def compare(drawn: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
        if not drawn[1]:  # pycocotools fails on an empty list
            return
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "instances.json"), Path(folder, "results.json")
            for path, values in zip(paths, drawn, strict=True):
                path.write_text(json.dumps(values))
            pairs.extend(zip(ours(*paths), official(*paths), strict=True))

    compare()
    return pairs


def voc_pairs(number: int, protocol: Callable[..., Iterator[tuple[str, float]]], which: int) -> Iterator[Pair]:
    truths, detections = scene(number)
    figures = dict(protocol(truths, detections, CLASSES))
    for label, name in enumerate(CLASSES):
        yield figures[f"AP/{name}"], slow_voc(truths, detections, label)[which]


def ilsvrc_pairs(number: int) -> Iterator[Pair]:
    truths, detections = scene(number)
    truths = [truth(*each.boxes, labels=each.labels, name=each.image_id) for each in truths]  # none is to be ignored
    figures = dict(ilsvrc(truths, detections, CLASSES))
    for label, name in enumerate(CLASSES):
        yield figures[f"AP/{name}"], slow_ilsvrc(truths, detections, label)


if __name__ == "__main__":
    main()
