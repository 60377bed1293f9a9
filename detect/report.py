"""Writes scored runs as JSON and as a page: one run, or two on the same photos side by side."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.option_names import with_options
from detect.runs.record import read_run
from detect.scored import ScoredRun
from eval.lost_report import lost_json, lost_sheets, lost_warnings
from eval.page.figures import run_values
from eval.page.gallery import ScoreRange, mistakes_at, photo_values, scale_of, worst_first
from eval.page.tables import LETTERS
from eval.page.thumbnails import Thumbnail, thumbnails
from eval.page.write import Page, write_page
from eval.photo_records import truths_of
from structures.files import FileRefused
from structures.images import ExifPolicy
from structures.text import number_of

NOT_KEPT = 'Not known: the run did not keep the scores of its regions. Detect with `keep="scores"` to see this.'


@dataclass(frozen=True)
class Gallery:
    """The photos to show on a page.

    Attributes:
        photos: most photos; those with the most mistakes are taken.
        side: longer side of the pictures, in pixels.
    """

    photos: int = 1000
    side: int = 320


def report_values(runs: Sequence[ScoredRun], source: Mapping[str, str], *, mistakes: bool) -> dict[str, Any]:
    """Return all figures of one or two runs as JSON values, those of the second under "against".

    Args:
        runs: one or two, on the same photos.
        source: names of the ground truth, and of the results or, under "weights", of the weights that were judged.
        mistakes: whether to include the kinds of mistakes.
    """
    first, *others = (_values(run, mistakes) for run in runs)
    against = {"against": {"file": str(runs[-1].file), **others[0]}} if others else {}
    return {**source, **first, **against}


def _values(run: ScoredRun, mistakes: bool) -> dict[str, Any]:
    return {
        **run_values(run.scores, run.judged, run.mistakes if mistakes else None),
        **({"lost": lost_json(run.losses)} if mistakes else {}),
        "missing_images": len(run.aligned.missing),
        "extra_images": len(run.aligned.extra),
        "warnings": run.warnings,
    }


def with_photos(values: Mapping[str, Any], runs: Sequence[ScoredRun], gallery: Gallery) -> dict[str, Any]:
    """Add the boxes of the photos on the page to the values of the runs."""
    scale = scale_of([run.judged for run in runs])
    shown = _worst(runs, scale, gallery.photos)
    photos = [
        photo_values(run.judged, truths_of(run.photos), shown, run.losses if run.regions and "lost" in values else None)
        for run in runs
    ]
    against = {"against": {**values["against"], "photos": photos[1]}} if len(runs) > 1 else {}
    return {**values, **against, "gallery": scale.values(), "photos": photos[0]}


def _worst(runs: Sequence[ScoredRun], scale: ScoreRange, most: int) -> list[int]:
    counts = [mistakes_at(run.judged, scale.start, len(run.photos)) for run in runs]
    return worst_first(counts[0] if len(runs) == 1 else counts[0] + counts[1], most)


def write_report(path: Path, runs: Sequence[ScoredRun], values: Mapping[str, Any], gallery: Gallery) -> str:
    """Write the page.

    Args:
        path: file to write, or to replace.
        runs: one or two, on the same photos.
        values: values of these runs, from `with_photos`.
        gallery: which photos to show.

    Returns:
        A line with the size of the file and the number of photos.

    Raises:
        InputError: Jinja or Plotly is not installed.
        OSError: the file cannot be written.
    """
    pictures = _pictures(runs[0], values, gallery)
    unread = [each.reason for each in pictures if each.reason]
    with_losses = "lost" in values and any(run.regions or run.can_keep_scores for run in runs)
    warnings = [line for run in runs for line in _warnings(run, with_losses=with_losses)]
    if unread:
        warnings.append(f"{number_of(len(unread), 'photo')} shown without a picture, the first because {unread[0]}")
    several = len(runs) > 1
    page = Page(
        values=values,
        scores=[run.scores for run in runs],
        mistakes=[run.mistakes for run in runs] if "mistakes" in values else [],
        lost=[lost_sheets(run.losses) if run.regions else [] for run in runs] if with_losses else [],
        names=[
            f"{letter}: {run.file}" if several else str(run.file) for letter, run in zip(LETTERS, runs, strict=False)
        ],
        facts=_facts(runs, values),
        warnings=list(map(with_options, dict.fromkeys(warnings))),
        thumbnails=pictures,
        photos_hint=_hint(len(pictures), len(runs[0].photos)),
        lost_hint=with_options(NOT_KEPT),
    )
    write_page(path, page)
    photos = number_of(len(pictures), "photo")
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB, {photos} of at most {gallery.side} pixels"


def _warnings(run: ScoredRun, *, with_losses: bool) -> list[str]:
    return [*run.warnings, *(lost_warnings(run.losses) if with_losses and run.regions else [])]


def _pictures(run: ScoredRun, values: Mapping[str, Any], gallery: Gallery) -> list[Thumbnail]:
    paths = [run.photos.image_path(each["image"]) for each in values["photos"]]
    return list(thumbnails(paths, gallery.side, exif=_exif(run.file)))


def _exif(results: Path) -> ExifPolicy:
    """Return the EXIF policy of a run; "apply" if there is no record."""
    with suppress(FileRefused, OSError):
        record = read_run(results if results.is_dir() else results.parent)
        if record and record["settings"].get("exif") == "ignore":
            return "ignore"
    return "apply"


def _facts(runs: Sequence[ScoredRun], values: Mapping[str, Any]) -> list[str]:
    files = [f"{letter}: {run.file}" for letter, run in zip(LETTERS, runs, strict=False)]
    split = f", split {values['split']}" if "split" in values else ""
    what = "weights" if "weights" in values else "results"
    told = files if len(runs) > 1 else [f"{what}: {runs[0].file}"]
    return [*told, f"ground truth: {values['ground_truth']}{split}"]


def _hint(shown: int, photos: int) -> str:
    chosen = f"{shown} of {number_of(photos, 'photo')}, those with the most mistakes"
    which = "All photos" if shown == photos else chosen
    return (
        f"{which}. A detection is true if it overlaps an object of its class by IoU 0.5 that no better one has taken, "
        "whatever the protocol of the figures. Click a photo to enlarge it; the arrow keys show the next one."
    )
