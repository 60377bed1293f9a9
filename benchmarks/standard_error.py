"""How sure an mAP is, and a difference between two: photos drawn with replacement, scored again (the bootstrap).

Usage: python benchmarks/standard_error.py VOC2007 quarter a/detections.jsonl [b/detections.jsonl ...] [--draws 200]
           [--protocol voc07]

Every draw takes as many photos as there are, the same for all files. The difference of a file is to the first one.
"""

import argparse
from pathlib import Path

import numpy as np

from detect.evaluation import read_detections
from eval.ground_truth import open_ground_truth
from eval.protocols import PROTOCOLS
from eval.scores import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("split")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="voc07")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dataset = open_ground_truth(given.ground_truth, given.split)
    truths = list(dataset)
    found = [read_detections(file, dataset, allow_extra=False)[0].detections for file in given.files]

    def scores(rows: np.ndarray) -> list[float]:
        drawn = [truths[row] for row in rows]
        return [
            100 * score(given.protocol, drawn, [each[row] for row in rows], dataset.classes).headline[1]
            for each in found
        ]

    rng = np.random.default_rng(given.seed)
    whole = scores(np.arange(len(truths)))
    draws = np.array([scores(rng.integers(0, len(truths), len(truths))) for _ in range(given.draws)])
    for number, file in enumerate(given.files):
        line = f"{file}: {whole[number]:.2f}, standard error {draws[:, number].std(ddof=1):.2f}"
        if number:
            apart = draws[:, number] - draws[:, 0]
            low, high = np.percentile(apart, [2.5, 97.5])
            line += f"; difference {whole[number] - whole[0]:+.2f}, standard error {apart.std(ddof=1):.2f}, "
            line += f"95% of the draws from {low:+.2f} to {high:+.2f}"
        print(line)


if __name__ == "__main__":
    main()
