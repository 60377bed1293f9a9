"""The detector: propose, classify, suppress and vote.

>>> from detect import Detector
>>> detector = Detector.load()                         # doctest: +SKIP
>>> found = detector("photo.jpg")                      # doctest: +SKIP
>>> found.boxes, found.labels, found.scores            # doctest: +SKIP
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from classifier.protocol import RegionClassifier, settings_of
from detect.defaults import PROPOSALS
from detect.flow import Stage, flow, pixels_of
from detect.found import Found
from detect.settings import (
    MAX_PER_CLASS,
    NMS_THRESHOLD,
    SCORE_FLOOR,
    VOTE_POWER,
    VOTE_THRESHOLD,
    DetectorSettings,
    SettingChanges,
)
from detect.stages import DetectorStages
from detect.suppression import Suppression
from proposals.protocol import ProposalGenerator, tells_fit
from structures.boxes import Floats
from structures.errors import InputError, require_count
from structures.photos import PhotoLike, as_image, name_of, several
from structures.records import Image, Proposals
from structures.regions import Regions
from structures.timing import Timer

if TYPE_CHECKING:
    from typing_extensions import Never, Self, Unpack

    from classifier.placement import DType, EngineName
    from detect.classifiers import Features
    from structures.boxes import ImageSize
    from structures.images import ExifPolicy


class Detector:
    """R-CNN as in GoogLeNet's paper: proposals, a classifier, suppression per class, no box regression.

    Args:
        propose: proposes regions.
        classify: classifies regions; a `classifier.regions.Ensemble` combines several classifiers.
        settings: all other settings that decide the results.
        **changes: fields of `detect.settings.DetectorSettings` that replace those of `settings`.

    Attributes:
        options: the settings, with `weigh_by_fit` decided by the generator if it was None.
        seconds: time spent in each stage so far, summed over threads.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        propose: ProposalGenerator,
        classify: RegionClassifier,
        settings: DetectorSettings | None = None,
        **changes: "Unpack[SettingChanges]",
    ) -> None:
        options = replace(settings or DetectorSettings(), **changes)
        by_fit = tells_fit(propose) if options.weigh_by_fit is None else options.weigh_by_fit
        self.propose, self.classify, self.options = propose, classify, replace(options, weigh_by_fit=by_fit)
        self._found = Suppression(self.options, tuple(classify.classes))
        self.seconds: dict[str, float] = defaultdict(float)
        self._adding = Lock()
        self._stages = DetectorStages(
            propose, classify, first=self._first, regions=self._regions, found=self._found, timed=self._timed
        )

    @classmethod
    def load(
        cls,
        weights: str | Path | Sequence[str | Path] | None = None,
        proposals: str = PROPOSALS,
        *,
        device: str = "auto",
        features: "Features" = "auto",
        exact: int | None = None,
        engine: "EngineName" = "auto",
        dtype: "DType" = "auto",
        batch_size: int | None = None,
        mirrored: bool = False,
        score_floor: float = SCORE_FLOOR,
        nms_threshold: float = NMS_THRESHOLD,
        max_boxes: int | None = None,
        max_per_class: int = MAX_PER_CLASS,
        weigh_by_fit: bool | None = None,
        vote_threshold: float | None = VOTE_THRESHOLD,
        vote_power: float = VOTE_POWER,
        class_agnostic: bool = False,
        only: "str | Sequence[str] | None" = None,
        exif: "ExifPolicy" = "apply",
        keep_features: bool = False,
        first_size: "ImageSize | None" = None,
    ) -> "Self":
        """Build a detector from names; every argument is optional.

        Args:
            weights: weights of the classifier: a built-in name, or a file of `rcnn train regions`; None takes the
                built-in ones for `features`. The probabilities of several weights are averaged, but one for shared
                features and one for crops make "both", and so does one for shared features with a layer for crops.
            proposals: name of the proposal generator, as for `rcnn detect --proposals`; `a+b` takes the boxes of both.
            device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", ...
            features: "shared" pools all regions from features of the whole photo, with one pass of the network per
                photo; "crops" classifies a crop of each region; "both" uses shared features, and crops as well for the
                first regions; "auto" is "both", or, if weights are named, what these are for.
            exact: with "both", the number of first regions of which crops are classified; None takes 16.
            engine: "auto" (OpenVINO on a CPU where it is installed, else torch), "torch", "compiled", "graph" (CUDA
                graphs) or "openvino".
            dtype: precision of the networks: "auto" (bfloat16 where the device has it; else, on a CPU, int8 for shared
                features with OpenVINO, and float32), "float32", "bfloat16", "float16", or "int8" (shared features with
                OpenVINO).
            batch_size: regions per batch; None chooses for the engine. Changes speed and memory, not results.
            mirrored: also classify mirrored regions, and average the two; takes twice the time.
            score_floor: lowest score to keep, 0 to 1; for mAP use 0.001.
            nms_threshold: a detection is dropped if its IoU with a better one of its class is above this, 0 to 1.
            max_boxes: classify only the first N proposals; None takes all.
            max_per_class: most detections per class and photo.
            weigh_by_fit: multiply class probabilities by the scores of the proposals; None does so if the generator
                says that these tell how well a box fits an object.
            vote_threshold: a detection moves to the weighted mean of the boxes that overlap it by this IoU or more,
                above 0 to 1; None leaves it at its proposal.
            vote_power: votes are weighted by their scores to this power, above 0.
            class_agnostic: also drop a detection for a better one of another class.
            only: classes to look for, or one; None looks for all that the classifier knows.
            exif: "apply" turns photos as their EXIF orientation says, "ignore" takes the stored pixels.
            keep_features: `classified` also returns the input of the network's last layer for each region.
            first_size: (height, width) of the first photo, if known: the network for its shape is made meanwhile.

        Raises:
            InputError: a setting is out of range, or a name, file or device cannot be used.
        """
        from classifier.placement import place
        from detect.classifiers import load_classifier, shared_features
        from detect.generators import import_ahead, load_proposals

        settings = DetectorSettings(
            score_floor=score_floor,
            nms_threshold=nms_threshold,
            max_boxes=max_boxes,
            max_per_class=max_per_class,
            weigh_by_fit=weigh_by_fit,
            vote_threshold=vote_threshold,
            vote_power=vote_power,
            class_agnostic=class_agnostic,
            only=only,  # type: ignore[arg-type]  # a tuple is made there
            exif=exif,
        )
        placement = place(device=device, engine=engine, dtype=dtype)
        import_ahead(proposals)  # while weights are read and checked, which needs little of Python
        classify = load_classifier(
            weights,
            placement,
            mirrored=mirrored,
            batch_size=batch_size,
            features=features,
            with_features=keep_features,
            exact=exact,
        )
        shared = shared_features(classify)
        if shared is not None and first_size is not None:
            shared.expect(first_size)
        propose = load_proposals(proposals, placement, shared=shared)
        return cls(propose, classify, settings)

    def __reduce__(self) -> "Never":
        """Refuse to be pickled or copied: engines hold threads, and what they compiled for this process."""
        raise TypeError("a Detector cannot be pickled or copied: load one in each process (docs/python.md)")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return tuple(self.classify.classes)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the classes to look for, in label order."""
        return self._found.wanted

    def __call__(self, photo: "PhotoLike") -> Found:
        """Find objects in one photo.

        Args:
            photo: a path, a PIL image, a NumPy array (H, W, 3) or a torch tensor (3, H, W);
                `structures.photos.as_image` lists other shapes, and the values.

        Returns:
            The detections, with the photo as it was passed, for drawing.

        Raises:
            ImageError: the file cannot be read, or this is not a photo.
        """
        image = self.read(photo)
        return replace(self.detect(image, self.regions(image)), image=name_of(photo), photo=photo)

    def many(self, photos: "Iterable[PhotoLike]", *, workers: int = 1, together: int | None = None) -> Iterator[Found]:
        """Find objects in several photos; reading, proposing, the networks and suppression run in parallel.

        Args:
            photos: any iterable of photos in any of the forms above; consumed as needed, a few ahead, in another thread
                (`detect.flow.flow` says how many).
            workers: threads that read photos and propose regions; more than one pays with a GPU.
            together: most photos per pass through the networks; None chooses for the device. On a CPU the results are
                the same to the last bit.

        Returns:
            One result per photo, in order. Results hold paths, but no pixels: to draw a photo that was not a path, pass
            it to `Found.draw` again.

        Raises:
            InputError: this is one photo instead of several; or, when its turn comes, a photo cannot be used.
        """
        for name, value in (("workers", workers), ("together", together)):
            if value is not None:
                require_count(name, value)
        return self._each(several(photos), workers, together)

    def _each(self, photos: "Iterable[PhotoLike]", workers: int, together: int | None) -> Iterator[Found]:
        stages = self.stages(self.read, workers=workers, together=together)
        with closing(flow(photos, stages, pixels=pixels_of)) as done:
            for passed in done:
                if passed.error is not None:
                    raise passed.error
                kept = passed.item if isinstance(passed.item, str | Path) else None
                yield replace(passed.value.found, image=name_of(passed.item), photo=kept)

    def stages(self, read: Callable[[Any], Image], *, workers: int = 1, together: int | None = None) -> list[Stage]:
        """Return the stages of the work for `detect.flow.flow`; the last one returns `detect.stages.DetectedPhoto`.

        Args:
            read: item -> pixels of the photo.
            workers: threads that read photos and propose regions.
            together: most photos per pass through the networks; None chooses for the device.
        """
        return self._stages.stages(read, workers=workers, together=together)

    def read(self, photo: "PhotoLike") -> Image:
        """Return a photo as RGB uint8 (H, W, 3), for `regions` and `detect`."""
        return as_image(photo, exif=self.options.exif)

    def regions(self, image: Image) -> Proposals:
        """Run the first stage alone: propose regions."""
        with self._timed("propose"):
            return self._first(self.propose(image))

    def detect(self, image: Image, proposals: Proposals) -> Found:
        """Run the second and third stage: classify the proposals of a photo, suppress and vote.

        Raises:
            InputError: the regions are of a photo of another size.
        """
        return self.choose(self.classified(image, proposals))

    def classified(self, image: Image, proposals: Proposals) -> Regions:
        """Run the second stage alone: classify the proposals of a photo.

        Returns:
            The regions with all class probabilities, and with features if the classifier returns them
            (`keep_features`).

        Raises:
            InputError: the regions are of a photo of another size.
        """
        if tuple(proposals.image_size) != image.shape[:2]:
            raise InputError(
                f"proposals for a photo of {proposals.image_size} pixels, but the photo has {image.shape[:2]}"
            )
        with self._timed("classify"):
            return self._regions(proposals, self.classify(image, proposals.boxes))

    def choose(self, regions: Regions) -> Found:
        """Run the third stage alone: keep the best of each group of regions, moved by the votes of its neighbours."""
        with self._timed("suppress"):
            return self._found(regions)

    def _first(self, proposals: Proposals) -> Proposals:
        return proposals if self.options.max_boxes is None else proposals.first(self.options.max_boxes)

    def _regions(self, proposals: Proposals, rows: Floats) -> Regions:
        """Split the rows of the classifier into probabilities and the features after them."""
        columns = len(self.classes) + 1
        return Regions(proposals, rows[:, :columns], self.classes, rows[:, columns:])

    def settings(self) -> Mapping[str, Any]:
        """Return every setting of the stages as JSON values, except the weights, which the caller adds."""
        return {
            "proposals": {"name": self.propose.name, **self.propose.parameters},
            "classes": list(self.classes),
            **self.options.as_record(),
            **settings_of(self.classify),
        }

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        with Timer(stage) as timer:
            yield
        with self._adding:
            for name, spent in timer.seconds.items():
                self.seconds[name] += spent
