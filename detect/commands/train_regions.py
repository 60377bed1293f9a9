"""`rcnn train regions`: train R-CNN's classifier on your own photos."""

from collections.abc import Sequence
from enum import Enum
from typing import Annotated

import typer

from detect.commands.groups import examples, explained
from detect.commands.option_records import with_records
from detect.commands.region_options import ExampleOptions, RegionRecipeOptions
from detect.commands.train_crops import Generators, train_on_crops
from detect.commands.train_few import FewOptions, train_on_few
from detect.commands.train_shared import Common, SharedOptions, train_on_shared_features
from detect.commands.training_options import (
    CANVAS_STEPS_SAVED,
    PRESET,
    SAVE_EVERY,
    STEPS_SAVED,
    Out,
    RunOptions,
    TrainingPhotoOptions,
    ValidationOptions,
)
from detect.defaults import refuse_options_without_effect
from detect.training.presets import FEW, REGIONS, SHARED, describe, given
from structures.errors import InputError
from structures.names import not_one_of


class TrainedFeatures(str, Enum):
    """What regions are classified on."""

    crops = "crops"
    shared = "shared"


FOR_BOTH = ("freeze", "learning_rate", "weight_decay", "batch")  # options for crops and for shared features


def refuse_other_kind(kind: str, *others: object, but: Sequence[str] = FOR_BOTH) -> None:
    """Refuse options that belong to another kind of training.

    Args:
        kind: option that chose this kind of training.
        *others: records of options of other kinds.
        but: names of options that this kind has too.

    Raises:
        InputError: such an option was given.
    """
    for record in others:
        for name, value in vars(record).items():
            if value is not None and name not in but:
                raise InputError(f"--{name.replace('_', '-')} has no effect with {kind}")


@examples(
    "rcnn train regions --ground-truth VOC2007 --out net.safetensors --val val",
    "rcnn train regions --ground-truth train.json --classes dog,cat --out net.safetensors",
    "rcnn train regions --preset few --coco mine.json --images photos --out mine.safetensors",
)
@explained("The presets:", *describe(REGIONS), *describe(SHARED), *describe(FEW))
@with_records
def regions(
    out: Out,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    recipe: RegionRecipeOptions,
    examples: ExampleOptions,
    shared: SharedOptions,
    few: FewOptions,
    run: RunOptions,
    val_proposals: Annotated[
        str | None,
        typer.Option(
            help="Proposal generator for validation.",
            show_default="that of training",
            rich_help_panel="Validation",
        ),
    ] = None,
    features: Annotated[
        TrainedFeatures | None,
        typer.Option(
            help="Train on crops of regions, or train MultiBox and the classifier together on shared features.",
            show_default="crops; with --preset shared or few, shared",
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
            help="Image or region classifier to start from; with shared features, MultiBox or shared weights.",
            show_default=PRESET,
        ),
    ] = None,
    proposals: Annotated[
        str | None, typer.Option(help="Proposal generator for the examples, or file:PATH.", show_default=PRESET)
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(min=1, help=SAVE_EVERY, show_default=f"{STEPS_SAVED}; with shared features {CANVAS_STEPS_SAVED}"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Photos to propose for at the same time.", show_default="one per core"),
    ] = None,
) -> None:
    """Fine-tune a region classifier: R-CNN with a softmax, without box regression. Also runs under torchrun.

    With validation photos, the best weights are written to OUT, and the last ones to OUT with .last before its suffix.
    """
    if preset in FEW:
        refuse_other_kind("--preset few", recipe, examples, shared, but=())
        refuse_options_without_effect(
            {
                "--features crops has no effect with --preset few": features is TrainedFeatures.crops,
                "--val-proposals has no effect with --preset few": val_proposals is not None,
                "--val-every has no effect with --preset few": validation.val_every is not None,
                "--workers has no effect with --preset few": workers is not None,
                "--seed has no effect with --preset few": run.seed is not None,
                "--save-every has no effect with --preset few": save_every is not None,
            }
        )
        train_on_few(out, photos, validation, few, run, weights, proposals)
    elif features is TrainedFeatures.shared or (features is None and preset in SHARED):
        refuse_other_kind("--features shared", recipe, examples)
        refuse_other_kind(f"--preset {preset or 'shared'}", few)
        refuse_options_without_effect(
            {
                "--val-proposals has no effect with --features shared": val_proposals is not None,
                "--workers has no effect with --features shared": workers is not None,
            }
        )
        common = Common(recipe.freeze, recipe.learning_rate, recipe.weight_decay, examples.batch)
        steps = given(save_every, CANVAS_STEPS_SAVED)
        train_on_shared_features(out, photos, validation, common, shared, run, preset, weights, proposals, steps)
    else:
        preset = preset or "quick"
        if features is None and preset not in REGIONS:
            raise InputError(f"`preset` {not_one_of(preset, [*REGIONS, *SHARED, *FEW])}")
        refuse_other_kind("--features crops", shared)
        refuse_other_kind(f"--preset {preset}", few)
        refuse_options_without_effect(
            {"--ignore has no effect with --use-ignored": bool(photos.ignore and examples.use_ignored)}
        )
        generators = Generators(proposals, val_proposals, workers)
        steps = given(save_every, STEPS_SAVED)
        train_on_crops(out, photos, validation, recipe, examples, run, preset, weights, generators, steps)
