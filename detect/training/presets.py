"""The presets of `rcnn train --preset NAME`: everything that decides the result of a training.

Every setting is here, or is a default of the records used here, such as `Recipe` and `ExampleRecipe`. To change what
`--preset shipped` trains, change REGIONS["shipped"] or MULTIBOX["shipped"]; the command line, its help and the metadata
of the weights follow. (docs/training.md describes how the built-in weights were made.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from classifier.recipes import Recipe
from detect.defaults import PROPOSALS
from detect.training.few_recipe import FewRecipe
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.region_recipe import ExampleRecipe, RegionTraining
from detect.training.shared_recipe import SharedRecipe
from structures.errors import InputError
from structures.names import not_one_of

NOT_MEASURED = "not measured"
T = TypeVar("T")


@dataclass(frozen=True)
class Preset(Generic[T]):
    """A training by name.

    Attributes:
        purpose: what it is for.
        weights: weights to start from: `imagenet`, a built-in name, or a file in the working folder.
        phases: recipes; each phase starts from the result of the previous one.
        proposals: generator of the examples.
        score: expected score, with data and protocol.
        cpu: how long it takes on a CPU, on how many photos.
        gpu: how long it takes on a GPU.
    """

    purpose: str
    weights: str
    phases: tuple[T, ...]
    proposals: str = ""
    score: str = NOT_MEASURED
    cpu: str = NOT_MEASURED
    gpu: str = NOT_MEASURED

    def words(self) -> str:
        """Return purpose, score and times, for --help."""
        known = {"Score": self.score, "CPU": self.cpu, "GPU": self.gpu}
        told = [f"{name}: {value}." for name, value in known.items() if value != NOT_MEASURED]
        return " ".join([f"{self.purpose}, from {self.weights}.", *told])


def _from_4a(steps: int, learning_rate: float) -> RegionTraining:
    """Train all layers from 4a on: the earlier ones cost more, and hardly change."""
    examples = ExampleRecipe(
        positives=16, negatives=20, near_share=0.7, best_share=0.7, positive_share=0.35, balance=0.5
    )
    return RegionTraining(Recipe(steps, learning_rate), examples, frozen="maxpool3")


REGIONS: Mapping[str, Preset[RegionTraining]] = {
    "quick": Preset(
        purpose="the last two Inception modules on kept features",
        weights="imagenet",
        phases=(RegionTraining(Recipe(2000), frozen="maxpool4"),),
        proposals=PROPOSALS,
        score="66.57 mAP (voc07) from BVLC's weights, on a quarter of our own VOC 2007 validation split",
        cpu="an hour for 3,000 photos on two cores with bfloat16, about 1:25 h with AVX2; 13 GB on disk",
        gpu="not measured; about 5 minutes, estimated from its operations",
    ),
    "shipped": Preset(
        purpose="all layers from 4a on, in four phases, each on its own random draw of regions",
        weights="bvlc_googlenet.caffemodel",
        phases=(_from_4a(1500, 0.008), _from_4a(1200, 0.006), _from_4a(1200, 0.004), _from_4a(1200, 0.003)),
        proposals=PROPOSALS,
        score="71.36 mAP (voc07) on a quarter of our own VOC 2007 validation split",
        cpu="2:23 h for 3,700 photos on two cores with bfloat16, about 7 h with AVX2; 25 GB on disk",
        gpu="not measured; about 20 minutes, estimated from its operations",
    ),
}

MULTIBOX: Mapping[str, Preset[MultiBoxRecipe]] = {
    "quick": Preset(
        purpose="the heads and the trunk after 4e",
        weights="imagenet",
        phases=(MultiBoxRecipe(epochs=3),),
        score="recall@0.50 of 200 boxes 94.2 from BVLC's weights, on 200 photos of our own VOC 2007 validation split",
        cpu="12 minutes for 3,700 photos on two cores with bfloat16, about 45 with AVX2",
    ),
    "shipped": Preset(
        purpose="the heads and the trunk after 4e, then two phases with the trunk after 3b",
        weights="bvlc_googlenet.caffemodel",
        phases=(
            MultiBoxRecipe(epochs=3),
            MultiBoxRecipe(epochs=5, frozen="inception3b"),
            MultiBoxRecipe(epochs=3, frozen="inception3b"),
        ),
        score="recall@0.50 of 200 boxes 94.7 on a quarter of our own VOC 2007 validation split",
        cpu="about an hour for 3,700 photos on two cores with bfloat16, about 3 h with AVX2",
        gpu="not measured; about 10 minutes, estimated from its operations",
    ),
}


SHARED: Mapping[str, Preset[SharedRecipe]] = {
    "shared": Preset(
        purpose="MultiBox and the classifiers of shared features and of crops on one trunk, together, after 3b",
        weights="multibox",
        phases=(SharedRecipe(),),
        proposals="selective-search",
        score="68.3 mAP (voc07) on MultiBox's boxes, without crops, on a quarter of our own VOC 2007 validation split",
        cpu="about 1:45 h for 5,000 photos on two cores with bfloat16, 2:45 h with AVX2; 0.3 GB on disk",
    ),
}
FEW: Mapping[str, Preset[FewRecipe]] = {
    "few": Preset(
        purpose="new classes from a few examples each, added to those of the weights",
        weights="shared",
        phases=(FewRecipe(),),
        proposals=PROPOSALS,
    ),
}
REGION_WEIGHTS = "default"  # region classifier that the preset of shared features starts from, with MultiBox


def find(presets: Mapping[str, Preset[T]], name: str) -> Preset[T]:
    """Return a preset by name.

    Raises:
        InputError: there is no such preset.
    """
    if name not in presets:
        raise InputError(f"`preset` {not_one_of(name, presets)}")
    return presets[name]


def given(value: T | None, preset: T) -> T:
    """Return a value that was given, or else that of the preset.

    >>> given(None, 0.1), given(0.0, 0.1)
    (0.1, 0.0)
    """
    return preset if value is None else value


def describe(presets: Mapping[str, Preset[T]]) -> list[str]:
    """Return a paragraph of help for each preset."""
    return [f"{name}: {preset.words()}" for name, preset in presets.items()]
