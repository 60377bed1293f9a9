"""How the regions of a photo are stored: plain little-endian numbers, and a line that says where they lie.

OUT/regions.bin      the regions of photo after photo; see `as_bytes`
OUT/regions.jsonl    one line per photo: where it begins, and its sizes; the first line also names classes and rules
"""

import math
import zlib
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eval.coco_json import whole_number
from eval.lost import Rules
from structures.boxes import ImageSize
from structures.errors import InputError
from structures.records import Proposals
from structures.regions import Regions
from structures.text import number_of

INDEX_FILE = "regions.jsonl"
REGIONS_FILE = "regions.bin"
KEYS = ("image", "at")  # that a line begins with
LARGEST = float(np.finfo(np.float16).max)  # 65504: greater features are stored as this
MOST = 2**31 - 1  # regions of a photo, numbers of a region, and pixels of a side
MOST_SOURCES = 256


class RegionsError(InputError):
    """Kept regions that cannot be used; the message names the file, and the photo or the line."""


class Entry(NamedTuple):
    """A line of the index.

    Attributes:
        image: name of the photo.
        at: where its first byte is.
        classified: number of regions.
        left_out: number of boxes that were proposed, but not classified.
        image_size: (height, width).
        sources: names of the generators.
        features: numbers that are kept for each region; 0 for none.
        crc32: of its bytes.
    """

    image: str
    at: int
    classified: int
    left_out: int
    image_size: ImageSize
    sources: tuple[str, ...]
    features: int
    crc32: int

    def layout(self, classes: int) -> list[tuple[str, tuple[int, ...]]]:
        """Return the type and shape of each array, in the order they are stored: see `as_bytes`."""
        boxes = self.classified + self.left_out
        columns = [("<f4", (boxes, 4)), ("<f4", (boxes,)), ("u1", (boxes,))]
        return [*columns, ("<f2", (self.classified, classes + 1)), ("<f2", (self.classified, self.features))]

    def size(self, classes: int) -> int:
        """Return the number of its bytes."""
        return sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in self.layout(classes))


@dataclass(frozen=True)
class Header:
    """What is the same for all photos, and stands in the first line.

    Attributes:
        classes: names of the columns of the probabilities, without the background behind them.
        rules: that made detections of the regions.
    """

    classes: tuple[str, ...]
    rules: Rules

    def as_json(self) -> dict[str, Any]:
        """Return the values for the line."""
        return {"classes": list(self.classes), "rules": asdict(self.rules)}


def as_bytes(regions: Regions) -> bytes:
    """Return the bytes of a photo: five arrays, one after the other.

    Of all proposals, with the M that were not classified at the end: float32 boxes (N + M, 4), float32 scores (N + M,)
    and uint8 sources (N + M,). Of the N that were classified: float16 probabilities (N, C + 1), background last, and
    float16 features (N, D).
    """
    proposed = regions.proposals.followed_by(regions.proposals.left_out)
    features = np.clip(regions.features.astype(np.float32), -LARGEST, LARGEST)
    columns = [
        proposed.boxes.astype("<f4"),
        proposed.scores.astype("<f4"),
        proposed.source.astype("u1"),
        regions.probabilities.astype("<f2"),
        features.astype("<f2"),
    ]
    return b"".join(column.tobytes() for column in columns)


def as_line(image: str, at: int, regions: Regions, content: bytes) -> dict[str, Any]:
    """Return the line of a photo whose bytes begin at a place."""
    proposals = regions.proposals
    height, width = proposals.image_size
    names = proposals.followed_by(proposals.left_out).source_names
    return {
        "image": image,
        "at": at,
        "width": int(width),
        "height": int(height),
        "classified": len(regions),
        "left_out": len(proposals.left_out) if proposals.left_out is not None else 0,
        "sources": list(names),
        "features": regions.features.shape[1],
        "crc32": zlib.crc32(content),
    }


def read_entry(line: Any, place: str) -> Entry:
    """Return what a line of the index says.

    Raises:
        RegionsError: it does not describe the regions of a photo.
    """
    image, sources = line.get("image"), line.get("sources")
    numbers = [whole_number(line.get(name)) for name in ("at", "classified", "left_out", "features", "crc32")]
    sides = [whole_number(line.get(name)) for name in ("height", "width")]
    named = isinstance(image, str) and isinstance(sources, list) and all(isinstance(name, str) for name in sources)
    if not named or any(number is None or number < 0 for number in numbers):
        raise RegionsError(f"{place}: does not say where a photo's regions are")
    at, classified, left_out, features, crc32 = (number or 0 for number in numbers)
    height, width = (side or 0 for side in sides)
    if max(classified, left_out, features, height, width) > MOST or min(height, width) < 1:
        raise RegionsError(f"{place}: impossible sizes")
    if not 0 < len(sources) <= MOST_SOURCES:
        raise RegionsError(f"{place}: {number_of(len(sources), 'source')}, expected from 1 to {MOST_SOURCES}")
    return Entry(image, at, classified, left_out, (height, width), tuple(sources), features, crc32)


def read_header(line: Any, place: str) -> Header | None:
    """Return what the first line says of all photos; None where a line says nothing of it.

    Raises:
        RegionsError: it cannot be read.
    """
    classes, rules = line.get("classes"), line.get("rules")
    if classes is None and rules is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise RegionsError(f"{place}: its classes are not a list of names")
    try:
        made = Rules(
            score_floor=float(rules["score_floor"]),
            nms_threshold=float(rules["nms_threshold"]),
            max_per_class=int(rules["max_per_class"]),
            weigh_by_fit=bool(rules["weigh_by_fit"]),
            class_agnostic=bool(rules["class_agnostic"]),
            only=None if rules["only"] is None else tuple(map(str, rules["only"])),
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        raise RegionsError(f"{place}: its rules cannot be read") from None
    return Header(tuple(classes), made)


def from_bytes(content: bytes, entry: Entry, classes: tuple[str, ...]) -> Regions:
    """Return the regions that `as_bytes` wrote, with float32 probabilities and float16 features.

    Raises:
        RegionsError: the numbers cannot be those of regions.
    """
    arrays: list[npt.NDArray[Any]] = []
    start = 0
    for kind, shape in entry.layout(len(classes)):
        count = math.prod(shape)
        arrays.append(np.frombuffer(content, kind, count, start).reshape(shape))
        start += arrays[-1].nbytes
    boxes, scores, source, probabilities, features = arrays
    if not np.isfinite(probabilities).all():
        raise RegionsError(f"the regions of {entry.image} have probabilities that are not finite")
    try:
        proposed = Proposals(
            boxes.astype(np.float32), scores.astype(np.float32), entry.image_size, source, entry.sources
        )
    except InputError as error:
        raise RegionsError(f"the regions of {entry.image}: {error}") from None
    proposals = proposed.first(entry.classified) if entry.left_out else proposed
    return Regions(proposals, probabilities.astype(np.float32), classes, features.astype(np.float16))
