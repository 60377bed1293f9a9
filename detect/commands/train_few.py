"""`rcnn train regions --preset few`: new classes from a few examples, on shared features, in minutes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.training_options import RunOptions, TrainingPhotoOptions, ValidationOptions, show_photos
from detect.training.presets import FEW
from structures.errors import InputError
from structures.text import number_of, printable

if TYPE_CHECKING:
    from classifier.placement import Placement
    from classifier.weights.checkpoint import Checkpoint
    from detect.detector import Detector
    from detect.networks.shared_features import SharedFeatures
    from eval.selection import Selection
    from proposals.protocol import ProposalGenerator
    from structures.records import Detections

LONE = "not judged, since there is no other photo to learn it from"
OTHERS = "each photo was searched with what was learned from other photos only; the weights learned from all of them"


@dataclass(frozen=True)
class FewOptions:
    """Few examples (--preset few)."""

    only_new: Annotated[
        bool | None,
        typer.Option("--only-new", help="Leave out the classes of the weights, so that only new ones are found."),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(
            help="Page of what is found on photos that were not learned from: those of --val, or else the training "
            "photos, each searched with what was learned from the others.",
            show_default="OUT with .html",
        ),
    ] = None


def train_on_few(
    out: Path,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    few: FewOptions,
    run: RunOptions,
    weights: str | None,
    proposals: str | None,
) -> None:
    """Carry out `rcnn train regions --preset few`."""
    from classifier.known_objects import known_objects
    from classifier.placement import place
    from classifier.weights.fitting import naming
    from detect.classifiers import load_checkpoint
    from detect.training.data import summary
    from detect.training.few import classes_to_learn, cross_validated, judged_classes, learn, left_out, with_new_classes
    from detect.training.few_photos import FOLDER, PhotoRegionCache
    from detect.training.folder import occupied
    from detect.training.progress import Reporter
    from detect.training.setup import require_training_precision, save_weights, what_stays, with_origin
    from eval.ground_truth import has_crowds
    from eval.selection import Selection

    preset = FEW["few"]
    page, folder = few.html or out.with_suffix(".html"), run.folder(out)
    _check_files(out, few.html, page, folder, photos, validation, weights, proposals)
    require_training_precision(run.dtype)
    placement = place(device=run.device, dtype=run.dtype)  # type: ignore[arg-type]
    name = weights or preset.weights
    whole, start = photos.open(use_difficult=True), load_checkpoint(name)
    recipe = replace(preset.phases[0], keep=not few.only_new, use_ignored=not (photos.ignore or has_crowds(whole)))
    with naming(name):
        dataset = Selection(whole, classes=classes_to_learn(start, whole, recipe), to_learn=True)
        known_objects(start)  # if they are damaged, this is said before any work
    validation_set = validation.open(photos, dataset)
    notes = left_out(whole, dataset.classes, recipe, asked=photos.classes is not None)
    if photos.dry_run is not None:
        show_photos(dataset, validation_set, photos.dry_run, warnings=notes)
        return
    told = [*summary(dataset, validation_set), *(f"warning: {note}" for note in notes)]
    typer.echo("\n".join(map(printable, told)), err=True)
    networks = partial(_networks, name, proposals=proposals or preset.proposals, placement=placement)
    with occupied(folder), Reporter(folder, steps=0, batch=1, rows="regions", reason=placement.reason) as reporter:
        features, generator = networks(start, to_learn=True)
        result = learn(
            start, dataset, PhotoRegionCache(start, features, generator, folder / FOLDER), recipe, reporter.show
        )
        facts = photos.about("few", whole) | {"photos": len(dataset), "proposals": generator.name}
        learned = with_origin(with_new_classes(start, result, recipe, facts), {})
        typer.echo("\n".join(map(printable, save_weights(out, learned, None))))
        detector = _detector(*networks(learned, to_learn=False))
        if validation_set is None:
            found, names = cross_validated(dataset, result, detector, recipe), judged_classes(dataset)
            unjudged = [name for name in dataset.classes if name not in names]
            notes = [f"{LONE}: {', '.join(unjudged)}"] if unjudged else []
            if names:
                judged = Selection(dataset, classes=names)
                found = {image_id: judged.relabel(each) for image_id, each in found.items()}
                _report(page, out, found, judged, [OTHERS, *notes], {"ground_truth": photos.name})
            else:
                typer.echo(printable(f"no page, and no score: {notes[0]}"), err=True)
        else:
            found = _found(detector, validation_set, placement, count=len(dataset.classes))
            _report(page, out, found, validation_set, [], validation.about(photos))
    typer.echo(printable(what_stays(folder)))


def _check_files(
    out: Path,
    named: Path | None,
    page: Path,
    work: Path,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    weights: str | None,
    proposals: str | None,
) -> None:
    """Refuse, before any work, files to write that are also read, or a user's; and more than one process."""
    from detect.training.setup import check_out, require_one_process
    from eval.page.write import is_page
    from structures.own_files import check_outputs

    check_out(out, weights, proposals)
    data = [*(photos.ground_truth or ()), photos.images, validation.val_ground_truth, validation.val_images]
    check_outputs([page, out], [*data, weights])
    if page.absolute() == work.absolute():
        raise InputError(f"{page}: is the folder of the run; name another place for the page with --html")
    if named is None and page.is_file() and not is_page(page):
        raise InputError(f"{page}: is no page of ours, and would be written over; name another place with --html")
    require_one_process("`preset` few")


def _networks(
    name: str, weights: "Checkpoint", *, proposals: str, placement: "Placement", to_learn: bool
) -> "tuple[SharedFeatures, ProposalGenerator]":
    """Return weights at work, with the generator on them; to learn, their maps hold inception5b."""
    from classifier.weights.fitting import naming
    from detect.generators import load_proposals
    from detect.networks.shared_features import SharedFeatures

    with naming(name):
        features = SharedFeatures(weights, placement, last_map=to_learn)
    return features, load_proposals(proposals, placement, shared=features)


def _detector(features: "SharedFeatures", generator: "ProposalGenerator") -> "Detector":
    from detect.detector import Detector
    from detect.networks.shared_features import SharedRegions
    from detect.settings import MAP_SCORE_FLOOR

    return Detector(generator, SharedRegions(features), score_floor=MAP_SCORE_FLOOR)


def _found(
    detector: "Detector", validation_set: "Selection", placement: "Placement", *, count: int
) -> "dict[str, Detections]":
    """Return the detections of the last `count` classes on the validation photos."""
    from detect.training.few import last_classes
    from detect.training.region_measure import detect_all

    found = detect_all(detector, validation_set, placement)
    return {image_id: last_classes(each, count) for image_id, each in found.items()}


def _report(
    page: Path,
    out: Path,
    found: "Mapping[str, Detections]",
    validation_set: "Selection",
    notes: list[str],
    about: dict[str, str],
) -> None:
    """Print the score, and write the page if its extra is installed."""
    from detect.report import Gallery, report_values, with_photos, write_report
    from detect.scored import score_found
    from eval.page.write import require_extra
    from eval.report import percent

    run = score_found(found, validation_set, file=out, notes=notes)
    figure, value = run.scores.headline
    where = f"on {number_of(run.scores.images, 'photo')} with {number_of(sum(run.scores.objects), 'object')}"
    typer.echo(printable("; ".join([f"{figure} ({run.scores.protocol}) {percent(value)} % {where}", *notes])))
    try:
        require_extra()
    except InputError as error:
        typer.echo(printable(f"no page: {error}"), err=True)
        return
    gallery = Gallery()
    source = {"weights": str(out), **about}
    values = with_photos(report_values([run], source, mistakes=True), [run], gallery)
    typer.echo(printable(write_report(page, [run], values, gallery)))
