"""Validates a region classifier during training: mAP on fixed photos, whose proposals are made once and stored."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.placement import Placement
from classifier.regions import GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint
from detect.detector import Detector
from detect.flow import flow, pixels_of
from detect.networks.shared_features import SharedFeatures, SharedRegions
from detect.runs import propose
from detect.runs.cores import one_core_per_photo, usual_workers
from detect.runs.photos import photos_of
from detect.runs.reading import PhotoReader
from detect.settings import MAP_SCORE_FLOOR
from detect.training.data import unreadable
from detect.training.folder import contents
from eval.aligned import align_records
from eval.scores import score
from proposals.protocol import ProposalGenerator
from proposals.stored.generator import StoredProposals
from proposals.stored.reader import StoreError
from structures.errors import InputError
from structures.records import Dataset, Detections
from structures.text import printable, some_of

FIGURES = {"voc07": "mAP", "coco": "AP"}  # protocol -> its headline figure


def fill_folder(job: propose.ProposalJob, generator: ProposalGenerator, console: Console) -> propose.ProposalSummary:
    """Make the proposals of a training in its folder.

    Raises:
        InputError: the folder has boxes of another generator; the message says which parameter names another folder.
    """
    try:
        return propose.propose_to_folder(job, generator, console)
    except StoreError as error:
        raise InputError(f"{error} as `work`, or remove this one") from None


class RegionMeasure:
    """Detects on fixed photos with given weights, and scores the detections.

    Args:
        dataset: annotated photos, with the classes of the weights.
        generator: proposal generator; should be the one that will be used.
        folder: folder for the proposals of the photos, like that of `rcnn propose`.
        protocol: of `eval.protocols`: "voc07", or "coco", whose ignored objects are crowds.
        placement: device and engine.
        workers: photos to make proposals for at the same time.

    Attributes:
        figure: name of the protocol's headline figure.
    """

    def __init__(
        self,
        dataset: Dataset,
        generator: ProposalGenerator,
        *,
        folder: Path,
        protocol: str,
        placement: Placement,
        workers: int = 1,
    ) -> None:
        self._dataset, self._generator, self._folder = dataset, generator, folder
        self._protocol, self._placement, self._workers = protocol, placement, workers
        self._photos = photos_of(dataset)
        self.figure = FIGURES[protocol]

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        made = {"protocol": self._protocol, "proposals": self._generator.name}
        return {**made, "number of photos": len(self._photos), **contents(self._dataset)}

    def prepare(self, console: Console) -> None:
        """Make the missing proposals.

        Raises:
            InputError: no photo can be read, or the folder has boxes of another generator.
        """
        job = propose.ProposalJob(self._photos, self._folder, workers=self._workers)
        summary = fill_folder(job, self._generator, console)
        if not summary.done:
            raise InputError(
                f"`val_proposals`: the generator failed on all {len(self._photos)} validation photos: "
                f"{some_of(list(summary.skipped.values()))}"
            )

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the figure, from 0 to 1; objects on photos without proposals count as missed."""
        classifier = GoogLeNetRegions(checkpoint, self._placement)
        detector = Detector(StoredProposals(self._folder), classifier, score_floor=MAP_SCORE_FLOOR)
        return figure_of(detector, self._dataset, self._protocol, self._placement)


class SharedMeasure:
    """Detects on fixed photos with shared features, including their MultiBox, and scores the detections.

    Args:
        dataset: annotated photos, with the classes of the weights.
        protocol: of `eval.protocols`: "voc07", or "coco", whose ignored objects are crowds.
        placement: device and engine.

    Attributes:
        figure: name of the protocol's headline figure.
    """

    def __init__(self, dataset: Dataset, *, protocol: str, placement: Placement) -> None:
        self._dataset, self._protocol, self._placement = dataset, protocol, placement
        self.figure = FIGURES[protocol]

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        made = {"protocol": self._protocol, "proposals": "multibox"}
        return {**made, "number of photos": len(self._dataset), **contents(self._dataset)}

    def prepare(self, console: Console) -> None:
        """Print which photos cannot be read; their objects count as missed."""
        for reason in unreadable(self._dataset).values():
            console.print(f"not validated on: {printable(reason)}", markup=False, soft_wrap=True)

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the figure, from 0 to 1."""
        features = SharedFeatures(checkpoint, self._placement)
        detector = Detector(features.multibox(), SharedRegions(features), score_floor=MAP_SCORE_FLOOR)
        return figure_of(detector, self._dataset, self._protocol, self._placement)


def figure_of(detector: Detector, dataset: Dataset, protocol: str, placement: Placement) -> float:
    """Return the headline figure of a protocol for a detector on a dataset, from 0 to 1."""
    aligned = align_records(detect_all(detector, dataset, placement), dataset).detections
    scores = score(protocol, list(dataset), aligned, dataset.classes, crowd=protocol == "coco")
    assert scores.headline[0] == FIGURES[protocol]
    return scores.headline[1]


def detect_all(detector: Detector, dataset: Dataset, placement: Placement) -> dict[str, Detections]:
    """Return the detections on the photos of a dataset, by image id, without photos that cannot be processed."""
    workers = usual_workers(gpu=placement.device.type != "cpu")
    stages = detector.stages(PhotoReader(), workers=workers)
    with one_core_per_photo(workers), closing(flow(photos_of(dataset), stages, pixels=pixels_of)) as done:
        return {each.item.image_id: each.value.found for each in done if each.error is None}
