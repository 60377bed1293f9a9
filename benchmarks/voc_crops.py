"""Write the objects of a VOC folder as small pictures, one folder per class: a small real set to train classifiers.

Usage: python benchmarks/voc_crops.py VOC2007 train out/crops/train [--side 72] [--most 300]

Each object is cut with a tenth of its size around it, as a square, and brought to the given side. Objects smaller than
half of that, difficult ones and those after the first `most` of a class are left out.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image

from eval.voc import VocDataset
from structures.boxes import expand
from structures.images import read_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("split")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=72)
    parser.add_argument("--most", type=int, default=300)
    given = parser.parse_args()
    dataset, written = VocDataset(given.voc, given.split), Counter[str]()
    for truth in dataset:
        image = PIL.Image.fromarray(read_image(dataset.image_path(truth.image_id)))
        large = (truth.boxes[:, 2:] - truth.boxes[:, :2]).max(axis=1) >= given.side / 2
        for row in np.flatnonzero(large & ~truth.ignore):
            name = dataset.classes[truth.labels[row]]
            if written[name] < given.most:
                write_crop(image, truth.boxes[row], given.side, given.out / name / f"{truth.image_id}_{row}.png")
                written[name] += 1
    print(f"{sum(written.values())} objects of {len(written)} classes written to {given.out}")


def write_crop(image: PIL.Image.Image, box: np.ndarray, side: int, path: Path) -> None:
    x1, y1, x2, y2 = expand(box[None], 1.2)[0]
    half = max(x2 - x1, y2 - y1) / 2
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    square = tuple(round(float(v)) for v in (centre_x - half, centre_y - half, centre_x + half, centre_y + half))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.crop(square).resize((side, side), PIL.Image.Resampling.BICUBIC).save(path)


if __name__ == "__main__":
    main()
