"""A page of tables and pictures in one HTML file, which needs no script, no other file and no package."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from eval.report import Sheet
from structures.text import printable

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }}
.wide {{ overflow-x: auto; margin: 1rem 0 2rem }}
table {{ border-collapse: collapse }} caption {{ text-align: left; font-weight: 600 }}
th, td {{ padding: .15rem .8rem; border-bottom: 1px solid #8886; text-align: right }}
td {{ font-variant-numeric: tabular-nums }}
.text {{ text-align: left }} img {{ min-width: 44rem; max-width: 100%; background: white }} .note {{ color: #b35c00 }}
</style></head><body><h1>{title}</h1>
{facts}
{pictures}
{tables}
</body></html>
"""


def plain_page(
    title: str,
    *,
    facts: Sequence[str] = (),
    warnings: Sequence[str] = (),
    sheets: Sequence[Sheet] = (),
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """Return a page as HTML; names in it are escaped.

    Args:
        title: headline.
        facts: lines below it.
        warnings: lines that stand out.
        sheets: tables.
        pictures: SVG files by what they show.
    """
    lines = [f"<p>{_text(line)}</p>" for line in facts] + [f'<p class="note">{_text(line)}</p>' for line in warnings]
    drawn = [_picture(caption, content) for caption, content in (pictures or {}).items()]
    tables = map(_table, sheets)
    return PAGE.format(title=_text(title), facts=_join(lines), pictures=_join(drawn), tables=_join(tables))


def _table(sheet: Sheet) -> str:
    head = _row(sheet.head, sheet.texts, "th")
    rows = _join(_row(row, sheet.texts, "td") for row in sheet.rows)
    return f'<div class="wide"><table><caption>{_text(sheet.caption)}</caption>\n{head}\n{rows}</table></div>'


def _row(cells: Sequence[str], texts: int, kind: str) -> str:
    shown = [f"<{kind}{' class=text' if at < texts else ''}>{_text(cell)}</{kind}>" for at, cell in enumerate(cells)]
    return f"<tr>{''.join(shown)}</tr>"


def _picture(caption: str, content: bytes) -> str:
    # As an image, so that nothing in the file could act on the page.
    data = base64.b64encode(content).decode()
    return f'<div class="wide"><img alt="{_text(caption)}" src="data:image/svg+xml;base64,{data}"></div>'


def _text(text: str) -> str:
    return html.escape(printable(text))


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines)
