"""Say which of the 144 crops of a photo help and which harm: top-1, top-5 and log loss of each kind.

    python benchmarks/crop_protocols.py images --classes classes.txt --weights bvlc_googlenet.npz --kept own.npy
    python benchmarks/crop_protocols.py images --classes classes.txt --weights bvlc_googlenet.npz --kept warp.npy --warp

Every view of every photo is classified once, and its probabilities are kept in a file (288 MB for 500 photos of 1,000
classes); a run that was killed resumes. The columns: log loss of the crops of a row taken one by one; top-1, top-5 and
log loss of their mean softmax, and how sure it is of its answer; and its calibrated log loss.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from classifier.crops import to_device
from classifier.engines import CPU_BATCH, make_engine
from classifier.googlenet import INPUT_SIZE
from classifier.images import cut_views
from classifier.placement import place
from classifier.regions import Probabilities
from classifier.views import SCALES, views_at_scale
from classifier.weights.load import load_weights
from detect.runs.class_folders import columns_of, read_class_folders
from eval.classification import classification
from structures.errors import InputError
from structures.images import read_image

ORDER = (len(SCALES), 3, 6, 2)  # scales, squares, crops of a square, mirror images
SQUARES = {"left or top square": 0, "centre square": 1, "right or bottom square": 2}
KINDS = {"corners": slice(0, 4), "centre": slice(4, 5), "whole square": slice(5, 6)}


def views_of(image_size, preprocessing, *, warp):
    """Return the 144 views in ORDER, those that coincide as often as they do."""
    size = (1, 1) if warp else image_size
    scales = [round(scale * preprocessing.size / INPUT_SIZE) for scale in SCALES]
    return [
        each._replace(mirrored=mirrored)
        for scale in scales
        for each in views_at_scale(size, scale, preprocessing.size)
        for mirrored in (False, True)
    ]


def keep(checkpoint, paths, file, *, warp):
    """Return the (photos, 144, classes) probabilities, those in the file read and the others made."""
    preprocessing = checkpoint.preprocessing
    shape = (len(paths), int(np.prod(ORDER)), len(checkpoint.classes))
    kept = np.lib.format.open_memmap(file, "r+" if file.exists() else "w+", np.float32, shape)
    if kept.shape != shape:
        raise InputError(f"{file} holds {kept.shape} probabilities, not {shape}: name another file")
    engine, here = None, place(device="cpu")
    for number, path in enumerate(paths):
        if kept[number].any():
            continue
        engine = engine or make_engine(Probabilities(checkpoint.network()), here, size=preprocessing.size)
        pixels = to_device(read_image(path))
        views = views_of(pixels.shape[1:], preprocessing, warp=warp)
        distinct = list(dict.fromkeys(views))
        crops = list(cut_views(pixels, distinct, preprocessing))
        batches = [torch.stack(crops[i : i + CPU_BATCH]) for i in range(0, len(crops), CPU_BATCH)]
        rows = torch.cat([engine(batch) for batch in batches]).numpy()
        row_of = {view: row for row, view in enumerate(distinct)}
        kept[number] = rows[[row_of[view] for view in views]]
        if number % 50 == 0:
            print(f"{number} of {len(paths)} photos", flush=True)
    return kept


def show(name, chosen, labels):
    """Print a row for (photos, views, classes) probabilities."""
    alone = np.mean([dict(classification(chosen[:, view], labels))["log loss"] for view in range(chosen.shape[1])])
    mean = chosen.mean(axis=1)
    top_1, top_5, loss, ideal = (value for _, value in classification(mean, labels))
    sure = mean.max(axis=1).mean()
    print(f"{name:36}{alone:8.3f}{100 * top_1:8.1f}{100 * top_5:8.1f}{loss:8.3f}{sure:8.3f}{ideal:8.3f}", flush=True)


def table(kept, labels):
    """Print the figures of the protocols, then of each part of the 144."""
    grid = kept.reshape(len(kept), *ORDER, -1)

    def row(name, part):
        show(name, part.reshape(len(grid), -1, grid.shape[-1]), labels)

    print(f"{len(grid)} photos{'':26}{'alone':>8}{'top-1':>8}{'top-5':>8}{'loss':>8}{'sure':>8}{'calib.':>8}")
    row("1 crop", grid[:, 0, 1, 4, 0])
    row("10 crops", grid[:, 0, 1, :5])
    row("144 crops", grid)
    for number, scale in enumerate(SCALES):
        row(f"scale {scale}: centre of centre square", grid[:, number, 1, 4, 0])
        row(f"scale {scale}: 10 crops", grid[:, number, 1, :5])
        row(f"scale {scale}: all 36", grid[:, number])
    for name, square in SQUARES.items():
        row(name, grid[:, :, square])
    for name, kind in KINDS.items():
        row(name, grid[:, :, :, kind])
        row(f"{name} at scale {SCALES[0]}", grid[:, 0, :, kind])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--warp", action="store_true", help="squeeze photos to squares")
    parser.add_argument("--every", type=int, default=1, help="only every Nth photo")
    given = parser.parse_args()
    checkpoint = load_weights(given.weights)
    data = read_class_folders(given.folder, columns_of(checkpoint.classes, [given.classes] if given.classes else None))
    kept = keep(checkpoint, data.paths[:: given.every], given.kept, warp=given.warp)
    table(kept, data.labels[:: given.every])


if __name__ == "__main__":
    main()
