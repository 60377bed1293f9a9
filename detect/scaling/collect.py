"""Collects shards into what other commands read: lines of detections, or a folder of proposals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.runs.machine import made_by
from detect.runs.record import RUN_FILE, RunRecord, last_fact, read_run
from detect.runs.results import ResultsFolder
from detect.scaling.folder import REMEDY, look_into
from detect.scaling.shards import DETECT, PROPOSE, Row, detections_of, proposals_of, read_rows
from proposals.stored.writer import StoreWriter
from structures.files import FileRefused
from structures.locks import lock_folder
from structures.own_files import inside


@dataclass
class Collected:
    """Numbers of collected photos.

    Attributes:
        photos: photos with a result.
        failed: photos without one.
        missing: photos of the last run that are in no shard.
    """

    photos: int = 0
    failed: int = 0
    missing: int = 0


def collect(place: str, out: Path) -> Collected:
    """Write the results of a cluster as `rcnn detect` or `rcnn propose` writes them; existing results stay.

    Args:
        place: folder or address of the shards.
        out: folder for the lines or the proposals.

    Raises:
        InputError: there are no shards, a shard is damaged, or the folder has other files.
    """
    with look_into(place) as (record, shards):
        content = read_run(record)
        assert content is not None, "checked by look_into"
        if not shards:
            raise FileRefused(f"{place}: there are no shards; run rcnn scale again, which makes them")
        settings = content["settings"]
        if isinstance(settings.get("generator"), str):
            done = _proposals(settings, _rows(shards, PROPOSE), out)
        else:
            classes = settings.get("classes")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise FileRefused(f"{place}: {RUN_FILE} names no classes and no generator; rcnn scale did not write it")
            done = _detections(content, _rows(shards, DETECT), out)
        planned = last_fact(content["runs"], "photos")
        if type(planned) is int:  # the shards may hold more, of photos that are gone
            done.missing = max(0, planned - done.photos - done.failed)
        return done


def _rows(shards: Sequence[str], work: str) -> Iterator[Row]:
    """Yield the rows of all shards, each photo once; a photo is in two shards if a run had other photos."""
    seen = set[str]()
    for shard in shards:
        for row in read_rows(shard, work=work):
            if row["image"] not in seen:
                seen.add(row["image"])
                yield row


def _detections(content: dict[str, Any], rows: Iterator[Row], out: Path) -> Collected:
    settings, done = content["settings"], Collected()
    out.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(out)
    try:
        with ResultsFolder(out) as results:
            run = RunRecord(out, settings, in_use=bool(results.done), remedy=REMEDY)
            facts = {name: last_fact(content["runs"], name) for name in ("images", "placement")}
            run.update(**{name: fact for name, fact in facts.items() if fact})
            for row in rows:
                if row["error"] is not None:
                    done.failed += 1
                    results.skip(row["image"], row["error"])
                    continue
                done.photos += 1
                if row["image"] not in results.done:
                    found = detections_of(row, settings["classes"])
                    results.write(row["image"], found, settings["classes"], row["file_key"])
            run.finish(photos=done.photos, skipped=done.failed)
    finally:
        lock.release()
    return done


def _proposals(settings: dict[str, Any], rows: Iterator[Row], out: Path) -> Collected:
    inside(out, "manifest.json")
    done = Collected()
    with StoreWriter(out, settings, made_by()) as writer:
        for row in rows:
            if row["error"] is not None:
                done.failed += 1
                continue
            done.photos += 1
            if row["image"] not in writer.known:
                writer.add(row["image"], row["pixels"], row["file_key"], proposals_of(row))
    return done
