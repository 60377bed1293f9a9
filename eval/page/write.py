"""Writes the page: one HTML file with everything inside it, from templates that escape all names."""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.mistakes import KINDS, Mistakes
from eval.page.plots import EXTRA, plots
from eval.page.tables import LETTERS, class_table, overall_table
from eval.page.thumbnails import Thumbnail
from eval.report import Sheet, mistake_sheets, percent
from eval.scores import Scores
from structures.extras import installed
from structures.files import replacing
from structures.text import number_of, printable

FOLDER = Path(__file__).parent
GENERATOR = '<meta name="generator" content="googlenet-rcnn">'  # near the start of every page: it is one of ours
BOXES = {
    "true": ("true", "right class, IoU 0.5 or more", True),
    **{kind: (kind, meaning, True) for kind, meaning in KINDS.items()},
    "missed": ("missed objects", "no detection of their class with IoU 0.5 or more", True),
    "ignored": ("ignored", "difficult objects and crowds, and detections of these", False),
    "annotated": ("objects found, as annotated", "the annotated boxes of the objects that were found", False),
}
"""Kinds of boxes in the gallery: what they are called, what they are, and whether they are shown at first."""


@dataclass(frozen=True, eq=False)
class Page:
    """The content of a page.

    Attributes:
        values: all figures, as in a JSON file; those of a second run under "against".
        scores: of the one or two runs.
        mistakes: of each run; empty leaves them out.
        lost: tables of where objects were lost, of each run, which may have none; empty leaves them out.
        names: what the runs are called.
        facts: lines about them.
        warnings: lines that stand out.
        thumbnails: of values["photos"].
        photos_hint: which photos these are.
        lost_hint: why a run has no table of lost objects, and what to do about it.
    """

    values: Mapping[str, Any]
    scores: Sequence[Scores]
    mistakes: Sequence[Mistakes]
    lost: Sequence[Sequence[Sheet]]
    names: Sequence[str]
    facts: Sequence[str]
    warnings: Sequence[str]
    thumbnails: Sequence[Thumbnail]
    photos_hint: str
    lost_hint: str


def require_extra() -> None:
    """Refuse, before any work, to make a page without what it needs.

    Raises:
        InputError: Jinja or Plotly is not installed; names the command that installs them.
    """
    for module in ("jinja2", "plotly.graph_objects"):
        installed(module, extra=EXTRA)


def write_page(path: Path, page: Page) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: replaced when all is written.
        page: its content.

    Raises:
        InputError: Jinja or Plotly is not installed.
        OSError: it cannot be written.
    """
    jinja2 = installed("jinja2", extra=EXTRA)
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined
    )
    environment.filters["printable"] = printable
    stream = environment.get_template("page.html").stream(**_content(page))
    with replacing(path) as partial:
        stream.dump(str(partial), encoding="utf-8", errors="replace")


def is_page(path: Path) -> bool:
    """Say whether a file is a page that `write_page` wrote."""
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(1000)


def _content(page: Page) -> dict[str, Any]:
    trusted = installed("markupsafe", extra=EXTRA).Markup  # for our own files; everything else is escaped
    scripts = {"plotly": installed("plotly.offline", extra=EXTRA).get_plotlyjs(), "script": _own("page.js")}
    runs = [page.values, page.values["against"]] if "against" in page.values else [page.values]
    tables = {
        "overall": overall_table(page.scores),
        "classes": class_table(page.scores),
        "mistakes": [mistake_sheets(each) for each in page.mistakes],
        "lost": page.lost,
    }
    return {
        "title": _title(page.scores),
        "generator": trusted(GENERATOR),
        "policy": _policy(scripts.values()),
        "style": trusted(_own("page.css")),
        **{name: trusted(text) for name, text in scripts.items()},
        "sections": _sections(with_mistakes=bool(page.mistakes), with_lost=bool(page.lost)),
        "tiles": _tiles(page, runs),
        "facts": page.facts,
        "warnings": page.warnings,
        "tables": tables,
        "names": page.names,
        "lost_hint": page.lost_hint,
        "photos_hint": page.photos_hint,
        "kinds": [(kind, *about) for kind, about in BOXES.items()],
        "scale": page.values["gallery"],
        "data": trusted(_json(page.values)),
        "plots": {place: trusted(_inert(figure)) for place, figure in plots(runs).items()},
        "thumbnails": page.thumbnails,
        "footer": _footer(page, scripts["plotly"]),
    }


def _own(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    """Return what the browser may do: run these very scripts, show pictures of the page itself, and load nothing."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )  # Plotly writes styles; scripts of anybody else do not run


def _json(values: Any) -> str:
    return _inert(json.dumps(values, allow_nan=False, separators=(",", ":")))


def _inert(text: str) -> str:
    """Return JSON that cannot end the block it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _title(scores: Sequence[Scores]) -> str:
    figures = [each.headline for each in scores]
    return f"{figures[0][0]} {' and '.join(percent(value) for _, value in figures)} % ({scores[0].protocol})"


def _sections(*, with_mistakes: bool, with_lost: bool) -> list[dict[str, str]]:
    titles = {"summary": "Summary", "classes": "Classes", "curves": "Curves"}
    if with_mistakes:
        titles |= {"mistakes": "Mistakes", "confusion": "Confusion"}
    if with_lost:
        titles |= {"lost": "Where objects were lost"}
    titles |= {"photos": "Photos"}
    return [{"id": name, "title": title} for name, title in titles.items()]


def _tiles(page: Page, runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the few figures that stand out: name and value, of every run."""
    suffixes = [f" {letter}" for letter in LETTERS] if len(runs) > 1 else [""]
    tiles = []
    for suffix, scores, run in zip(suffixes, page.scores, runs, strict=True):
        figure, value = scores.headline
        tiles.append((f"{figure} ({scores.protocol}){suffix}", f"{percent(value)} %"))
        tiles.append((f"detections{suffix}", f"{run['detections']:,}"))
        if best := run["best_f1"]:
            balance = f"{100 * best['precision']:.0f} % / {100 * best['recall']:.0f} %"
            tiles.append(
                (f"precision / recall at best F1 (score {math.floor(100 * best['score']) / 100:.2f}){suffix}", balance)
            )
    return [*tiles, ("photos", f"{runs[0]['images']:,}"), ("objects", f"{runs[0]['objects']:,}")]


def _footer(page: Page, plotly: str) -> str:
    photos = sum(len(each.data) for each in page.thumbnails)
    shown = number_of(len(page.thumbnails), "photo")
    parts = f"{photos / 1e6:.1f} MB of {shown}, {len(plotly) / 1e6:.1f} MB of Plotly for the plots"
    return f"Made by googlenet-rcnn. Everything is in this file, and nothing is loaded from elsewhere: {parts}."
