"""Sections written as Markdown, and as one self-contained HTML page (light and dark, no script, nothing fetched)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from loopline.registry.card_sections import Section, Table

_MANY = 8
"""Columns from which on a table is written small."""

_NOTHING = "Nothing is on record."
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --line: #d1d9e0; --ground: #fff; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9aa5b1; --line: #3d444d; --ground: #0d1117; --mark: #6cb2ff; }
}
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--dim); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line);
  min-width: 5.2rem; overflow-wrap: break-word; }
thead th { color: var(--dim); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 500; }
.many { font-size: .82em; } .many th, .many td { min-width: 4.8rem; padding-right: .6rem; }
svg { vertical-align: middle; } svg line { stroke: var(--line); } svg .span { stroke: var(--mark); }
svg circle { fill: var(--ink); }
"""


def to_markdown(title: str, parts: Sequence[Section]) -> str:
    """The sections as Markdown (GitHub's tables)."""
    lines = [f"# {_marked(title)}", ""]
    for part in parts:
        lines += [f"## {_marked(part.title)}", ""]
        if not (part.texts or part.items or part.tables):
            lines += [_NOTHING, ""]
        for text in part.texts:
            lines += [_marked(text), ""]
        if part.items:
            lines += [*(f"- {_marked(item)}" for item in part.items), ""]
        for table in part.tables:
            if table.caption:
                lines += [f"**{_marked(table.caption)}**", ""]
            lines.append("| " + " | ".join(map(_marked, table.head)) + " |")
            lines.append("|" + " --- |" * len(table.head))
            lines += ["| " + " | ".join(map(_marked, row)) + " |" for row in table.rows]
            lines.append("")
    return "\n".join(lines)


def to_html(title: str, parts: Sequence[Section]) -> str:
    """The sections as one page."""
    body = "".join(_section(part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )


def _section(part: Section) -> str:
    out = f"<section><h2>{escape(part.title)}</h2>"
    if not (part.texts or part.items or part.tables):
        out += f"<p>{_NOTHING}</p>"
    out += "".join(f"<p>{escape(text)}</p>" for text in part.texts)
    if part.items:
        out += "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in part.items) + "</ul>"
    return out + "".join(map(_table, part.tables)) + "</section>"


def _table(table: Table) -> str:
    out = f'<div class="scroll"><table{" class=many" if len(table.head) > _MANY else ""}>'
    if table.caption:
        out += f"<caption>{escape(table.caption)}</caption>"
    bars = any(table.intervals)
    if any(table.head):
        heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
        out += f"<thead><tr>{heads}{'<th scope=col>0 to 1</th>' if bars else ''}</tr></thead>"
    out += "<tbody>"
    for number, row in enumerate(table.rows):
        first = f'<th scope="row">{escape(row[0])}</th>'
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        out += f"<tr>{first}{cells}{f'<td>{_bar(table.intervals[number])}</td>' if bars else ''}</tr>"
    return out + "</tbody></table></div>"


def _bar(interval: tuple[float, float, float] | None) -> str:
    """An interval between 0 and 1 as a line with its value as a dot."""
    if interval is None:
        return ""
    low, value, high = (5 + 150 * part for part in interval)
    words = f"{interval[1]:.4g}, from {interval[0]:.4g} to {interval[2]:.4g}"
    return (
        f'<svg width="160" height="12" role="img" aria-label="{words}"><line x1="5" y1="6" x2="155" y2="6"/>'
        f'<line class="span" stroke-width="7" x1="{low:.1f}" y1="6" x2="{high:.1f}" y2="6"/>'
        f'<circle cx="{value:.1f}" cy="6" r="2.5"/></svg>'
    )


def _marked(text: str) -> str:
    """Text that Markdown shows as it is: nothing in it is markup, a link, HTML or a new line."""
    plain = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", plain)
