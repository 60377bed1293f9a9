"""Options of a detector, for every command that loads one: generator, weights, features, scores, suppression."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from detect.commands.options import Classes
from detect.defaults import EXACT, PROPOSALS, PROPOSALS_IN_WORDS, refuse_options_without_effect
from detect.settings import NMS_THRESHOLD, SCORE_FLOOR, VOTE_POWER, VOTE_THRESHOLD
from structures.class_lists import read_class_names


class Features(str, Enum):
    """What regions are classified on."""

    auto = "auto"
    both = "both"
    crops = "crops"
    shared = "shared"


RegionWeights = Annotated[
    list[str] | None,
    typer.Option(help="Built-in name or file; several of a kind are averaged.", show_default="those for the features"),
]


@dataclass(frozen=True)
class DetectorOptions:
    """Detector."""

    proposals: Annotated[
        str,
        typer.Option(help="Proposal generator, or a+b for the boxes of both.", show_default=PROPOSALS_IN_WORDS),
    ] = PROPOSALS
    features: Annotated[
        Features,
        typer.Option(
            help="Classify regions on crops of their own, on shared features of the photo, or on both: shared features "
            "for all, crops for the first.",
            show_default="both; with --weights, what these are for",
        ),
    ] = Features.auto
    exact: Annotated[
        int | None,
        typer.Option(min=1, help="With both features, classify crops of the first N regions.", show_default=str(EXACT)),
    ] = None
    weights: RegionWeights = None
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest score to keep; use 0.001 to measure mAP.")] = (
        SCORE_FLOOR
    )
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="Drop a detection whose IoU with a better one is above this.")
    ] = NMS_THRESHOLD
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Also drop a detection for a better one of another class.")
    ] = False
    classes: Classes = None
    max_boxes: Annotated[
        int | None,
        typer.Option(min=1, help="Classify only the first N proposals; those of an unranked union are not best first."),
    ] = None
    mirrored: Annotated[bool, typer.Option("--mirrored", help="Also classify mirrored regions, and average.")] = False
    vote: Annotated[
        bool, typer.Option("--vote/--no-vote", help="Move each detection to the weighted mean of the boxes around it.")
    ] = True
    vote_power: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=10, help="Weight votes by their scores to this power.", show_default=f"{VOTE_POWER:g}"
        ),
    ] = None

    @property
    def names(self) -> list[str]:
        """Names or files of the weights."""
        return list(map(str, self._chosen[0]))

    @property
    def _chosen(self) -> tuple[tuple[str | Path, ...], str]:
        """The weights, and the features that they are used with."""
        from detect.classifiers import choose_weights

        return choose_weights(self.weights, self.features.value)

    def arguments(self) -> dict[str, Any]:
        """Return them as keyword arguments of `Detector.load`.

        Raises:
            InputError: an option has no effect.
        """
        features = self._chosen[1]
        refuse_options_without_effect(
            {
                "--vote-power has no effect with --no-vote": self.vote_power is not None and not self.vote,
                "--exact has no effect without --features both": self.exact is not None
                and features in ("crops", "shared"),
            }
        )
        return {
            "features": features,
            "exact": self.exact,
            "mirrored": self.mirrored,
            "score_floor": self.score,
            "nms_threshold": self.nms,
            "class_agnostic": self.class_agnostic,
            "only": read_class_names(self.classes) if self.classes else None,
            "max_boxes": self.max_boxes,
            "vote_threshold": VOTE_THRESHOLD if self.vote else None,
            "vote_power": VOTE_POWER if self.vote_power is None else self.vote_power,
        }
