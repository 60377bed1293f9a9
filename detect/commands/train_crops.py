"""`rcnn train regions --features crops`: fine-tune a region classifier on crops."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detect.commands.region_options import ExampleOptions, RegionRecipeOptions
from detect.commands.training_options import RunOptions, TrainingPhotoOptions, ValidationOptions, show_photos
from detect.commands.training_process import join_training
from detect.training.presets import REGIONS, Preset, find
from detect.training.region_recipe import RegionTraining

if TYPE_CHECKING:
    from classifier.placement import Placement
    from detect.training.region_measure import RegionMeasure
    from eval.selection import Selection


@dataclass(frozen=True)
class Generators:
    """Names of proposal generators, and how many photos they work on at the same time.

    Attributes:
        examples: for the examples; None takes that of the preset.
        validation: for validation; None takes that of the examples.
        workers: photos at the same time; None takes one per core.
    """

    examples: str | None
    validation: str | None
    workers: int | None


def train_on_crops(
    out: Path,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    recipe: RegionRecipeOptions,
    examples: ExampleOptions,
    run: RunOptions,
    preset: str,
    weights: str | None,
    generators: Generators,
    save_every: int,
) -> None:
    """Carry out `rcnn train regions --features crops`."""
    from classifier.processes import current_process
    from classifier.weights.fitting import naming
    from detect.classifiers import load_to_train_crops
    from detect.consoles import open_console
    from detect.generators import unlearned_warning
    from detect.runs.propose import build_for_many
    from detect.training.folder import PROPOSALS_FOLDER
    from detect.training.phases import TrainingPlan, run_phases
    from detect.training.region_phases import check, kept_proposals, phases
    from detect.training.setup import check_out, save_weights, training_placement, what_stays
    from eval.ground_truth import has_crowds
    from structures.cores import cores

    check_out(out, weights, generators.examples, generators.validation)
    where, folder, chosen = training_placement(run.device, run.dtype), run.folder(out), find(REGIONS, preset)
    dataset = photos.open(use_difficult=True)
    validation_set = validation.open(photos, dataset, val_proposals=generators.validation)
    if photos.dry_run is not None:
        show_photos(dataset, validation_set, photos.dry_run)
        return
    workers, boxes = generators.workers or cores(), generators.examples or chosen.proposals
    use_ignored = not (photos.ignore or has_crowds(dataset))
    with join_training(where, run.dtype, dataset, validation_set) as process:
        placement = process.placement
        trainings = _trainings(chosen, recipe, examples, where.dtype, run.first_seed, use_ignored=use_ignored)
        name = weights or chosen.weights
        start, generator = load_to_train_crops(name), build_for_many(boxes, placement, cut=False)
        if warning := unlearned_warning(generator, dataset.classes):
            process.echo([warning], err=True)
        with naming(name):
            check(trainings, start, generator, current_process())
        measure = _measure(validation_set, generators.validation or boxes, folder, placement, workers)
        stored = kept_proposals(
            dataset, generator, folder / PROPOSALS_FOLDER, workers=workers, console=open_console(stderr=True)
        )
        plan = TrainingPlan(
            start,
            phases(trainings, dataset, stored, placement=placement, workers=workers),
            rows="regions",
            work=folder,
            reason=placement.reason,
            save_every=save_every,
            measure=measure,
            measure_every=validation.every,
            about=photos.about(preset, dataset),
        )
        best, last = run_phases(plan)
        if process.first:
            process.echo([*save_weights(out, best, last), what_stays(folder)])


def _trainings(
    preset: Preset[RegionTraining],
    recipe: RegionRecipeOptions,
    examples: ExampleOptions,
    dtype: str,
    seed: int,
    *,
    use_ignored: bool,
) -> Sequence[RegionTraining]:
    """Return the phases of a preset, changed by the options, each with random draws of its own."""
    return [
        RegionTraining(
            replace(recipe.change(phase.recipe), dtype=dtype),
            examples.change(phase.examples, use_ignored=use_ignored),
            recipe.frozen(phase.frozen),
        ).with_seed(seed + number)
        for number, phase in enumerate(preset.phases)
    ]


def _measure(
    validation_set: "Selection | None", proposals: str, folder: Path, placement: "Placement", workers: int
) -> "RegionMeasure | None":
    """Return what validates the weights; None without photos to validate on."""
    from detect.runs.propose import build_for_many
    from detect.training.region_measure import RegionMeasure
    from eval.ground_truth import usual_protocol

    if validation_set is None:
        return None
    return RegionMeasure(
        validation_set,
        build_for_many(proposals, placement),
        folder=folder / "val-proposals",
        protocol=usual_protocol(validation_set),
        placement=placement,
        workers=workers,
    )
