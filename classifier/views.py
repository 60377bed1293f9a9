"""Which squares of a photo a classifier looks at: 1, 10 or 144 (GoogLeNet, section 7).

A view is a square of the photo after it was resized. Views that turn out equal, such as the three squares of a square
photo, are listed once with their count, so that nothing is computed twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from classifier.googlenet import INPUT_SIZE
from classifier.weights.preprocessing import Preprocessing
from structures.boxes import ImageSize
from structures.errors import InputError

Crops = Literal[1, 10, 144]
ALL_CROPS: Crops = 144
LONGEST = 8  # sides to one another, above which a photo is cut; any number above 6 gives the same views
SCALES = (256, 288, 320, 352)  # short sides, for an input of 224: GoogLeNet, section 7


class View(NamedTuple):
    """A square of a resized photo.

    Attributes:
        height: of the photo after resizing.
        width: of the photo after resizing.
        top: first row of the square.
        left: first column of the square.
        side: of the square; where it is not the network's input size, the square is resized to that.
        mirrored: left-right, after the cut.
    """

    height: int
    width: int
    top: int
    left: int
    side: int
    mirrored: bool


def list_views(
    image_size: ImageSize, crops: Crops, preprocessing: Preprocessing, *, warp: bool = False
) -> dict[View, int]:
    """Return the views of a photo and how often each counts; the counts add up to `crops`.

    Args:
        image_size: (height, width) of the photo.
        crops: 1 is the centre; 10 the four corners and the centre of the centre square, and their mirror images
            (Krizhevsky et al. 2012, section 4.1); 144 four scales of three squares of six crops, and their mirror
            images.
        preprocessing: input size, and the short side for 1 and 10 crops.
        warp: squeeze the photo to a square first, as BVLC's network was trained.

    Raises:
        InputError: no such number of crops, or a short side that holds none.

    >>> sum(list_views((375, 500), 144, Preprocessing()).values())
    144
    >>> len(list_views((500, 500), 144, Preprocessing()))
    48
    """
    _check(crops, preprocessing)
    size, short = preprocessing.size, preprocessing.resize
    if warp:
        image_size = (short, short)
    if crops == ALL_CROPS:
        shorts = [round(scale * size / INPUT_SIZE) for scale in SCALES]
        return _with_mirror_images(view for each in shorts for view in views_at_scale(image_size, each, size))
    height, width = resized(image_size, short)
    if crops == 1:
        return {View(height, width, middle(height, size), middle(width, size), size, False): 1}
    return _with_mirror_images(_five(height, width, middle(height, short), middle(width, short), short, size))


def _check(crops: int, preprocessing: Preprocessing) -> None:
    if crops not in get_args(Crops):
        raise InputError(f"{crops} crops: not available, only {', '.join(map(str, get_args(Crops)))}")
    if preprocessing.resize < preprocessing.size:
        raise InputError(f"photos brought to {preprocessing.resize} hold no crop of {preprocessing.size} pixels")


def resized(image_size: ImageSize, short: int) -> ImageSize:
    """Return the size of a photo whose short side is brought to `short`, as torchvision rounds it.

    >>> resized((300, 401), 256)
    (256, 342)
    """
    height, width = image_size
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def middle(length: int, part: int) -> int:
    """Return where the middle part of a length begins, as torchvision rounds it."""
    return round((length - part) / 2)


def views_at_scale(image_size: ImageSize, short: int, size: int) -> Iterator[View]:
    """Yield, for each of three squares, its five crops and the square itself, at one scale."""
    height, width = resized(image_size, short)
    spare = max(height, width) - short
    for start in (0, round(spare / 2), spare):  # left, centre, right; or top, centre, bottom
        top, left = (start, 0) if height > width else (0, start)
        yield from _five(height, width, top, left, short, size)
        yield View(height, width, top, left, short, False)


def _five(height: int, width: int, top: int, left: int, square: int, size: int) -> Iterator[View]:
    """Yield the four corners and the centre of a square."""
    far, centre = square - size, middle(square, size)
    for down, across in ((0, 0), (0, far), (far, 0), (far, far), (centre, centre)):
        yield View(height, width, top + down, left + across, size, False)


def _with_mirror_images(views: Iterable[View]) -> dict[View, int]:
    return dict(Counter(each for view in views for each in (view, view._replace(mirrored=True))))


def without_the_unseen(photo: Tensor) -> Tensor:
    """Cut from a very long (3, H, W) photo what no view reaches, so that resizing it never needs much memory.

    The left, centre and right squares stay, each with as much around it; they are as far apart as they can be.
    """
    height, width = photo.shape[1:]
    if max(height, width) <= LONGEST * min(height, width):
        return photo
    if height > width:
        return without_the_unseen(photo.transpose(1, 2)).transpose(1, 2)
    piece = 2 * height
    start = middle(width, piece)
    return torch.cat([photo[:, :, :piece], photo[:, :, start : start + piece], photo[:, :, -piece:]], dim=2)
