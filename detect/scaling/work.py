"""The work of a cluster's processes: some read photos and search for regions, others run networks. Independent of Ray.

Each process loads the detector once. Photos are passed on together with the intermediate results.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from detect.flow import Passing, Stage, each, flow, pixels_of
from detect.runs.reading import complaint
from detect.scaling.places import EXTRA
from detect.scaling.reading import Placed, SourceReader
from detect.scaling.shards import DETECT, Row, failed_row, found_row, proposed_row, schema_of
from proposals.stored.reader import pixel_key
from structures.errors import InputError
from structures.extras import installed
from structures.images import MAX_PIXELS
from structures.json_reader import through_json
from structures.records import Image, Proposals

ON_CPU = {"device": "cpu", "engine": "torch", "dtype": "float32"}  # loads fast, for processes that run no network
GROUP, AT, PLACEMENT = "group", "at", "placement"  # columns of rows on their way, in addition to the results'


@dataclass(frozen=True)
class Work:
    """What to do with photos; plain data that can be sent to processes.

    Attributes:
        kind: `shards.DETECT` or `shards.PROPOSE`.
        arguments: arguments of `detect.detector.Detector.load` or `detect.generators.load_proposals`.
        settings: everything that decides the results; must be the same in every process.
        exif: EXIF policy.
        max_pixels: largest photo, in pixels.
        max_boxes: keep only the first N boxes per photo; None keeps all.
        placement: device, engine and dtype of the networks.
        in_steps: whether other processes than the readers run the networks.
        together: photos per pass through the networks; None chooses for the device.
        threads: threads per reader.
    """

    kind: str
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    exif: Any = "apply"
    max_pixels: int = MAX_PIXELS
    max_boxes: int | None = None
    placement: Mapping[str, Any] = field(default_factory=dict)
    in_steps: bool = True
    together: int | None = None
    threads: int = 1

    def load(self, placement: Mapping[str, Any]) -> "Loaded":
        """Load the detector or the generator.

        Args:
            placement: device, engine and dtype.

        Raises:
            InputError: a name, file or device cannot be used on this machine, or its weights differ from those of the
                run.
        """
        loaded = _load_detector(self, placement) if self.kind == DETECT else _load_generator(self, placement)
        if self.settings and through_json(loaded.settings) != through_json(self.settings):
            raise InputError("a machine of the cluster has other weights or another version of rcnn than this one")
        return loaded


@dataclass(frozen=True)
class Loaded:
    """A loaded detector or generator.

    Attributes:
        settings: everything that decides the results.
        stages: reader and number of threads -> stages, which end in the input of `row`.
        row: photo, its result and the digest of its file -> row of results.
        placement: where the networks run, and why.
        classes: classes of the detector; none for proposals.
        warning: warning about the loaded parts.
    """

    settings: Mapping[str, Any]
    stages: Callable[[Callable[[Any], Image], int], list[Stage]]
    row: Callable[[Placed, Any, str], Row]
    placement: Sequence[str] = ()
    classes: tuple[str, ...] = ()
    warning: str = ""


def _load_detector(work: Work, placement: Mapping[str, Any]) -> Loaded:
    from detect.classifiers import choose_weights
    from detect.detector import Detector
    from detect.generators import unlearned_warning
    from detect.runs.detect import placement as reasons_of
    from detect.runs.record import name_and_digest
    from detect.weights import weights_file

    arguments = dict(work.arguments)
    names, arguments["features"] = choose_weights(arguments.pop("weights", None), arguments.get("features", "auto"))
    detector = Detector.load(names, **arguments, **placement)
    settings = {**detector.settings(), "weights": [name_and_digest(weights_file(name)) for name in names]}

    def stages(read: Callable[[Any], Image], workers: int) -> list[Stage]:
        return detector.stages(read, workers=workers, together=work.together)

    def row(photo: Placed, value: Any, key: str) -> Row:
        return found_row(photo.image_id, value.found, key)

    warning = unlearned_warning(detector.propose, detector.options.only or detector.classes)
    return Loaded(settings, stages, row, tuple(reasons_of(detector)[0]), detector.classes, warning)


def _load_generator(work: Work, placement: Mapping[str, Any]) -> Loaded:
    from detect.runs.propose import build_for_many, proposing_stages, settings_of

    options = dict(work.arguments)
    placed, reasons = None, tuple[str, ...]()
    if work.in_steps:
        from classifier.placement import place

        placed = place(**placement)
        reasons = (placed.reason,)
    generator = build_for_many(options.pop("proposals"), placed, **options)

    def stages(read: Callable[[Any], Image], workers: int) -> list[Stage]:
        return proposing_stages(generator, read, workers=workers, together=work.together)

    def row(photo: Placed, value: tuple[Image, Proposals], key: str) -> Row:
        image, proposals = value
        return proposed_row(photo.image_id, proposals.take(slice(work.max_boxes)), pixel_key(image), key)

    return Loaded(settings_of(generator, work.exif, work.max_boxes), stages, row, reasons)


@dataclass(frozen=True)
class PackedPhoto:
    """A photo that is ready for the networks.

    Attributes:
        path: path of its file.
        packed: output of the first stage.
    """

    path: str
    packed: bytes


class Reading:
    """Reads the photos of a table and searches them for regions: yields rows of results, or of input for the networks.

    Args:
        work: what to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    @cached_property
    def _loaded(self) -> Loaded:
        return self._work.load(ON_CPU if self._work.in_steps else {})

    @cached_property
    def _read(self) -> SourceReader:
        return SourceReader(exif=self._work.exif, max_pixels=self._work.max_pixels)

    def __call__(self, table: Any) -> Iterator[Any]:
        """Yield a table of one row for each photo in a table of names, paths, rows, groups and numbers in the group."""
        from detect.runs.cores import one_core_per_photo

        stages, work = self._loaded.stages(self._read, self._work.threads), self._work
        photos = [
            Placed(os.fsdecode(name), os.fsdecode(path), row)
            for name, path, row in zip(*(table[column].to_pylist() for column in ("name", "path", "row")), strict=True)
        ]
        numbers = zip(table[GROUP].to_pylist(), table[AT].to_pylist(), strict=True)
        with (
            one_core_per_photo(work.threads),
            closing(flow(photos, stages[:1] if work.in_steps else stages, pixels=pixels_of)) as done,
        ):
            for passed, (group, at) in zip(done, numbers, strict=True):
                key = self._read.key_of(passed.item)
                yield self._table(passed, {GROUP: group, AT: at}, key)

    def _table(self, passed: Passing[Placed], numbers: Row, key: str) -> Any:
        photo = passed.item
        if not self._work.in_steps:
            return results_table([{**_row_of(passed, self._loaded, key), **numbers}], self._work.kind)
        begun = {
            "name": os.fsencode(photo.image_id),
            "path": os.fsencode(photo.path),
            "key": key,
            "packed": None if passed.error else pickle.dumps(passed.value, protocol=5),
            "error": complaint(passed) if passed.error else None,
        }
        arrow = installed("pyarrow", extra=EXTRA)
        return arrow.Table.from_pylist([{**begun, **numbers}], schema=_begun_schema())


class Networks:
    """Runs the networks on photos from `Reading`: returns rows of results.

    Args:
        work: what to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    @cached_property
    def _loaded(self) -> Loaded:
        return self._work.load(self._work.placement)

    def __call__(self, table: Any) -> Any:
        """Return the rows of results for a table from `Reading`."""
        loaded, rows = self._loaded, list[Row]()
        begun = table.to_pylist()
        sound = [PackedPhoto(os.fsdecode(row["path"]), row["packed"]) for row in begun if row["packed"] is not None]
        unpack = Stage(
            "propose", each(lambda photo: pickle.loads(photo.packed))
        )  # pickled by `Reading` in the same cluster
        stages = [unpack, *loaded.stages(_not_here, 1)[1:]]
        with closing(flow(sound, stages, pixels=pixels_of)) as done:
            for photo in begun:
                name = os.fsdecode(photo["name"])
                numbers = {GROUP: photo[GROUP], AT: photo[AT], PLACEMENT: "; ".join(loaded.placement)}
                if photo["packed"] is None:
                    rows.append({**failed_row(name, photo["error"]), **numbers})
                    continue
                passed = next(done)
                placed = Passing(Placed(name, passed.item.path), passed.value, passed.error, passed.stage)
                rows.append({**_row_of(placed, loaded, photo["key"]), **numbers})
        return results_table(rows, self._work.kind)


def _row_of(passed: Passing[Placed], loaded: Loaded, key: str) -> Row:
    if passed.error is not None:
        return failed_row(passed.item.image_id, complaint(passed))
    return loaded.row(passed.item, passed.value, key)


def _not_here(photo: Any) -> Image:
    raise AssertionError("photos are read by other processes")


def _begun_schema() -> Any:
    arrow = installed("pyarrow", extra=EXTRA)
    numbers = [(GROUP, arrow.int64()), (AT, arrow.int64())]
    packed = ("packed", arrow.large_binary())
    columns = [("name", arrow.binary()), ("path", arrow.binary()), ("key", arrow.string()), packed]
    return arrow.schema([*columns, ("error", arrow.string()), *numbers])


def photos_table(rows: Sequence[Row]) -> Any:
    """Return a table of photos for `Reading`."""
    arrow = installed("pyarrow", extra=EXTRA)
    columns = [("name", arrow.binary()), ("path", arrow.binary()), ("row", arrow.int64())]
    return arrow.Table.from_pylist(
        list(rows), schema=arrow.schema([*columns, (GROUP, arrow.int64()), (AT, arrow.int64())])
    )


def results_table(rows: Sequence[Row], kind: str) -> Any:
    """Return a table of results, with the group of each, its number there, and the placement of the networks."""
    arrow = installed("pyarrow", extra=EXTRA)
    numbers = [
        arrow.field(GROUP, arrow.int64()),
        arrow.field(AT, arrow.int64()),
        arrow.field(PLACEMENT, arrow.string()),
    ]
    return arrow.Table.from_pylist(list(rows), schema=arrow.schema([*schema_of(kind), *numbers]))
