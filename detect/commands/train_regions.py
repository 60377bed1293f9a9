"""`rcnn train regions`: R-CNN's classifier on your own photos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated

import typer

from classifier.recipes import Recipe
from detect.commands.groups import examples, explained
from detect.commands.records import with_records
from detect.commands.train_few import FewOptions, train_on_few
from detect.commands.train_shared import Common, SharedOptions, train_on_shared_features
from detect.commands.training_options import (
    PRESET,
    Out,
    PhotoOptions,
    RunOptions,
    SaveEvery,
    ValidationOptions,
    show_photos,
)
from detect.defaults import refuse_options_without_effect
from detect.training.presets import FEW, REGIONS, SHARED, describe, find, given
from detect.training.region_recipe import Examples
from structures.errors import InputError
from structures.text import printable


class Features(str, Enum):
    """What regions are classified by."""

    crops = "crops"
    shared = "shared"


@dataclass(frozen=True)
class RecipeOptions:
    """Recipe, where it differs from the preset's."""

    freeze: Annotated[
        str | None,
        typer.Option(help="Keep the stages of the network up to this one; none trains all.", show_default=PRESET),
    ] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Batches of each phase.", show_default=PRESET)] = None
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate of each phase.", show_default=PRESET)
    ] = None
    last_layer_rate: Annotated[
        float | None, typer.Option(min=0, help="Factor on the learning rate for the last layer.", show_default=PRESET)
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option(min=0, help="Weight decay of all weights.", show_default=PRESET)
    ] = None
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of a label spread over all classes.", show_default=PRESET)
    ] = None
    hard_examples: Annotated[
        int | None,
        typer.Option(min=0, help="Learn only from the N hardest examples of a batch; 0: all.", show_default=PRESET),
    ] = None

    def change(self, preset: Recipe) -> Recipe:
        """Return the recipe of a phase of a preset with the values that were given."""
        return replace(
            preset,
            steps=given(self.steps, preset.steps),
            learning_rate=given(self.learning_rate, preset.learning_rate),
            last_layer_factor=given(self.last_layer_rate, preset.last_layer_factor),
            weight_decay=given(self.weight_decay, preset.weight_decay),
            label_smoothing=given(self.label_smoothing, preset.label_smoothing),
            hard_examples=given(self.hard_examples, preset.hard_examples),
        )

    def frozen(self, preset: str | None) -> str | None:
        """Return the last stage that is not trained, or None."""
        return None if self.freeze == "none" else given(self.freeze, preset)


@dataclass(frozen=True)
class ExampleOptions:
    """Examples, where they differ from the preset's."""

    batch: Annotated[
        int | None, typer.Option(min=1, help="Regions per batch, over all processes.", show_default=PRESET)
    ] = None
    positives: Annotated[
        int | None, typer.Option(min=1, help="Positive regions drawn per photo, at most.", show_default=PRESET)
    ] = None
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Background regions drawn per photo, at most.", show_default=PRESET)
    ] = None
    positive_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of positives in a batch.", show_default=PRESET)
    ] = None
    balance: Annotated[
        float | None,
        typer.Option(min=0, help="0 draws positives evenly over regions, 1 over classes.", show_default=PRESET),
    ] = None
    near_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of background with an IoU of at least 0.1.", show_default=PRESET),
    ] = None
    best_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of background taken from the best-ranked boxes.", show_default=PRESET),
    ] = None
    ramp: Annotated[
        tuple[float, float] | None,
        typer.Option(
            min=0,
            max=1,
            metavar="LOW HIGH",
            help="The class share of a label rises from 0 at IoU LOW to 1 at HIGH; in R-CNN it is a step at 0.5.",
            show_default=PRESET,
        ),
    ] = None
    use_ignored: Annotated[
        bool | None,
        typer.Option(help="Learn from ignored objects.", show_default="VOC's difficult ones yes, COCO's crowds no"),
    ] = None

    def change(self, preset: Examples, *, use_ignored: bool) -> Examples:
        """Return the examples of a phase of a preset with the values that were given.

        Args:
            preset: of the phase.
            use_ignored: default that suits the photos.
        """
        return replace(
            preset,
            batch_size=given(self.batch, preset.batch_size),
            positives=given(self.positives, preset.positives),
            negatives=given(self.negatives, preset.negatives),
            positive_share=given(self.positive_share, preset.positive_share),
            balance=given(self.balance, preset.balance),
            near_share=given(self.near_share, preset.near_share),
            best_share=given(self.best_share, preset.best_share),
            ramp=given(self.ramp, preset.ramp),
            use_ignored=given(self.use_ignored, use_ignored),
        )


FOR_BOTH = ("freeze", "learning_rate", "weight_decay", "batch")  # options of crops that shared features have, too


def refuse_other_kind(kind: str, *others: object, but: Sequence[str] = FOR_BOTH) -> None:
    """Refuse options of another kind of training.

    Args:
        kind: of this one, as it was asked for.
        *others: records of options.
        but: names of options that this kind has, too.

    Raises:
        InputError: one is named.
    """
    for record in others:
        for name, value in vars(record).items():
            if value is not None and name not in but:
                raise InputError(f"--{name.replace('_', '-')} has no meaning with {kind}")


@examples(
    "rcnn train regions --ground-truth VOC2007 --out net.safetensors --val val",
    "rcnn train regions --ground-truth train.json --classes dog,cat --out net.safetensors",
    "rcnn train regions --preset few --coco mine.json --images photos --out mine.safetensors",
)
@explained("The presets:", *describe(REGIONS), *describe(SHARED), *describe(FEW))
@with_records
def regions(
    out: Out,
    photos: PhotoOptions,
    validation: ValidationOptions,
    recipe: RecipeOptions,
    examples: ExampleOptions,
    shared: SharedOptions,
    few: FewOptions,
    run: RunOptions,
    val_proposals: Annotated[
        str | None,
        typer.Option(
            help="Generator of the regions to validate on.",
            show_default="that of training",
            rich_help_panel="Validation",
        ),
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(
            help="Learn from crops of regions, or MultiBox and classes together on shared features.",
            show_default="crops, or shared with --preset few",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join([*REGIONS, *SHARED, *FEW])}: see above.",
            show_default="quick, or shared with --features shared",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from an image or a region classifier; with shared features, from MultiBox or shared weights.",
            show_default=PRESET,
        ),
    ] = None,
    proposals: Annotated[
        str | None, typer.Option(help="Generator of the examples, or file:PATH.", show_default=PRESET)
    ] = None,
    save_every: SaveEvery = 500,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Photos to propose for at the same time; by default one per core.")
    ] = None,
) -> None:
    """Fine-tune a region classifier: R-CNN with a softmax, without box regression. Also runs under torchrun.

    With validation photos, OUT gets the best weights, and OUT with .last before its suffix the last ones.
    """
    from rich.console import Console

    from classifier.processes import current_process, joined
    from detect.classifiers import load_checkpoint
    from detect.generators import unlearned_warning
    from detect.runs.propose import build_for_many
    from detect.runs.record import cores
    from detect.training.data import summary
    from detect.training.phases import TrainingPlan, run_phases
    from detect.training.region_measure import RegionMeasure
    from detect.training.region_phases import check, kept_proposals, phases
    from detect.training.region_recipe import RegionTraining
    from detect.training.setup import check_out, frozen_placement, save_weights, training_placement, what_stays
    from eval.ground_truth import has_crowds, usual_protocol

    if preset in FEW:
        refuse_other_kind("--preset few", recipe, examples, shared, but=())
        refuse_options_without_effect(
            {
                "--features crops has no meaning with --preset few": features is Features.crops,
                "--val-proposals has no meaning with --preset few": val_proposals is not None,
                "--val-every has no meaning with --preset few": validation.val_every is not None,
            }
        )
        train_on_few(out, photos, validation, few, run, weights, proposals)
        return
    if features is Features.shared:
        refuse_other_kind("--features shared", recipe, examples)
        refuse_other_kind(f"--preset {preset or 'shared'}", few)
        common = Common(recipe.freeze, recipe.learning_rate, recipe.weight_decay, examples.batch)
        train_on_shared_features(out, photos, validation, common, shared, run, preset, weights, proposals, save_every)
        return
    refuse_other_kind("--features crops", shared)
    refuse_options_without_effect(
        {"--ignore has no meaning with --use-ignored": bool(photos.ignore and examples.use_ignored)}
    )
    refuse_other_kind(f"--preset {preset or 'quick'}", few)
    preset = preset or "quick"
    check_out(out, weights, proposals, val_proposals)
    where, folder, chosen = training_placement(run.device, run.dtype), run.folder(out), find(REGIONS, preset)
    dataset = photos.open()
    judged = validation.open(photos, dataset, val_proposals=val_proposals)
    photos_at_once = workers or cores()
    if photos.dry_run is not None:
        show_photos(dataset, judged, photos.dry_run)
        return
    with joined(where.device) as here:
        first = current_process().rank == 0
        if first:
            typer.echo("\n".join(map(printable, summary(dataset, judged))), err=True)
        placement = frozen_placement(where, here, run.dtype)
        trainings = [
            RegionTraining(
                replace(recipe.change(phase.recipe), dtype=where.dtype),
                examples.change(phase.examples, use_ignored=not (photos.ignore or has_crowds(dataset))),
                recipe.frozen(phase.frozen),
            ).with_seed(run.seed + number)
            for number, phase in enumerate(chosen.phases)
        ]
        boxes_of, start = proposals or chosen.proposals, load_checkpoint(weights or chosen.weights)
        generator = build_for_many(boxes_of, placement, cut=False)
        if first and (warning := unlearned_warning(generator, dataset.classes)):
            typer.echo(printable(warning), err=True)
        check(trainings, start, generator, current_process())
        measure = None
        if judged is not None:
            judged_in = build_for_many(val_proposals or boxes_of, placement)
            kept, protocol = folder / "val-proposals", usual_protocol(judged)
            measure = RegionMeasure(
                judged, judged_in, folder=kept, protocol=protocol, placement=placement, workers=photos_at_once
            )
        stored = kept_proposals(
            dataset, generator, folder / "proposals", workers=photos_at_once, console=Console(stderr=True)
        )
        plan = TrainingPlan(
            start,
            phases(trainings, dataset, stored, placement=placement, workers=photos_at_once),
            rows="regions",
            work=folder,
            reason=placement.reason,
            save_every=save_every,
            measure=measure,
            measure_every=validation.every,
            about=photos.about(preset, dataset),
        )
        trained, last = run_phases(plan)
        if first:
            typer.echo("\n".join(map(printable, [*save_weights(out, trained, last), what_stays(folder)])))
