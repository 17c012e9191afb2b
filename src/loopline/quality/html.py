"""Self-contained pages: one file, no script, nothing fetched, light and dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfa;--card:#fff;--ink:#1d2329;--soft:#5d6875;--line:#dfe3e8;--a:#98a4b3;--b:#1f6fd1;
--bad:#b3261e;--warn:#8a5a00;--good:#1d7a43}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1c2126;--ink:#e6e9ec;--soft:#9aa6b2;--line:#323a42;--a:#6f7c8b;
--b:#69a9f5;--bad:#ff8a80;--warn:#e9b949;--good:#6fcf97}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.45rem;margin:0 0 4px}h2{font-size:1.1rem;margin:32px 0 10px}h3{font-size:1rem;margin:0;overflow-wrap:anywhere}
p,li,h1,h2{overflow-wrap:anywhere}
p{margin:6px 0}.lead{font-size:1.1rem;margin:14px 0 6px}.soft{color:var(--soft)}.small{font-size:.86rem}
.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}td:last-child:not(.n){min-width:11rem}th{color:var(--soft);font-weight:600;font-size:.86rem;white-space:nowrap}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0}
.card.hot{border-left:4px solid var(--bad)}
svg{display:block;width:100%;height:auto}.cell{stroke:var(--card)}.rn{fill:var(--bad)}.beside{display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start}
.beside>*{flex:1 1 360px}
svg.wide{min-width:600px}svg text{fill:var(--soft);font-size:10px;font-family:inherit}
.ra{fill:var(--a)}.rb{fill:var(--b)}.axis{stroke:var(--line)}.mark{stroke:var(--ink);stroke-dasharray:3 3}
.key span{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 14px;vertical-align:-1px}
ul{margin:6px 0;padding-left:20px}dl{display:grid;grid-template-columns:auto 1fr;gap:1px 12px;margin:8px 0 0;font-size:.88rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;text-align:right;font-variant-numeric:tabular-nums}
"""

_WIDTH, _HEIGHT, _FOOT = 280, 96, 16


def document(title: str, body: str) -> str:
    """A whole page; `body` is HTML already, the title is escaped."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table of texts, all escaped; `numbers` are the columns aligned to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        shown = (
            f"<{tag}{' class=n' if i in numbers else ''}>{escape(str(cell))}</{tag}>" for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    lines = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{line("th", head)}</thead><tbody>{lines}</tbody></table></div>'


def histogram(
    title: str,
    labels: Sequence[str],
    shares: Sequence[float],
    *,
    lower: str = "",
    upper: str = "",
    other: Sequence[float] = (),
) -> str:
    """Upright bars as inline SVG; `other` are the shares of a second side, drawn beside them in the stronger colour."""
    top = max([*shares, *other, 1e-12])
    step = _WIDTH / max(1, len(shares))
    gap = min(2.0, step * 0.15)
    sides = [("rb", shares)] if not other else [("ra", shares), ("rb", other)]
    wide = (step - gap) / len(sides)
    bars = []
    for place, (css, side) in enumerate(sides):
        for i, share in enumerate(side):
            high = share / top * _HEIGHT
            about = f"{labels[i]}: {share:.2%}"
            bars.append(
                f'<rect class="{css}" x="{i * step + place * wide:.1f}" y="{_HEIGHT - high:.1f}" width="{wide:.1f}" '
                f'height="{high:.1f}"><title>{escape(about)}</title></rect>'
            )
    ends = f'<text x="0" y="{_HEIGHT + 12}">{escape(lower)}</text>' if lower else ""
    if upper:
        ends += f'<text x="{_WIDTH}" y="{_HEIGHT + 12}" text-anchor="end">{escape(upper)}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="{escape(title)}">{"".join(bars)}'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{ends}</svg>'
    )


def level_bars(title: str, labels: Sequence[str], shares: Sequence[float], *, other: Sequence[float] = ()) -> str:
    """Level bars with their names, for categories."""
    top = max([*shares, *other, 1e-12])
    sides = [("rb", shares)] if not other else [("ra", shares), ("rb", other)]
    row = 8 * len(sides) + 5
    parts = []
    for i, label in enumerate(labels):
        y = i * row
        name = label if len(label) <= 17 else label[:16] + "…"
        parts.append(f'<text x="0" y="{y + row / 2 + 2:.1f}">{escape(name)}<title>{escape(label)}</title></text>')
        for place, (css, side) in enumerate(sides):
            wide = side[i] / top * (_WIDTH - 140)
            parts.append(
                f'<rect class="{css}" x="100" y="{y + place * 8 + 1}" width="{wide:.1f}" height="7">'
                f"<title>{escape(label)}: {side[i]:.2%}</title></rect>"
            )
        last = sides[-1][1][i]
        parts.append(f'<text x="{_WIDTH}" y="{y + row / 2 + 2:.1f}" text-anchor="end">{last:.1%}</text>')
    high = max(1, len(labels)) * row
    return f'<svg viewBox="0 0 {_WIDTH} {high}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def heat_map(
    title: str, names: Sequence[str], values: Mapping[tuple[str, str], float], told: Mapping[tuple[str, str], str]
) -> str:
    """A square of fields as inline SVG, one a pair of names: the fuller the field, the nearer its value is to 1 or, in the
    colour of warnings, to -1."""
    side, left, top = 18, 150, 96
    parts = []
    for i, name in enumerate(names):
        short = escape(name if len(name) <= 22 else name[:21] + "…")
        parts.append(
            f'<text x="{left - 6}" y="{top + i * side + 12}" text-anchor="end">{short}<title>{escape(name)}</title></text>'
        )
        x = left + i * side + 12
        head = escape(name if len(name) <= 14 else name[:13] + "…")
        parts.append(
            f'<text transform="translate({x},{top - 6}) rotate(-60)">{head}<title>{escape(name)}</title></text>'
        )
        for j, other in enumerate(names):
            value = 1.0 if i == j else values.get((name, other))
            if value is None:
                continue
            about = name if i == j else told[name, other]
            parts.append(
                f'<rect class="cell {"rn" if value < 0 else "rb"}" x="{left + j * side}" y="{top + i * side}" width="{side}" '
                f'height="{side}" fill-opacity="{abs(value):.2f}"><title>{escape(about)}</title></rect>'
            )
    wide, high = left + len(names) * side + 60, top + len(names) * side + 4
    return (
        f'<div class="scroll" style="flex-basis:{wide}px">'
        f'<svg class="map" viewBox="0 0 {wide} {high}" style="width:{wide}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></div>'
    )
