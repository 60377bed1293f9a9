"""The detector on one screen: propose, classify, suppress and vote.

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

from classifier.regions import RegionClassifier, settings_of
from detect.defaults import EXACT, PROPOSALS
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
from detect.steps import Steps
from detect.suppression import Suppression
from proposals.protocol import ProposalGenerator, tells_fit
from structures.boxes import Floats
from structures.errors import InputError
from structures.photos import PhotoLike, as_image, name_of, several
from structures.records import Image, Proposals
from structures.regions import Regions
from structures.timing import Timer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from classifier.engines import DType, EngineName
    from detect.classifiers import Features
    from structures.images import ExifPolicy


class Detector:
    """R-CNN as GoogLeNet's paper has it: regions, a classifier, suppression class by class, no box regression.

    Args:
        propose: says where objects might be.
        classify: says what each region holds; several make an `classifier.regions.Ensemble`.
        settings: everything else that decides the results.
        **changes: fields of `detect.settings.DetectorSettings`, in the place of those in settings.

    Attributes:
        options: the settings; where they leave `weigh_by_fit` to the generator, with its answer.
        seconds: time spent so far in each stage, summed over threads.

    Raises:
        InputError: a setting out of its range.
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
        self._steps = Steps(
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
        exact: int = EXACT,
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
        only: "Sequence[str] | None" = None,
        exif: "ExifPolicy" = "apply",
        keep_features: bool = False,
    ) -> "Self":
        """Build a detector from names, all of which may be left out.

        Args:
            weights: of the classifier: a built-in name, or a file that `rcnn train regions` wrote; None takes the
                built-in ones for `features`. The probabilities of several are averaged, but for "both" features.
            proposals: name of the generator, as for `rcnn detect --proposals`; `a+b` takes the boxes of both.
            device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", ...
            features: "shared" pools all regions from features of the whole photo, one pass of the network per photo;
                "crops" classifies a crop of each region; "both" does the first and, for the first regions, the second;
                "auto" is "both" without weights, and with weights what these are for.
            exact: with "both", crops of at most this many regions per photo are classified, the first.
            engine: "auto" (OpenVINO on a CPU where it is installed, else torch), "torch", "compiled", "graph" (CUDA
                graphs) or "openvino".
            dtype: precision of the networks: "auto" (bfloat16 where the device has it), "float32", "bfloat16",
                "float16", or "int8" (shared features with OpenVINO).
            batch_size: regions per batch; None takes what suits the engine. Changes speed and memory, not results.
            mirrored: classify mirrored regions as well, and take the mean of the two; twice the time.
            score_floor: weaker detections are dropped, 0 to 1; for mAP use 0.001.
            nms_threshold: a detection goes when its IoU with a better one of its class is above this, 0 to 1.
            max_boxes: classify at most this many proposals, the first; None takes all.
            max_per_class: at most this many detections of a class per photo.
            weigh_by_fit: multiply class probabilities by the proposals' scores; None where these tell how well a box
                fits an object.
            vote_threshold: boxes that overlap a detection by this IoU or more move it to their mean, above 0 to 1; None
                leaves detections at their proposals.
            vote_power: of the scores that votes are weighted by, above 0.
            class_agnostic: a detection also goes for a better one of another class.
            only: classes that are looked for; None looks for all that the classifier knows.
            exif: "apply" turns photos from files as displayed, "ignore" takes the stored pixels.
            keep_features: have `classified` also return what the network's last layer sees of each region.

        Raises:
            InputError: a setting out of its range, or a name, file or device that cannot be used.
        """
        from classifier.engines import place
        from detect.classifiers import load_classifier, shared_features
        from detect.generators import load_proposals

        settings = DetectorSettings(
            score_floor=score_floor,
            nms_threshold=nms_threshold,
            max_boxes=max_boxes,
            max_per_class=max_per_class,
            weigh_by_fit=weigh_by_fit,
            vote_threshold=vote_threshold,
            vote_power=vote_power,
            class_agnostic=class_agnostic,
            only=None if only is None else tuple(only),
            exif=exif,
        )
        placement = place(device=device, engine=engine, dtype=dtype)
        classify = load_classifier(
            weights,
            placement,
            mirrored=mirrored,
            batch_size=batch_size,
            features=features,
            with_features=keep_features,
            exact=exact,
        )
        propose = load_proposals(proposals, placement, shared=shared_features(classify))
        return cls(propose, classify, settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(self.classify.classes)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the classes that are looked for, in the order of the labels."""
        return self._found.wanted

    def __call__(self, photo: "PhotoLike") -> Found:
        """Find objects in one photo.

        Args:
            photo: a path, a PIL image, a NumPy array (H, W, 3) or a torch tensor (3, H, W);
                `structures.photos.as_image` has the other shapes, and the values.

        Returns:
            What was found, with the photo as it was given, to draw on.

        Raises:
            ImageError: a file that cannot be read, or something that is no photo.
        """
        image = self.read(photo)
        return replace(self.detect(image, self.regions(image)), image=name_of(photo), photo=photo)

    def many(self, photos: "Iterable[PhotoLike]", *, workers: int = 1, together: int | None = None) -> Iterator[Found]:
        """Find objects in several photos; reading, proposing, the networks and suppression overlap.

        Args:
            photos: each in any form that one photo may have; taken as needed, a few ahead, in another thread;
                `detect.flow.flow` says how many.
            workers: threads that read photos and propose regions; with a GPU more than one pays.
            together: at most this many photos go through the networks together; None takes what suits the device. On a
                CPU the results are the same to the last bit.

        Returns:
            One result per photo, in order. They hold paths to draw on, but no pixels: photos that were given otherwise
            are passed to `Found.draw` again.

        Raises:
            InputError: one photo instead of several; or, in its turn, a photo that cannot be used.
        """
        for name, value in (("workers", workers), ("together", together)):
            if value is not None and value < 1:
                raise InputError(f"`{name}` {value} must be at least 1")
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
        """Return what becomes of a photo, as `detect.flow.flow` wants it; `detect.steps.Detected` comes out at the end.

        Args:
            read: returns the pixels of what goes in.
            workers: threads that read and propose.
            together: at most this many photos go through the networks together; None takes what suits the device.
        """
        return self._steps.stages(read, workers=workers, together=together)

    def read(self, photo: "PhotoLike") -> Image:
        """Return a photo as RGB uint8 (H, W, 3), for `regions` and `detect`."""
        return as_image(photo, exif=self.options.exif)

    def regions(self, image: Image) -> Proposals:
        """The first stage alone: what may be objects."""
        with self._timed("propose"):
            return self._first(self.propose(image))

    def detect(self, image: Image, proposals: Proposals) -> Found:
        """The second and third stage: classify the given regions of a photo and keep the best of each group.

        Raises:
            InputError: the regions are of a photo of another size.
        """
        return self.choose(self.classified(image, proposals))

    def classified(self, image: Image, proposals: Proposals) -> Regions:
        """The second stage alone: what is in the given regions of a photo.

        Returns:
            The regions with all class probabilities, and with features where the classifier gives them
            (`keep_features`).

        Raises:
            InputError: the regions are of a photo of another size.
        """
        if tuple(proposals.image_size) != image.shape[:2]:
            raise InputError(f"regions of a photo of {proposals.image_size} in a photo of {image.shape[:2]}")
        with self._timed("classify"):
            return self._regions(proposals, self.classify(image, proposals.boxes))

    def choose(self, regions: Regions) -> Found:
        """The third stage alone: keep the best of each group of regions, where their neighbours vote them to."""
        with self._timed("suppress"):
            return self._found(regions)

    def _first(self, proposals: Proposals) -> Proposals:
        return proposals if self.options.max_boxes is None else proposals.first(self.options.max_boxes)

    def _regions(self, proposals: Proposals, rows: Floats) -> Regions:
        """Split the rows of the classifier into probabilities and the features that follow them."""
        columns = len(self.classes) + 1
        return Regions(proposals, rows[:, :columns], self.classes, rows[:, columns:])

    def settings(self) -> Mapping[str, Any]:
        """Every setting of the stages, as JSON values; which weights classify is for the caller to add."""
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
