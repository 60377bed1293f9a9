"""Measure our Selective Search: where its time goes, how it grows with the photo, what its order is worth.

    python benchmarks/selective_search.py stages VOC2007            # milliseconds per photo in each stage
    python benchmarks/selective_search.py scaling VOC2007           # seconds and memory from 0.1 to 16 megapixels
    python benchmarks/selective_search.py threads VOC2007           # two threads on one photo, or one each on two
    python benchmarks/selective_search.py order VOC2007 --photos 100  # recall of the first N boxes, next to OpenCV's

Photos are those of VOC `val`, evenly spread. One thread, unless a line says otherwise.
"""

import argparse
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from detect.runs.machine import peak_memory, processor
from eval.proposal_recall import measure_coverage, recall
from eval.selection import pick_evenly
from eval.voc import VocDataset
from proposals.generators import build
from proposals.opencv import OpenCvSelectiveSearch
from proposals.resizing import resize
from proposals.selective_search.buffers import Scratch
from proposals.selective_search.colours import convert
from proposals.selective_search.features import bin_pixels, describe
from proposals.selective_search.grouping import group
from proposals.selective_search.segmentation import SIGMA, segment, smooth, weigh_edges
from structures.cores import cores
from structures.images import read_image

MEGAPIXELS = (0.1, 0.4, 1, 4, 16)
COUNTS = (10, 50, 100, 200, 500, 1000, 2000, 10000)
SCALES = [(100.0, 100), (200.0, 200)]  # k and min_size of the default
SIMILARITIES = ("CTSF", "TSF")


def read_all(dataset, count):
    return [read_image(dataset.image_path(i)) for i in pick_evenly(dataset.image_ids, count)]


def stages(dataset, count, rounds):
    """Print the milliseconds of each stage, the best of some rounds on each photo."""
    images = [resize(image, 500).image for image in read_all(dataset, count)]
    best = {}
    for turn in range(rounds + 1):
        for number, image in enumerate(images):
            for name, seconds in one_photo(image).items():
                if turn:  # the first compiles
                    best[name, number] = min(best.get((name, number), np.inf), seconds)
    names = dict.fromkeys(name for name, _ in best)
    means = {name: 1000 * np.mean([best[name, number] for number in range(len(images))]) for name in names}
    for name, value in means.items():
        print(f"{name:28} {value:7.2f} ms")
    print(f"{'all stages':28} {sum(means.values()):7.2f} ms")


def one_photo(image, scratch=None, *, kept=Scratch()):  # noqa: B008  # memory is kept from photo to photo, as in a run
    scratch, spent = scratch or kept, Counter()

    def timed(name, run):
        begin = time.perf_counter()
        result = run()
        spent[name] += time.perf_counter() - begin
        return result

    for space in ("HSV", "Lab"):
        planes = timed("convert", lambda space=space: convert(image, space))
        bins = timed("bin colours and gradients", lambda planes=planes: bin_pixels(planes, scratch))
        blurred = timed("blur", lambda planes=planes: smooth(planes, SIGMA, scratch))
        weights = timed("weigh edges", lambda blurred=blurred: weigh_edges(blurred, scratch))
        cuts = timed("join pixels, both scales", lambda weights=weights: segment(weights, SCALES, scratch))
        for labels, n in cuts:
            superpixels = timed("describe superpixels", lambda: describe(labels, n, bins))  # noqa: B023
            for similarity in SIMILARITIES:
                timed("group", lambda: group(superpixels, similarity, labels.size))  # noqa: B023
    return spent


def mosaic(images, megapixels):
    """Lay photos side by side, as they are, into a picture of 4:3 with this many pixels."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    tile = 300
    cut = [np.ascontiguousarray(i[:tile, :tile]) for i in images if min(i.shape[:2]) >= tile]
    rows, columns = -(-height // tile), -(-width // tile)
    grid = [np.concatenate([cut[(r * columns + c) % len(cut)] for c in range(columns)], axis=1) for r in range(rows)]
    return np.concatenate(grid)[:height, :width]


def scaling(dataset, count, rounds):
    """Print seconds, nanoseconds per n log2 n, and peak memory, each size in a process of its own."""
    context = multiprocessing.get_context("spawn")
    before = None
    for megapixels in MEGAPIXELS:
        with context.Pool(1) as pool:
            n, seconds, boxes, empty, peak = pool.apply(one_size, (dataset.root, count, megapixels, rounds))
        growth = "" if before is None else f"  n^{np.log(seconds / before[1]) / np.log(n / before[0]):.2f}"
        before = (n, seconds)
        print(
            f"{n / 1e6:6.2f} MP  {seconds:7.3f} s  {1e9 * seconds / (n * np.log2(n)):6.2f} ns per n log2 n  "
            f"{boxes:6} boxes  {(peak - empty) / 2**20:6.0f} MiB, {(peak - empty) / n:4.0f} bytes per pixel{growth}",
            flush=True,
        )


def one_size(root, count, megapixels, rounds):
    cv2.setNumThreads(1)
    propose = build("selective-search", width=None, threads=1)
    propose(np.zeros((40, 40, 3), np.uint8))  # loads what was compiled
    image = mosaic(read_all(VocDataset(root, "val"), count), megapixels)
    empty, seconds = peak_memory()["host"], []
    for _ in range(rounds):
        begin = time.perf_counter()
        boxes = len(propose(image))
        seconds.append(time.perf_counter() - begin)
    return image.shape[0] * image.shape[1], min(seconds), boxes, empty, peak_memory()["host"]


def apply(run, image):
    return run(image)


def threads(dataset, count, rounds):
    """Print milliseconds per photo with one thread, with two, and of two photos at once; the best of some rounds."""
    images = read_all(dataset, count)
    for name in ("selective-search", "selective-search-1x"):
        one, two, other = (build(name, threads=n) for n in (1, 2, 1))
        with ThreadPoolExecutor(2) as pool:
            ways = {
                "1": one,
                "2": two,
                "pair": lambda image, both=(one, other): list(pool.map(apply, both, (image, image))),
            }
            best = {}
            for turn in range(rounds + 1):
                for number, image in enumerate(images):
                    for way, run in ways.items():
                        begin = time.perf_counter()
                        run(image)
                        if turn:  # the first compiles
                            spent = time.perf_counter() - begin
                            best[way, number] = min(best.get((way, number), np.inf), spent)
        one, two, pair = (1000 * np.mean([best[way, number] for number in range(len(images))]) for way in ways)
        print(
            f"{name:20} one thread {one:.1f} ms, two {two:.1f} ms: {one / two:.2f} times as fast; "
            f"two photos at once, a thread each: {2 * one / pair:.2f}",
            flush=True,
        )


def order(dataset, count):
    """Print recall at 0.5 of the first N boxes: ours, OpenCV's as they come, OpenCV's with the largest first."""
    ids = pick_evenly(dataset.image_ids, count)
    rivals = {
        "ours": build("selective-search", threads=1),
        "OpenCV, its own order": OpenCvSelectiveSearch(order="native"),
        "OpenCV, largest first": OpenCvSelectiveSearch(),
    }
    print(f"{'first boxes':24}" + "".join(f"{n:7}" for n in COUNTS) + f"   of {len(ids)} photos")
    with ThreadPoolExecutor(cores()) as pool:
        for name, propose in rivals.items():
            found = pool.map(lambda i, propose=propose: propose(read_image(dataset.image_path(i))).boxes, ids)
            coverage = measure_coverage(zip(map(dataset.ground_truth, ids), found, strict=True))
            shares = "".join(f"{recall(coverage.first(n), 0.5)[0]:7.3f}" for n in COUNTS)
            print(f"{name:24}{shares}   {coverage.boxes.mean():.0f} boxes per photo", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stages", "scaling", "threads", "order"))
    parser.add_argument("voc", type=Path)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = VocDataset(given.voc, "val")
    print(f"{processor()}, {cores()} cores")
    if given.what == "stages":
        stages(dataset, given.photos, given.rounds)
    elif given.what == "scaling":
        scaling(dataset, given.photos, given.rounds)
    elif given.what == "threads":
        threads(dataset, given.photos, given.rounds)
    else:
        order(dataset, given.photos)


if __name__ == "__main__":
    main()
