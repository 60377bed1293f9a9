"""How well classes are learned from a few examples: AP50 of five new classes of VOC and of the fifteen old ones.

Usage: python benchmarks/few.py VOC2007 --weights base.safetensors --out few [--draws 10] [--photos 120]

As the field measures it (Kang et al., ICCV 2019; Wang et al., ICML 2020): bird, bus, cow, motorbike and sofa are new,
and K = 1, 2, 3, 5, 10 objects of each are drawn from `--split`. Only these are annotated; other objects of the five on
the same photos count neither as object nor as background. What is learned is judged on `--val` by VOC's AP at IoU 0.5.

The weights should have seen none of the five: `rcnn train multibox` and `rcnn train regions --features shared` with
`--ignore bird,bus,cow,motorbike,sofa`. Columns of the five that weights have are thrown away first, and so are the
objects of the five that they bring; those of other classes are learned from, as `rcnn train regions` does. With
weights that learned from all twenty, such as the built-in ones, the figures are an upper bound, and are labelled so.

OUT gets few.json, few.md and few.png; what was seen of the photos is kept in OUT/seen, so that a killed run goes on.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classifier.few_examples import Examples, learn_columns
from classifier.placement import place
from classifier.region_columns import without_columns
from classifier.weights.checkpoint import Checkpoint
from detect.classifiers import load_checkpoint
from detect.defaults import PROPOSALS
from detect.detector import Detector
from detect.generators import load_proposals
from detect.networks.shared_features import SharedFeatures, SharedRegions
from detect.settings import MAP_SCORE_FLOOR
from detect.training.few import as_regions, examples_of
from detect.training.few_photos import PhotoRegionCache, PhotoRegions
from detect.training.few_recipe import FewRecipe
from detect.training.known_objects import known_examples
from eval.plots import to_picture
from eval.scores import or_null, score
from eval.selection import Selection
from eval.voc import VOC_CLASSES, VocDataset
from structures.files import write_bytes, write_json, write_text
from structures.records import Dataset, GroundTruth

NEW = ("bird", "bus", "cow", "motorbike", "sofa")
SHOTS = (1, 2, 3, 5, 10)
UNSEEN = "weights that did not learn from the five classes"
SEEN = "UPPER BOUND: the weights learned from the five classes before these columns were thrown away"
RECIPE = FewRecipe(use_ignored=False)
Draw = Mapping[str, Sequence[tuple[str, int]]]  # class -> photo and number of each object, in the order drawn


class Measured(NamedTuple):
    """AP50 of the new classes and of the old ones, from 0 to 1."""

    new: float
    old: float
    of_each: dict[str, float]


def draw_objects(dataset: Dataset, shots: int, seed: int) -> Draw:
    """Draw this many objects of each new class; fewer are the first of these."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name in NEW:
        label = list(dataset.classes).index(name)
        rows = [(t.image_id, int(n)) for t in dataset for n in np.flatnonzero((t.labels == label) & ~t.ignore)]
        drawn[name] = [rows[number] for number in rng.permutation(len(rows))[:shots]]
    return drawn


def truth_of(truth: GroundTruth, numbers: Iterable[int], labels: Mapping[int, int]) -> GroundTruth:
    """Return the new classes' objects of a photo, of which all but those drawn are ignored."""
    chosen = np.isin(truth.labels, list(labels))
    renumbered = np.array([labels.get(label, 0) for label in truth.labels.tolist()], np.int64)
    ignore = ~np.isin(np.arange(len(truth)), list(numbers))
    return replace(truth, labels=renumbered, ignore=ignore).take(chosen)


def examples_for(
    draw: Draw, shots: int, dataset: Dataset, seen: Mapping[str, PhotoRegions], known: Sequence[Examples]
) -> Examples:
    """Return the examples of K objects of each class, and the known objects."""
    rows: dict[str, list[int]] = {}
    for name in NEW:
        for image_id, number in draw[name][:shots]:
            rows.setdefault(image_id, []).append(number)
    labels = {list(dataset.classes).index(name): place for place, name in enumerate(NEW)}
    truths = {image_id: truth_of(dataset.ground_truth(image_id), own, labels) for image_id, own in rows.items()}
    parts = (examples_of(seen[name], truth, RECIPE, photos=len(truths)) for name, truth in truths.items())
    return Examples.join([*parts, *known])


def measure(examples: Examples | None, val: Selection, seen: Sequence[PhotoRegions], detector: Detector) -> Measured:
    """Learn from examples, or leave the new classes out, and score what is found."""
    columns = [None] * len(NEW) if examples is None else learn_columns(examples, NEW).each()
    found = [detector.choose(as_regions(each, columns, detector.classes, RECIPE)) for each in seen]
    values = score("voc", list(val), found, val.classes).values
    of_each = {name: values[f"AP/{name}"] for name in val.classes}
    old = [value for name, value in of_each.items() if name not in NEW]
    return Measured(float(np.nanmean([of_each[name] for name in NEW])), float(np.nanmean(old)), of_each)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Do all draws, and return the figures."""
    train, whole_val = (VocDataset(given.voc, split, classes=VOC_CLASSES) for split in (given.split, given.val))
    start = load_checkpoint(given.weights)
    base = without_columns(start, [name for name in NEW if name in start.classes])
    unseen = "classes" in start.training and set(NEW).isdisjoint(_learned(start.training))
    val = Selection(whole_val, classes=(*base.classes, *NEW), photos=given.photos)
    detector, look = _at_work(base, given.out)
    draws = [draw_objects(train, max(SHOTS), seed) for seed in range(given.draws)]
    names = list(dict.fromkeys(image_id for draw in draws for rows in draw.values() for image_id, _ in rows))
    drawn = Selection(train, without=set(train.image_ids) - set(names))
    seen = dict(zip(drawn.image_ids, look(drawn, True), strict=True))
    judged = look(val, False)
    known = known_examples(start, NEW, keep=RECIPE.keep)
    before = measure(None, val, judged, detector)
    rows = []
    for shots in SHOTS:
        for number, draw in enumerate(draws):
            found = measure(examples_for(draw, shots, train, seen, known), val, judged, detector)
            rows.append({"shots": shots, "draw": number, **found._asdict()})
            print(f"K = {shots:2}, draw {number}: new {100 * found.new:.1f}, old {100 * found.old:.1f}", flush=True)
    facts = {
        "weights": str(given.weights),
        "what": UNSEEN if unseen else SEEN,
        "photos": len(val),
        "draws": given.draws,
    }
    return {**facts, "old classes before": before.old, "rows": rows}


def _learned(training: Mapping[str, Any]) -> set[str]:
    """Return the classes that weights and those that they started from learned from, as far as they say."""
    own = set(training.get("classes", ())) - set(training.get("ignored", ()))
    start = training.get("start")
    return own | (_learned(start) if isinstance(start, Mapping) else set())


def _at_work(base: Checkpoint, out: Path) -> tuple[Detector, Any]:
    placement = place()
    features = SharedFeatures(base, placement, last_map=True)
    generator = load_proposals(PROPOSALS, placement, shared=features)

    def look(dataset: Dataset, to_learn: bool) -> list[PhotoRegions]:
        looks = PhotoRegionCache(base, features, generator, out / "seen", to_learn=to_learn)
        return list(looks.all(dataset, lambda items, total, name: _reported(items, total)))

    classify = SharedRegions(features)  # it is not asked: the probabilities are those of what was seen
    classify.classes = (*base.classes, *NEW)
    return Detector(generator, classify, score_floor=MAP_SCORE_FLOOR), look


def _reported(items: Iterable[int], total: int) -> Iterable[int]:
    for number in items:
        if number % 20 == 0:
            print(f"looking at photo {number} of {total}", flush=True)
        yield number


def without_nan(value: Any) -> Any:
    """Return figures with null for those of classes that no photo shows, which JSON has no number for."""
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return or_null(value) if isinstance(value, float) else value


def table(result: Mapping[str, Any]) -> str:
    """Return the means and spreads as Markdown."""
    lines = [
        f"{result['what']}; {result['photos']} photos, {result['draws']} draws, mean and standard deviation:",
        "",
        "| K | new classes, AP50 | old classes, AP50 | old classes lose |",
        "|---|---|---|---|",
    ]
    for shots in SHOTS:
        new, old = (np.array([100 * r[side] for r in result["rows"] if r["shots"] == shots]) for side in ("new", "old"))
        lost = 100 * result["old classes before"] - old.mean()
        lines.append(f"| {shots} | {new.mean():.1f} +- {new.std():.1f} | {old.mean():.1f} | {lost:.1f} |")
    return "\n".join([*lines, ""])


def curves(result: Mapping[str, Any]) -> bytes:
    """Draw AP50 against the number of examples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for side, name in (("new", "five new classes"), ("old", "fifteen old classes")):
        values = [[100 * r[side] for r in result["rows"] if r["shots"] == shots] for shots in SHOTS]
        axes.errorbar(SHOTS, np.mean(values, axis=1), yerr=np.std(values, axis=1), marker="o", capsize=3, label=name)
    axes.axhline(100 * result["old classes before"], linestyle=":", color="grey", label="old classes before")
    axes.set(xlabel="objects of each new class", ylabel="AP at IoU 0.5, %", xscale="log", ylim=(0, 100))
    axes.set_xticks(SHOTS, map(str, SHOTS), minor=False)
    axes.set_title(result["what"], fontsize=8, wrap=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return to_picture(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("--weights", default="shared")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="train", help="the examples are drawn from it")
    parser.add_argument("--val", default="val")
    parser.add_argument("--photos", type=int, default=0, help="of the photos to judge on, evenly spread; 0 takes all")
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args()
    result = run(given)
    print(table(result))
    write_json(given.out / "few.json", without_nan(result))
    write_text(given.out / "few.md", table(result))
    write_bytes(given.out / "few.png", curves(result))


if __name__ == "__main__":
    main()
