"""Options of `rcnn train regions` on crops, as records: the recipe, and the examples."""

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from classifier.recipes import Recipe
from detect.commands.training_options import PRESET
from detect.training.presets import given
from detect.training.region_recipe import ExampleRecipe


@dataclass(frozen=True)
class RegionRecipeOptions:
    """Recipe, where it differs from the preset's."""

    freeze: Annotated[
        str | None,
        typer.Option(help="Freeze the layers up to this one; none trains all.", show_default=PRESET),
    ] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Steps (batches) in each phase.", show_default=PRESET)] = None
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate in each phase.", show_default=PRESET)
    ] = None
    last_layer_rate: Annotated[
        float | None, typer.Option(min=0, help="Factor on the learning rate for the last layer.", show_default=PRESET)
    ] = None
    weight_decay: Annotated[float | None, typer.Option(min=0, help="Weight decay.", show_default=PRESET)] = None
    label_smoothing: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of labels spread over all classes.", show_default=PRESET),
    ] = None
    hard_examples: Annotated[
        int | None,
        typer.Option(min=0, help="Learn only from the N hardest examples of a batch; 0: all.", show_default=PRESET),
    ] = None

    def change(self, preset: Recipe) -> Recipe:
        """Return the recipe of a phase of a preset, changed by the options that were given."""
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
        """Return the last frozen layer, or None."""
        return None if self.freeze == "none" else given(self.freeze, preset)


@dataclass(frozen=True)
class ExampleOptions:
    """Examples, where they differ from the preset's."""

    batch: Annotated[
        int | None, typer.Option(min=1, help="Regions per batch, all processes together.", show_default=PRESET)
    ] = None
    positives: Annotated[
        int | None, typer.Option(min=1, help="Most positive regions to draw per photo.", show_default=PRESET)
    ] = None
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Most background regions to draw per photo.", show_default=PRESET)
    ] = None
    positive_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of positives in a batch.", show_default=PRESET)
    ] = None
    balance: Annotated[
        float | None,
        typer.Option(min=0, help="0 draws positives evenly over regions, 1 evenly over classes.", show_default=PRESET),
    ] = None
    near_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of background with an IoU of at least 0.1.", show_default=PRESET),
    ] = None
    best_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least share of background from the best-ranked boxes.", show_default=PRESET),
    ] = None
    ramp: Annotated[
        tuple[float, float] | None,
        typer.Option(
            min=0,
            max=1,
            metavar="LOW HIGH",
            help="The share of the class in a label rises from 0 at IoU LOW to 1 at HIGH; R-CNN has a step at 0.5.",
            show_default=PRESET,
        ),
    ] = None
    use_ignored: Annotated[
        bool | None,
        typer.Option(help="Learn from ignored objects.", show_default="VOC's difficult ones, not COCO's crowds"),
    ] = None

    def change(self, preset: ExampleRecipe, *, use_ignored: bool) -> ExampleRecipe:
        """Return the examples of a phase of a preset, changed by the options that were given.

        Args:
            preset: examples of the phase.
            use_ignored: what to do with ignored objects if no option says.
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
