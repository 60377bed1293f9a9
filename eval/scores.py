"""The figures of one protocol and what they are based on: objects and detections of each class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eval.checks import upright
from eval.coco_protocol import coco
from eval.protocols import PROTOCOLS, check_protocol
from eval.tables import DetectionTable, ObjectTable
from structures.records import Detections, GroundTruth


@dataclass(frozen=True)
class Scores:
    """The result of a protocol.

    Attributes:
        protocol: its name.
        values: what it yields, the headline first; from 0 to 1, or NaN. Figures of a class are named AP/<class>.
        classes: class names in label order.
        objects: number of objects of each class that count.
        ignored: number of difficult or crowd objects of each class.
        detections: number of detections of each class.
        images: number of images.
    """

    protocol: str
    values: Mapping[str, float]
    classes: tuple[str, ...]
    objects: tuple[int, ...]
    ignored: tuple[int, ...]
    detections: tuple[int, ...]
    images: int

    @property
    def headline(self) -> tuple[str, float]:
        """The headline figure, with its name."""
        return next(iter(self.values.items()))

    @property
    def overall(self) -> dict[str, float]:
        """The figures over all classes."""
        return {name: value for name, value in self.values.items() if "/" not in name}

    @property
    def without_objects(self) -> list[str]:
        """Classes with nothing to find: their AP is NaN and is left out of the mean."""
        return [name for name, count in zip(self.classes, self.objects, strict=True) if count == 0]

    def warnings(self) -> list[str]:
        """Return a line that names the classes without objects, if there are any."""
        names = ", ".join(self.without_objects)
        return [f"classes without objects that count stay out of the mean: {names}"] if names else []

    def of_class(self, name: str) -> dict[str, float]:
        """Return the figures of one class, such as {"AP": 0.4}."""
        return self._by_class.get(name, {})

    @cached_property
    def _by_class(self) -> dict[str, dict[str, float]]:
        return by_class(self.values)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; NaN becomes null."""
        rows = zip(self.classes, self.objects, self.ignored, self.detections, strict=True)
        return {
            "protocol": self.protocol,
            **{name: or_null(value) for name, value in self.overall.items()},
            "images": self.images,
            "objects": sum(self.objects),
            "ignored_objects": sum(self.ignored),
            "detections": sum(self.detections),
            "classes_without_objects": self.without_objects,
            "classes": {
                name: {
                    **{key: or_null(value) for key, value in self.of_class(name).items()},
                    "objects": objects,
                    "ignored_objects": ignored,
                    "detections": detections,
                }
                for name, objects, ignored, detections in rows
            },
        }


def by_class(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the figures of each class by its name.

    >>> by_class({"mAP": 0.5, "AP/cat": 0.4, "AP/dog": 0.6})
    {'cat': {'AP': 0.4}, 'dog': {'AP': 0.6}}
    """
    found: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        figure, slash, name = key.partition("/")
        if slash:
            found.setdefault(name, {})[figure] = value
    return found


def or_null(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def score(
    protocol: str,
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    crowd: bool = False,
) -> Scores:
    """Run a protocol.

    Args:
        protocol: a name in `eval.protocols.PROTOCOLS`.
        truths: of all images, also those without objects.
        detections: of the same images, in the same order; those turned inside out are judged by "coco" alone.
        classes: class names in label order.
        crowd: ignored objects are COCO crowds, not difficult ones; only "coco" tells them apart.

    Raises:
        InputError: no such protocol, or records that do not fit together.
    """
    check_protocol(protocol)
    if protocol != "coco":
        detections = upright(detections)
    rows = (
        coco(truths, detections, classes, crowd=crowd)
        if protocol == "coco"
        else PROTOCOLS[protocol](truths, detections, classes)
    )
    objects, found = ObjectTable.of(truths), DetectionTable.of(detections)
    every = np.bincount(objects.labels, minlength=len(classes))
    counted = objects.counted(len(classes))
    return Scores(
        protocol=protocol,
        values=dict(rows),
        classes=tuple(classes),
        objects=tuple(counted.tolist()),
        ignored=tuple((every - counted).tolist()),
        detections=tuple(np.bincount(found.labels, minlength=len(classes)).tolist()),
        images=len(truths),
    )
