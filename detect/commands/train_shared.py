"""`rcnn train regions --features shared`: train MultiBox and a region classifier together on one trunk."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.training_options import (
    PRESET,
    Epochs,
    RunOptions,
    TrainingPhotoOptions,
    TrunkRate,
    ValidationOptions,
    show_photos,
)
from detect.commands.training_process import join_training
from detect.training.presets import SHARED, find, given
from detect.training.shared_recipe import SharedRecipe
from structures.text import number_of

if TYPE_CHECKING:
    from classifier.placement import Placement
    from classifier.weights.checkpoint import Checkpoint
    from detect.training.region_measure import SharedMeasure
    from eval.selection import Selection
    from structures.records import Dataset


@dataclass(frozen=True)
class Common:
    """Options that mean the same for crops; None if not given."""

    freeze: str | None
    learning_rate: float | None
    weight_decay: float | None
    batch: int | None


@dataclass(frozen=True)
class SharedOptions:
    """Shared features, where they differ from the preset's."""

    epochs: Epochs = None
    trunk_rate: TrunkRate = None
    region_weights: Annotated[
        str | None,
        typer.Option(help="Region classifier to start from; none starts from scratch.", show_default=PRESET),
    ] = None

    def change(self, preset: SharedRecipe, named: Common, *, dtype: str) -> SharedRecipe:
        """Return a phase of a preset, changed by the options that were given."""
        before = preset.multibox
        multibox = replace(
            before,
            epochs=given(self.epochs, before.epochs),
            trunk_factor=given(self.trunk_rate, before.trunk_factor),
            frozen=given(named.freeze, before.frozen),
            learning_rate=given(named.learning_rate, before.learning_rate),
            weight_decay=given(named.weight_decay, before.weight_decay),
            batch_size=given(named.batch, before.batch_size),
            dtype=dtype,
        )
        return replace(preset, multibox=multibox)


def train_on_shared_features(
    out: Path,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    common: Common,
    shared: SharedOptions,
    run: RunOptions,
    preset: str | None,
    weights: str | None,
    proposals: str | None,
    save_every: int,
) -> None:
    """Carry out `rcnn train regions --features shared`."""
    from classifier.weights.fitting import naming
    from detect.classifiers import load_checkpoint, load_to_train_crops
    from detect.consoles import open_console
    from detect.runs.machine import usual_readers
    from detect.runs.propose import build_for_many
    from detect.training.folder import PROPOSALS_FOLDER
    from detect.training.phases import TrainingPlan, run_phases
    from detect.training.presets import REGION_WEIGHTS
    from detect.training.region_phases import kept_proposals
    from detect.training.setup import check_out, save_weights, training_placement
    from detect.training.shared import phases, start_shared
    from structures.cores import cores

    check_out(out, weights, proposals, shared.region_weights)
    name = preset or "shared"
    where, folder, chosen = training_placement(run.device, run.dtype), run.folder(out), find(SHARED, name)
    dataset = photos.open()
    validation_set = validation.open(photos, dataset)
    begin = shared.region_weights or REGION_WEIGHTS
    if photos.dry_run is not None:
        show_photos(dataset, validation_set, photos.dry_run)
        return
    with join_training(where, run.dtype, dataset, validation_set) as process:
        placement = process.placement
        recipes = [
            shared.change(phase, common, dtype=where.dtype).with_seed(run.first_seed + number)
            for number, phase in enumerate(chosen.phases)
        ]
        start_name = weights or chosen.weights
        start = load_checkpoint(start_name)
        regions = None if begin == "none" else load_to_train_crops(begin)
        with naming(start_name if regions is None else f"{start_name} with {begin}"):
            start_shared(start, regions, tuple(dataset.classes))  # refuses what does not fit before proposals are made
        generator = build_for_many(proposals or chosen.proposals, placement)
        stored = kept_proposals(
            dataset, generator, folder / PROPOSALS_FOLDER, workers=cores(), console=open_console(stderr=True)
        )
        plan = TrainingPlan(
            start,
            phases(
                recipes,
                dataset,
                regions=regions,
                propose=stored,
                placement=placement,
                workers=usual_readers(process.device.type, on_cpu=1),
            ),
            rows="photos",
            work=folder,
            reason=placement.reason,
            save_every=save_every,
            measure=_measure(validation_set, placement),
            measure_every=validation.every,
            about=photos.about(name, dataset),
        )
        trained, last = run_phases(plan)
        if process.first:
            process.echo([f"learning the layer for whole photos from {number_of(len(dataset), 'photo')}"], err=True)
            finished = partial(_finished, dataset=dataset, placement=placement)
            process.echo(save_weights(out, finished(trained), None if last is None else finished(last)))


def _measure(validation_set: "Selection | None", placement: "Placement") -> "SharedMeasure | None":
    """Return what validates the weights; None without photos to validate on."""
    from detect.training.region_measure import SharedMeasure
    from eval.ground_truth import usual_protocol

    if validation_set is None:
        return None
    return SharedMeasure(validation_set, protocol=usual_protocol(validation_set), placement=placement)


def _finished(weights: "Checkpoint", dataset: "Dataset", placement: "Placement") -> "Checkpoint":
    """Add the layer for whole photos, regions of known objects and the ranges for int8."""
    from classifier.known_objects import with_known_objects
    from classifier.whole_photos import photo_layer, presence
    from detect.networks.int8 import RANGE_PHOTOS
    from detect.networks.shared import with_ranges
    from detect.training.known_objects import find_known_objects
    from structures.images import read_image

    ids = dataset.image_ids
    photos = (read_image(dataset.image_path(image_id)) for image_id in ids)
    layered = photo_layer(weights, photos, [presence(truth, len(dataset.classes)) for truth in dataset], placement)
    whole = with_known_objects(layered, find_known_objects(layered, dataset, placement))
    some = ids[:: max(1, len(ids) // RANGE_PHOTOS)][:RANGE_PHOTOS]
    return with_ranges(whole, (read_image(dataset.image_path(image_id)) for image_id in some))
