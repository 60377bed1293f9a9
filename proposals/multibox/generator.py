"""MultiBox, the learned proposal generator: views of a photo -> network -> boxes, best first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from proposals.multibox.views import CanvasView
from proposals.tidy import clean_proposals, suppress_quickly
from structures.boxes import Boxes, Floats, ImageSize, Mask, area, clip, large_enough, mirror
from structures.errors import require_count
from structures.records import Image, Proposals

MAX_BOXES = 200  # GoogLeNet, section 8
NMS_THRESHOLD = 0.7
MIN_SIDE = 2.0  # pixels of the photo
SCORE = "fit of the box as it is"  # what `MultiBox.score` gives; formerly that of the box as the second look moves it
INNER_MARGIN = 0.1  # boxes this near to a cut edge, as a share of the window, belong to a neighbour (arXiv 1412.1441)

Canvases = npt.NDArray[np.uint8]  # (N, h, w, 3) RGB


class ScoredBoxes(NamedTuple):
    """Boxes on one canvas: (n, 4) xyxy in its pixels, and (n,) scores in 0..1."""

    boxes: Boxes
    scores: Floats


class Predictor(Protocol):
    """Looks at canvases of equal size, uint8 (N, h, w, 3), and finds boxes on each."""

    def __call__(self, canvases: Canvases) -> list[ScoredBoxes]:
        """Return the boxes of each canvas in any order."""

    def score(self, canvas: Canvases, boxes: Boxes) -> Floats:
        """Return the (N,) scores in 0..1 of (N, 4) boxes, in pixels of the one canvas (1, h, w, 3)."""


@runtime_checkable
class LooksAhead(Protocol):
    """A predictor that keeps what its network gave for the last canvases."""

    def look(self, canvases: Sequence[Image]) -> None:
        """Run the network on canvases, uint8 (h, w, 3), of any sizes."""


class Look(NamedTuple):
    """A view of a photo, drawn.

    Attributes:
        image_size: (height, width) of the photo.
        view: which part of it, and how large.
        mirrored: left and right changed places.
        canvas: its pixels.
    """

    image_size: ImageSize
    view: CanvasView
    mirrored: bool
    canvas: Image

    def placed(self, boxes: Boxes) -> Boxes:
        """Map (N, 4) boxes of the photo to the canvas."""
        places = self.view.to_canvas(boxes)
        return mirror(places, self.view.canvas) if self.mirrored else places


class BoxScore:
    """Says how well any boxes of a photo fit an object, as they look in MultiBox's first view.

    In a closer view boxes on or near parts of objects score higher, those of objects hardly (benchmarks/LOG.md).

    Args:
        predict: has a second look at boxes.
        views: returns the parts to look at for a photo's (height, width).
    """

    def __init__(self, predict: Predictor, views: Callable[[ImageSize], Sequence[CanvasView]]) -> None:
        self._predict, self._views = predict, views

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N,) scores in 0..1 of (N, 4) boxes of a photo.

        Raises:
            InputError: the network has no second look.
        """
        return self.finish([self.begin(image)], [boxes])[0]

    def begin(self, image: Image) -> Look:
        """Draw a photo; see `proposals.ranking.ScoresInSteps`."""
        return drawn(image, self._views((image.shape[0], image.shape[1]))[0])

    def look(self, begun: Sequence[Look]) -> None:
        """Run the network for photos that were drawn."""
        _look(self._predict, begun)

    def finish(self, begun: Sequence[Look], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the scores of (N, 4) boxes of each photo."""
        return [
            self._predict.score(look.canvas[None], look.placed(own)) for look, own in zip(begun, boxes, strict=True)
        ]


class MultiBox:
    """Learned proposals.

    Args:
        predict: finds boxes on canvases.
        views: returns the parts to look at for a photo's (height, width).
        max_boxes: the most boxes per photo, the whole photo among them.
        nms_threshold: a box goes when its overlap with a better one is above this.
        mirrored: also look at the mirror image of every view.
        parameters: further settings that decide the boxes, such as the weights' name.
        name: of the generator.
        learned_classes: of the objects that the network learned from, as far as known.

    Attributes:
        score: says how well any boxes of a photo fit an object.

    Raises:
        InputError: max_boxes is below 1.
    """

    scores_tell_fit = True  # see detect.detector.Detector

    def __init__(
        self,
        predict: Predictor,
        views: Callable[[ImageSize], Sequence[CanvasView]],
        *,
        max_boxes: int = MAX_BOXES,
        nms_threshold: float = NMS_THRESHOLD,
        mirrored: bool = False,
        parameters: Mapping[str, Any] | None = None,
        name: str = "multibox",
        learned_classes: Sequence[str] = (),
    ) -> None:
        require_count("max_boxes", max_boxes)
        self._predict, self._views, self.name = predict, views, name
        self.score, self.learned_classes = BoxScore(predict, views), tuple(learned_classes)
        self.max_boxes, self.nms_threshold, self.mirrored = max_boxes, nms_threshold, mirrored
        own = {"max_boxes": max_boxes, "nms_threshold": nms_threshold, "mirrored": mirrored}
        self.parameters: Mapping[str, Any] = own | dict(parameters or {})

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo; the scores lie in 0..1."""
        return self.finish([self.begin(image)])[0]

    def begin(self, image: Image) -> list[Look]:
        """Draw all views of a photo; see `proposals.protocol.ProposesInSteps`."""
        views = self._views((image.shape[0], image.shape[1]))
        turned = (False, True) if self.mirrored else (False,)
        return [drawn(image, view, mirrored) for view in views for mirrored in turned]

    def look(self, begun: Sequence[list[Look]]) -> None:
        """Run the network on the views of photos."""
        _look(self._predict, [look for looks in begun for look in looks])

    def finish(self, begun: Sequence[list[Look]]) -> list[Proposals]:
        """Return the proposals of photos whose views were drawn."""
        looks = [(number, look) for number, own in enumerate(begun) for look in own]
        found: list[list[ScoredBoxes]] = [[] for _ in begun]
        for canvas in dict.fromkeys(look.view.canvas for _, look in looks):
            group = [(number, look) for number, look in looks if look.view.canvas == canvas]
            results = self._predict(np.stack([look.canvas for _, look in group]))
            for scored, (number, look) in zip(results, group, strict=True):
                found[number].append(on_photo(scored, look.view, look.mirrored, look.image_size))
        return [self._kept(each, own[0].image_size) for each, own in zip(found, begun, strict=True)]

    def _kept(self, found: Sequence[ScoredBoxes], image_size: ImageSize) -> Proposals:
        boxes = np.concatenate([f.boxes for f in found])
        scores = np.concatenate([f.scores for f in found])
        usable = large_enough(boxes, MIN_SIDE) & np.isfinite(scores)
        boxes, scores = boxes[usable], scores[usable]
        kept = suppress_quickly(boxes, scores, self.nms_threshold)[: self.max_boxes - 1]
        return clean_proposals(boxes[kept], scores[kept], image_size, self.name)


def drawn(image: Image, view: CanvasView, mirrored: bool = False) -> Look:
    """Draw a view of a photo."""
    return Look((image.shape[0], image.shape[1]), view, mirrored, view.draw(image, mirrored=mirrored))


def _look(predict: Predictor, looks: Sequence[Look]) -> None:
    if isinstance(predict, LooksAhead):
        predict.look([look.canvas for look in looks])


def on_photo(found: ScoredBoxes, view: CanvasView, mirrored: bool, image_size: ImageSize) -> ScoredBoxes:
    """Map boxes from a canvas to the photo, without those too large for the view or cut off by an inner edge of it."""
    boxes = found.boxes
    if mirrored:
        boxes = mirror(boxes, view.canvas)
    boxes = view.to_photo(boxes)
    whole = ~_cut_off(boxes, view, image_size) & (area(boxes) <= view.largest**2)
    return ScoredBoxes(clip(boxes[whole], image_size), found.scores[whole])


def _cut_off(boxes: Boxes, view: CanvasView, image_size: ImageSize) -> Mask:
    x1, y1, x2, y2 = view.window
    margin_x, margin_y = INNER_MARGIN * (x2 - x1), INNER_MARGIN * (y2 - y1)
    height, width = image_size
    cut = np.zeros(len(boxes), bool)
    if x1 > 0:
        cut |= boxes[:, 0] < x1 + margin_x
    if y1 > 0:
        cut |= boxes[:, 1] < y1 + margin_y
    if x2 < width:
        cut |= boxes[:, 2] > x2 - margin_x
    if y2 < height:
        cut |= boxes[:, 3] > y2 - margin_y
    return cut
