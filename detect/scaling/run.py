"""Detects or proposes on a cluster, shard by shard into a folder, with a record of the run.

>>> from detect.scaling.run import Scale, detect_at_scale
>>> done = detect_at_scale("photos", "results", scale=Scale(on="ray://head:10001"))  # doctest: +SKIP
>>> done.photos, len(done.failed)  # doctest: +SKIP
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from detect.consoles import open_console
from detect.runs.machine import peak_memory_text
from detect.runs.progress import Bar, duration, table
from detect.runs.record import RunRecord
from detect.scaling.cluster import share_out, waits
from detect.scaling.connection import connected
from detect.scaling.folder import REMEDY, Folder, open_folder
from detect.scaling.places import in_folder, is_address
from detect.scaling.plan import SHARD_PHOTOS, Group, missing
from detect.scaling.remote import run
from detect.scaling.shards import DETECT, PROPOSE, Row, read_rows, to_parquet
from detect.scaling.sources import Source, find_source
from detect.scaling.work import AT, GROUP, ON_CPU, PLACEMENT, Work, photos_table
from structures.errors import InputError, require_count
from structures.images import MAX_PIXELS, ExifPolicy
from structures.text import number_of, printable


@dataclass(frozen=True)
class Scale:
    """Where the work runs, and on how many processes.

    Attributes:
        on: "ray" or "ray://HOST:PORT"; see `detect.scaling.connection.connected`.
        workers: processes that run networks; None takes one per GPU, or else most of the cores.
        readers: cores that read photos and search for regions; None takes the others.
        together: photos per pass through the networks; None chooses for the device.
        shard_photos: photos per shard.
        max_pixels: largest photo, in pixels; larger ones fail.
    """

    on: str = "ray"
    workers: int | None = None
    readers: int | None = None
    together: int | None = None
    shard_photos: int = SHARD_PHOTOS
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("workers", "readers", "together", "shard_photos", "max_pixels"):
            if (value := getattr(self, name)) is not None:
                require_count(name, value)


@dataclass
class ScaleSummary:
    """The outcome of a run.

    Attributes:
        photos: number of photos in the source.
        before: photos in shards of earlier runs.
        fresh: photos done in this run.
        failed: image ids of photos that failed in this run -> reason.
        shards: number of shards written in this run.
        bytes_written: their size.
        seconds: duration of the cluster's work.
    """

    photos: int
    before: int
    fresh: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    shards: int = 0
    bytes_written: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the facts for run.json; the reasons for failures are in the shards."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"failed": len(self.failed)}


def detect_at_scale(
    source: str, out: str, *, scale: Scale | None = None, console: Console | None = None, **detector: Any
) -> ScaleSummary:
    """Detect objects on all photos of a source on a Ray cluster, into Parquet files with one row per photo.

    A second run makes the missing shards. The rows equal those of one process to the last bit, on the same kind of
    device with the same engine, precision and number of threads.

    Args:
        source: a folder, a list of photos or Parquet; see `detect.scaling.sources.find_source`.
        out: folder or address of the results.
        scale: where it runs, and on how many processes.
        console: for progress and the closing table.
        **detector: arguments of `detect.detector.Detector.load`; files must exist on all machines.

    Raises:
        InputError: something that was named cannot be used, or the folder has results with other settings.
    """
    placement = {name: detector.pop(name) for name in ON_CPU if name in detector}
    work = Work(DETECT, detector, exif=detector.get("exif", "apply"), placement=placement)
    return _at_scale(source, out, work, scale or Scale(), console or open_console(stderr=True))


def propose_at_scale(
    source: str,
    out: str,
    *,
    proposals: str = "selective-search",
    max_boxes: int | None = None,
    exif: ExifPolicy = "apply",
    device: str = "auto",
    scale: Scale | None = None,
    console: Console | None = None,
    **options: Any,
) -> ScaleSummary:
    """Propose boxes for all photos of a source on a Ray cluster; see `detect_at_scale`.

    Args:
        source: likewise.
        out: likewise.
        proposals: name of the generator.
        max_boxes: keep only the first N boxes per photo; None keeps all.
        exif: EXIF policy.
        device: device for a generator with a network.
        scale: likewise.
        console: likewise.
        **options: options of the generator.

    Raises:
        InputError: likewise.
    """
    from detect.generators import has_network

    work = Work(
        PROPOSE,
        {"proposals": proposals, **options},
        exif=exif,
        max_boxes=max_boxes,
        placement={"device": device},
        in_steps=has_network(proposals),
    )
    return _at_scale(source, out, work, scale or Scale(), console or open_console(stderr=True))


def _at_scale(source: str, out: str, work: Work, scale: Scale, console: Console) -> ScaleSummary:
    loaded = work.load(ON_CPU)  # before starting anything, to check the names and to get the settings
    work = replace(work, settings=dict(loaded.settings), max_pixels=scale.max_pixels, together=scale.together)
    photos = find_source(source, leave_out=out)
    inputs = () if photos.files or is_address(photos.root) else (photos.place(n)[0] for n in range(len(photos)))
    with open_folder(out, inputs) as folder:
        there = folder.shards()
        record = RunRecord(folder.record, loaded.settings, in_use=bool(there), remedy=REMEDY)
        todo = missing(photos.names, scale.shard_photos, there, lambda name: _names_in(folder, name))
        summary = ScaleSummary(len(photos), len(photos) - sum(len(group.photos) for group in todo))
        record.update(images=photos.root, photos=len(photos), **scale_facts(scale))
        folder.publish()
        if loaded.warning:
            console.print(printable(loaded.warning), markup=False, highlight=False, soft_wrap=True)
        if summary.before:
            console.print(f"{summary.before} of {number_of(summary.photos, 'photo')} done already")
        if todo:
            _run(work, scale, photos, todo, folder, record, summary, console)
        record.finish(**summary.as_json())
        folder.publish()
    console.print(table(_rows(summary, out)))
    return summary


def scale_facts(scale: Scale) -> dict[str, Any]:
    """Return facts for the record about where the work runs, without the address, which may contain a password."""
    return {"on": scale.on.partition("://")[0], "shard_photos": scale.shard_photos}


def _names_in(folder: Folder, shard: str) -> Iterator[str]:
    return (row["image"] for row in read_rows(in_folder(folder.place, shard), ["image"]))


def _run(
    work: Work,
    scale: Scale,
    photos: Source,
    todo: Sequence[Group],
    folder: Folder,
    record: RunRecord,
    summary: ScaleSummary,
    console: Console,
) -> None:
    gpu = str(work.placement.get("device", "auto")).partition(":")[0] in ("auto", "cuda")
    with connected(scale.on) as ray:
        processes = share_out(
            ray.cluster_resources(), gpu=gpu, networks=work.in_steps, workers=scale.workers, readers=scale.readers
        )
        record.update(processes=vars(processes))
        folder.publish()
        if waiting := waits(ray, processes):
            console.print(waiting)
        work = replace(work, threads=processes.threads)
        tables = (_table_of(photos, group, number) for number, group in enumerate(todo))
        sheet = _ShardWriter(folder, todo, work.kind, summary)
        placements = set[str]()
        with (
            Bar(summary.photos - summary.before, console) as bar,
            closing(run(ray, work, processes, tables)) as results,
        ):
            for row in (row for rows in results for row in rows.to_pylist()):
                placement = row.pop(PLACEMENT)
                if placement and placement not in placements:
                    placements.add(placement)
                    console.print(printable(placement), markup=False, highlight=False, soft_wrap=True)
                    record.update(placement=sorted(placements))
                sheet.add(row, bar)
            summary.seconds = bar.pace.seconds
        sheet.require_whole()


class _ShardWriter:
    """Collects rows until all those of a shard are there, and then writes it."""

    def __init__(self, folder: Folder, groups: Sequence[Group], kind: str, summary: ScaleSummary) -> None:
        self._folder, self._groups, self._kind, self._summary = folder, groups, kind, summary
        self._waiting, self._written = dict[int, dict[int, Row]](), set[int]()

    def add(self, row: Row, bar: Bar) -> None:
        """Take a row, unless it came before: a process may end after it has passed a row on."""
        number, at = row.pop(GROUP), row.pop(AT)
        if number in self._written or at in self._waiting.get(number, {}):
            return
        rows = self._waiting.setdefault(number, {})
        rows[at] = row
        if row["error"] is None:
            self._summary.fresh += 1
            bar.step(boxes=len(row["boxes"]), seconds={})
        else:
            self._summary.failed[row["image"]] = row["error"]
            bar.skip(row["error"])
        if len(rows) == len(self._groups[number].photos):
            self._write(number)

    def _write(self, number: int) -> None:
        rows = self._waiting.pop(number)
        content = to_parquet([rows[at] for at in range(len(rows))], self._kind)
        self._folder.write(self._groups[number].shard, content)
        self._written.add(number)
        self._summary.shards += 1
        self._summary.bytes_written += len(content)

    def require_whole(self) -> None:
        """Check that all shards were written.

        Raises:
            InputError: shards are missing.
        """
        missing_shards = len(self._groups) - len(self._written)
        if missing_shards:
            raise InputError(
                f"{number_of(missing_shards, 'shard')} could not be written; the same command resumes the run"
            )


def _table_of(photos: Source, group: Group, number: int) -> Any:
    rows = []
    for at, photo in enumerate(group.photos):
        path, row = photos.place(photo)
        name = photos.names[photo]
        rows.append({"name": _bytes(name), "path": _bytes(path), "row": row, GROUP: number, AT: at})
    return photos_table(rows)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _rows(summary: ScaleSummary, out: str) -> dict[str, str]:
    before = f" ({summary.before} of them earlier)" if summary.before else ""
    speed = f", {summary.fresh / summary.seconds:.2f} photos/s" if summary.seconds and summary.fresh else ""
    return {
        "photos": f"{summary.before + summary.fresh} done{before}, {len(summary.failed)} failed",
        "time": f"{duration(summary.seconds)}{speed}",
        "shards": f"{summary.shards} written, {summary.bytes_written / 1e6:.1f} MB",
        "peak memory": peak_memory_text(),
        "results": out,
    }
