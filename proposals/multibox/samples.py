"""Training samples of MultiBox: random views of annotated photos, and the boxes for the refining head.

The same seed, epoch and photo give the same sample in any order and any number of processes, so that a run can be
resumed exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from proposals.multibox.losses import IGNORED, NOTHING, POSITIVE_IOU
from proposals.multibox.views import CANVASES, MEAN_COLOUR, CanvasView, Colour, whole_photo
from proposals.operators import clip_boxes, nms
from structures.boxes import Boxes, ImageSize, Mask, area, as_boxes, clip, large_enough, mirror
from structures.records import GroundTruth, Image, Labels

ZOOM = (0.6, 1.8)  # the photo is drawn smaller or larger by a factor between the two
STRETCH = 1.2  # and wider or narrower by up to this factor
PLAIN = 0.25  # share of the samples that show the whole photo as at test time
VISIBLE = 0.5  # an object counts if at least this share of its box is on the canvas, and is ignored below that
SMALLEST = 4.0  # pixels of the canvas; smaller objects are ignored
BRIGHTNESS, CONTRAST, SATURATION = 24.0, 0.25, 0.4  # largest shift in grey levels, largest changes of the factors

CANDIDATES, KEPT = 1000, 400  # best boxes of the dense head before and after suppression
SUPPRESSION = 0.8  # overlap above which only the better of two boxes is looked at
COPIES, SHAKE = 4, 0.15  # boxes per object, with corners moved by this share of its sides
SMALLEST_REGION = 2.0  # pixels of the canvas

PROPOSALS = 150  # of a photo that a sample takes along
SMALLEST_PROPOSAL = 8.0  # pixels of the canvas
SHOWN = 0.6  # a proposal comes along if at least this share of it is on the canvas


@dataclass(frozen=True, eq=False)
class Sample:
    """A canvas and the objects on it.

    Attributes:
        canvas: RGB uint8 (h, w, 3).
        boxes: (G, 4) xyxy in pixels of the canvas, clipped.
        ignore: (G,) objects that count neither as object nor as background.
        labels: (G,) classes of the objects.
        proposals: (P, 4) proposals of the photo that lie on the canvas, in its pixels, clipped.
    """

    canvas: Image
    boxes: Boxes
    ignore: Mask
    labels: Labels = field(default_factory=lambda: np.zeros(0, np.int64))
    proposals: Boxes = field(default_factory=lambda: as_boxes([]))


def random_sample(
    photo: Image,
    truth: GroundTruth,
    rng: np.random.Generator,
    proposals: Boxes | None = None,
    *,
    fill: Colour = MEAN_COLOUR,
) -> Sample:
    """Look at a photo as training does: moved, zoomed, stretched, mirrored, recoloured.

    Args:
        photo: RGB uint8 (H, W, 3).
        truth: the objects on it.
        rng: where everything random comes from.
        proposals: (P, 4) boxes of the photo to take along, at most PROPOSALS of them, drawn; None for none.
        fill: colour of what lies outside the photo.
    """
    view = replace(random_view(truth.image_size, rng), fill=fill)
    mirrored = bool(rng.random() < 0.5)
    canvas = recolour(view.draw(photo, mirrored=mirrored), rng)
    boxes, ignore, kept = on_canvas(truth, view)
    taken = as_boxes([]) if proposals is None else _some_of(proposals, view, rng)
    if mirrored:
        boxes, taken = mirror(boxes, view.canvas), mirror(taken, view.canvas)
    return Sample(canvas, boxes, ignore, truth.labels[kept], taken)


def _some_of(proposals: Boxes, view: CanvasView, rng: np.random.Generator) -> Boxes:
    """Draw some of the proposals that a view shows nearly whole."""
    whole = view.to_canvas(proposals[rng.permutation(len(proposals))])
    seen = clip(whole, view.canvas)
    shown = large_enough(seen, SMALLEST_PROPOSAL) & (area(seen) >= SHOWN * area(whole))
    return seen[shown][:PROPOSALS]


def random_view(
    image_size: ImageSize, rng: np.random.Generator, canvases: Sequence[tuple[int, int]] = CANVASES
) -> CanvasView:
    """Choose a window that holds a part of the photo, or all of it and some more."""
    plain = whole_photo(image_size, canvases=canvases)
    if rng.random() < PLAIN:
        return plain
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    stretch = np.exp(rng.uniform(-1, 1) * np.log(STRETCH) / 2)
    width, height = plain.window[2] / zoom * stretch, plain.window[3] / zoom / stretch
    # Either the window lies within the photo, or the photo within the window.
    x, y = rng.random() * (image_size[1] - width), rng.random() * (image_size[0] - height)
    return CanvasView((x, y, x + width, y + height), plain.canvas)


def on_canvas(truth: GroundTruth, view: CanvasView) -> tuple[Boxes, Mask, Mask]:
    """Return the boxes of the objects that can be seen, which of these to ignore, and their mask among all objects."""
    whole = view.to_canvas(truth.boxes)
    seen = clip(whole, view.canvas)
    share = area(seen) / np.maximum(area(whole), 1e-6)
    small = (seen[:, 2:] - seen[:, :2]).min(axis=1, initial=np.inf) < SMALLEST
    ignore = truth.ignore | (share < VISIBLE) | small
    kept = area(seen) > 0
    return seen[kept], ignore[kept], kept


def recolour(canvas: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast and saturation a little."""
    pixels = canvas.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(1 + rng.uniform(-SATURATION, SATURATION))
    middle = np.float32(pixels.mean())
    pixels = middle + (pixels - middle) * np.float32(1 + rng.uniform(-CONTRAST, CONTRAST))
    pixels += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the source of randomness of one sample, in whichever process."""
    return np.random.default_rng([seed, epoch, index])


def batches(sizes: Sequence[ImageSize], batch_size: int, *, seed: int, epoch: int) -> Iterator[list[int]]:
    """Shuffle photos into batches of one canvas each.

    Args:
        sizes: (height, width) of every photo.
        batch_size: photos per batch; the last ones of each canvas may be fewer.
        seed: of the run.
        epoch: counts from 0; every epoch has its own order.

    Yields:
        Indices into sizes; over one epoch each occurs once.
    """
    waiting: dict[ImageSize, list[int]] = {}
    for index in np.random.default_rng([seed, epoch]).permutation(len(sizes)).tolist():
        group = waiting.setdefault(whole_photo(sizes[index]).canvas, [])
        group.append(index)
        if len(group) == batch_size:
            yield waiting.pop(whole_photo(sizes[index]).canvas)
    yield from waiting.values()


@torch.no_grad()
def draw_regions(
    boxes: Tensor, logits: Tensor, objects: Tensor, ignore: Tensor, canvas: ImageSize, count: int
) -> tuple[Tensor, Tensor]:
    """Draw the boxes that the refining head learns from: half objects as far as there are such, half background.

    Args:
        boxes: (M, 4) of the dense head.
        logits: (M,) confidences.
        objects: (G, 4) annotated boxes.
        ignore: (G,) which of them do not count.
        canvas: (height, width).
        count: boxes wanted.

    Returns:
        (n, 4) boxes, and (n,) the number of their object or NOTHING; n at most count.
    """
    scores, best = logits.topk(min(CANDIDATES, len(logits)))
    candidates = clip_boxes(boxes[best], canvas)
    candidates = candidates[nms(candidates, scores, SUPPRESSION)[:KEPT]]
    noise = torch.randn((COPIES * len(objects), 4), device=boxes.device) * SHAKE
    sides = (objects[:, 2:] - objects[:, :2]).repeat(COPIES, 2)
    candidates = torch.cat([candidates, clip_boxes(objects.repeat(COPIES, 1) + noise * sides, canvas)])
    candidates = candidates[((candidates[:, 2:] - candidates[:, :2]) > SMALLEST_REGION).all(dim=1)]
    assigned = _assign_strictly(candidates, objects, ignore)
    positive = torch.nonzero(assigned >= 0)[:, 0]
    negative = torch.nonzero(assigned == NOTHING)[:, 0]
    positive = positive[torch.randperm(len(positive))[: count // 2].to(positive.device)]
    negative = negative[torch.randperm(len(negative))[: count - len(positive)].to(negative.device)]
    rows = torch.cat([positive, negative])
    return candidates[rows], assigned[rows]


def _assign_strictly(boxes: Tensor, objects: Tensor, ignore: Tensor) -> Tensor:
    """Give each box the object that it overlaps by 0.5 or more; ignored objects take their boxes out."""
    if len(objects) == 0:
        return torch.full((len(boxes),), NOTHING, device=boxes.device)
    best, number = box_iou(boxes, objects).max(dim=1)
    assigned = torch.where(best >= POSITIVE_IOU, number, NOTHING)
    return torch.where((assigned >= 0) & ignore[number], IGNORED, assigned)
