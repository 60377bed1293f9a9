"""The interactive plots of a page, as Plotly figures in JSON. What they show comes from `eval.page.figures`."""

import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any

from eval.lost import STAGES
from eval.mistakes import KINDS
from eval.page.tables import LETTERS
from structures.extras import installed
from structures.text import printable

RunValues = Mapping[str, Any]
"""What `eval.page.figures.run_values` returns."""

EXTRA = "report"
DASHES = (("solid", "dot"), ("dash", "dashdot"))  # of the first and the second run; the second where colours repeat
COLOURS = "#4c78a8 #f58518 #54a24b #e45756 #72b7b2 #b279a2 #ff9da6 #9d755d #d8b000 #8c8c8c".split()  # Vega's, for both
RIGHT, WRONG = "84, 162, 75", "228, 87, 86"  # themes: readable on white and on black
MOST_CURVES = 60  # classes with the most objects; more lines cannot be distinguished
MOST_CELLS = 40  # classes that are confused most; more cells cannot be read
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # as many lines as the width asks for, none on the plot
NO_OBJECT, MISSED = "no such object", "missed"


def plots(runs: Sequence[RunValues]) -> dict[str, str]:
    """Return Plotly figures by the id of their place on the page, as JSON.

    Args:
        runs: one, or two that are compared.

    Raises:
        InputError: Plotly is not installed.
    """
    made = {"plot-curves": _precision_recall(runs), "plot-score": _by_score(runs)}
    made["plot-iou"] = _by_iou(runs)
    if all("mistakes" in run for run in runs):
        made["plot-kinds"] = _kinds(runs)
        made.update((f"plot-confusion-{place}", _confusion(run)) for place, run in enumerate(runs))
    with_regions = [place for place, run in enumerate(runs) if run.get("lost", {}).get("images_with_regions")]
    made.update((f"plot-lost-{place}", _lost(runs[place]["lost"])) for place in with_regions)
    # Not orjson, which Plotly takes where it is installed: it writes control characters of names as they are.
    return {place: str(figure.to_json(engine="json")) for place, figure in made.items()}


def plain(name: object) -> str:
    """Return a name as Plotly shows it unchanged: it takes tags for markup.

    >>> plain("<b>cat")
    '&lt;b&gt;cat'
    """
    return html.escape(printable(name))


def _figure(traces: Sequence[Any], **layout: Any) -> Any:
    """Return a figure without a look of its own: the page sets colours by its theme."""
    graph = installed("plotly.graph_objects", extra=EXTRA)
    figure = graph.Figure(list(traces))
    figure.update_layout(template={}, margin={"l": 55, "r": 15, "t": 15, "b": 45}, **layout)
    return figure


def _line(name: str, x: Sequence[Any], y: Sequence[Any], *, colour: str, dash: str = "solid", **more: Any) -> Any:
    graph = installed("plotly.graph_objects", extra=EXTRA)
    return graph.Scatter(
        x=x,
        y=y,
        name=plain(name),
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2, **more.pop("line", {})},
        **more,
    )


def _shares(title: str, *, top: float = 1.03) -> dict[str, Any]:
    """Return an axis from 0 to 100 % on which lines at both ends can be seen."""
    return {"title": {"text": title}, "range": [-0.02, top], "tickformat": ".0%", "dtick": 0.2, "zeroline": False}


def _titled(name: str, place: int, runs: Sequence[RunValues]) -> str:
    """Add the letter of a run to a name where there are two."""
    return name if len(runs) == 1 else f"{name} ({LETTERS[place]})"


def _precision_recall(runs: Sequence[RunValues]) -> Any:
    classes = sorted(runs[0]["classes"], key=lambda name: -runs[0]["classes"][name]["objects"])[:MOST_CURVES]
    looks = dict(zip(sorted(classes), cycle(product((0, 1), COLOURS)), strict=False))
    traces = []
    for place, run in enumerate(runs):
        who = _titled("%{fullData.name}", place, runs)
        hover = f"{who}<br>recall %{{x:.1%}}, precision %{{y:.1%}}<br>score %{{customdata:.3f}}<extra></extra>"
        curves = run["curves"]["precision_recall"]
        for name in sorted(curves.keys() & looks.keys()):
            x, y, scores = _with_ends(curves[name])
            again, colour = looks[name]
            traces.append(
                _line(
                    name, x, y, colour=colour, dash=DASHES[place][again], line={"shape": "vh"}, customdata=scores,
                    hovertemplate=hover, meta=name, legendgroup=plain(name), showlegend=place == 0,
                )
            )  # fmt: skip
    return _figure(traces, xaxis=_shares("recall"), yaxis=_shares("highest precision at this recall or more"))


def _with_ends(curve: RunValues) -> tuple[list[Any], list[Any], list[Any]]:
    """Return recall, the ceiling of precision and scores, from recall 0 on and down to 0 where recall ends."""
    if not curve["recall"]:
        return [], [], []
    x, y, scores = curve["recall"], curve["ceiling"], curve["scores"]
    return [0.0, *x, x[-1]], [y[0], *y, 0.0], [scores[0], *scores, scores[-1]]


def _by_score(runs: Sequence[RunValues]) -> Any:
    hover = "%{fullData.name} %{y:.1%}<br>score from %{x:.3f}<extra></extra>"
    axis = {"title": {"text": "weakest score kept"}, "zeroline": False}  # the scores of other programs may go beyond 1
    return _two_lines(runs, "by_score", ("scores", "precision", "recall"), hover, xaxis=axis, yaxis=_shares("share"))


def _by_iou(runs: Sequence[RunValues]) -> Any:
    hover = "%{fullData.name}<br>%{y:.1%} of the objects at IoU %{x:.2f}<extra></extra>"
    axis = {"title": {"text": "IoU"}, "range": [0.49, 1.01], "zeroline": False}
    columns = ("iou", "right class", "any class")
    return _two_lines(runs, "recall_by_iou", columns, hover, xaxis=axis, yaxis=_shares("recall"))


def _two_lines(runs: Sequence[RunValues], curve: str, columns: tuple[str, str, str], hover: str, **layout: Any) -> Any:
    """Draw two columns of a curve against the first, for each run."""
    across, *up = columns
    traces = [
        _line(
            _titled(key, place, runs), run["curves"][curve][across], run["curves"][curve][key], colour=colour,
            dash=DASHES[place][0], hovertemplate=hover,
        )
        for place, run in enumerate(runs)
        for key, colour in zip(up, COLOURS, strict=False)
    ]  # fmt: skip
    return _figure(traces, legend=ABOVE, **layout)


def _kinds(runs: Sequence[RunValues]) -> Any:
    graph = installed("plotly.graph_objects", extra=EXTRA)
    bars = [
        graph.Bar(
            x=[run["mistakes"]["kinds"][kind] for kind in KINDS], y=list(KINDS), orientation="h",
            name=plain(LETTERS[place]), marker={"color": COLOURS[3 + place]}, hovertemplate="%{y}: %{x}<extra></extra>",
        )
        for place, run in enumerate(runs)
    ]  # fmt: skip
    return _figure(
        bars,
        xaxis={"title": {"text": "false ones among the best detections"}},
        yaxis={"autorange": "reversed", "automargin": True},
        showlegend=len(runs) > 1,
        legend=ABOVE,
    )


def _lost(lost: RunValues) -> Any:
    """Return bars of the missed objects of each class, divided by the stage that lost them; the most missed first."""
    graph = installed("plotly.graph_objects", extra=EXTRA)
    classes = sorted(lost["by_class"], key=lambda name: -sum(lost["by_class"][name].values()))[:MOST_CURVES]
    stages = [stage for stage in STAGES if lost["stages"].get(stage)]
    bars = [
        graph.Bar(
            x=list(map(plain, classes)), y=[lost["by_class"][name].get(stage, 0) for name in classes], name=stage,
            marker={"color": colour}, hovertemplate="%{x}, %{fullData.name}: %{y}<extra></extra>",
        )
        for stage, colour in zip(stages, cycle(COLOURS))
    ]  # fmt: skip
    axes = {"yaxis": {"title": {"text": "objects missed"}}, "xaxis": {"tickangle": -45}}
    return _figure(bars, barmode="stack", legend={**ABOVE, "traceorder": "normal"}, **axes)


def _confusion(run: RunValues) -> Any:
    """Return a table of colours: a row per class meant, a column per class said."""
    counts = {(cell["meant"], cell["said"]): cell["count"] for cell in run["confusion"]}
    classes = _most_confused(run["classes"], counts)
    rows, columns = [*classes, None], [*classes, None]
    right = [[counts.get((m, s)) if m == s else None for s in columns] for m in rows]
    wrong = [[counts.get((m, s)) if m != s else None for s in columns] for m in rows]
    ticks = {"tickmode": "array", "tickvals": list(range(len(rows))), "automargin": True, "showgrid": False}
    said, meant = [*map(plain, classes), MISSED], [*map(plain, classes), NO_OBJECT]
    return _figure(
        [*_cells(right, RIGHT, said, meant), *_cells(wrong, WRONG, said, meant)],
        xaxis={**ticks, "ticktext": said, "title": {"text": "detected class"}, "tickangle": -60, "zeroline": False},
        yaxis={
            **ticks,
            "ticktext": meant,
            "title": {"text": "annotated class", "standoff": 12},
            "autorange": "reversed",
            "zeroline": False,
        },
    )


def _most_confused(classes: RunValues, counts: Mapping[tuple[str | None, str | None], int]) -> list[str]:
    wrong = dict.fromkeys(classes, 0)
    for (meant, said), count in counts.items():
        for name in {meant, said} - {None} if meant != said else set():
            wrong[str(name)] += count
    kept = set(sorted(classes, key=lambda name: -wrong[name])[:MOST_CELLS])
    return [name for name in classes if name in kept]


def _cells(table: list[list[int | None]], colour: str, said: Sequence[str], meant: Sequence[str]) -> Iterator[Any]:
    graph = installed("plotly.graph_objects", extra=EXTRA)
    known = [count for row in table for count in row if count is not None]
    if known:
        names = [[f"{one}, detected as {other}" for other in said] for one in meant]
        yield graph.Heatmap(
            z=table, customdata=names, showscale=False, zmin=0, zmax=max(known), xgap=1, ygap=1, hoverongaps=False,
            colorscale=[[0, f"rgba({colour}, 0.1)"], [1, f"rgb({colour})"]], texttemplate="%{z}",
            hovertemplate="%{customdata}: %{z}<extra></extra>",
        )  # fmt: skip
