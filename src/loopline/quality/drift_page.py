"""A drift report to look at: one self-contained HTML page, and rows for a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from loopline.quality.drift_records import ColumnDrift, DriftReport
from loopline.quality.html import document, histogram, level_bars, table

HEAD: Final = ("column", "drift", "score", "effect", "threshold", "p-value", "what changed")
_NUMBERS: Final = ("number", "integer", "date")
_MOST: Final = 0.92  # of the width of the picture, for the highest score


def rows(report: DriftReport) -> tuple[tuple[str, ...], ...]:
    """One row of texts a column, the worst first, under `HEAD`."""
    return tuple(
        (
            c.column,
            "yes" if c.drifted else "no",
            f"{c.score:.2f}",
            f"{c.effect:.3f}",
            f"{c.threshold:.3f}",
            _p(c.p_value),
            c.text,
        )
        for c in report.columns
    )


def page(report: DriftReport, *, title: str = "Drift report", since: str = "") -> str:
    """The report as one HTML page; whatever comes from the data is escaped. `since` is a text such as a date."""
    drifted, label = report.drifted, report.label_drift
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead {"bad" if drifted else "good"}">{escape(report.verdict)}</p>',
        f'<p class="soft small">{escape(_claim(report))}{f" Since about {escape(since)}." if since else ""}</p>',
    ]
    if report.label is not None:
        body.append(f"<h2>The label, {escape(report.label)}</h2>")
        if label is None:
            body.append('<p class="soft">Labels of these rows have not come yet.</p>')
        else:
            state = "drifted" if label.drifted else "no drift"
            body.append(f"<p>{escape(label.text)} ({state}; score {label.score:.2f}, {escape(_p(label.p_value))}).</p>")
            body.append(f'<div class="grid">{_card(label)}</div>')
    if report.columns:
        body += ["<h2>How far each column is from its threshold</h2>", _scores(report)]
        body += [
            "<h2>Before and now</h2>",
            cards([c for c in report.columns if c is not label], "reference", "now"),
            "<h2>All columns</h2>",
            table(HEAD, rows(report), numbers=(2, 3, 4, 5)),
        ]
    return document(title, "\n".join(body))


def cards(columns: Sequence[ColumnDrift], before: str, now: str) -> str:
    """A picture of each column, both sides beside each other; `before` and `now` are what the key calls them."""
    key = f'<p class="key small soft"><span style="background:var(--a)"></span>{escape(before)}'
    key += f'<span style="background:var(--b)"></span>{escape(now)}</p>'
    return f'{key}<div class="grid">{"".join(map(_card, columns))}</div>'


def _claim(report: DriftReport) -> str:
    rate = f"{report.false_alarms:.1%}" if report.false_alarms >= 0.001 else f"{report.false_alarms:.1g}"
    return (
        f"A report on rows without drift names any column with a probability of {rate} at most; changes of fewer than "
        f"{report.minimum_effect:.1%} of the values are never called drift. Effect: for numbers the largest distance "
        f"between the cumulative shares, for categories the share of rows that would have to change level."
    )


def _card(c: ColumnDrift) -> str:
    labels = [bar.label for bar in c.bars]
    before, now = [bar.reference for bar in c.bars], [bar.current for bar in c.bars]
    if not c.bars:
        drawn = ""
    elif c.kind in _NUMBERS:
        drawn = histogram(c.column, labels, before, lower=labels[0], upper=labels[-1], other=now)
    else:
        drawn = level_bars(c.column, labels, before, other=now)
    new = ""
    if c.new_levels:
        names = ", ".join(f"{name} ({n:,})" for name, n in sorted(c.new_levels.items(), key=lambda i: -i[1])[:5])
        new = f'<p class="small soft">new values: {escape(names)}</p>'
    return (
        f'<div class="card{" hot" if c.drifted else ""}"><h3>{escape(c.column)} '
        f'<span class="soft small">score {c.score:.2f}</span></h3>'
        f'<p class="small">{escape(c.text)}</p>{drawn}{new}</div>'
    )


def _scores(report: DriftReport) -> str:
    """Level bars of the scores on a common scale (square root, that the small ones stay visible), with the threshold at 1."""
    shown = report.columns[:30]
    top = max(2.0, *(c.score for c in shown)) ** 0.5
    wide, row = 700, 19
    start, span = 210, (wide - 210) * _MOST
    at = start + span / top
    parts = []
    for i, c in enumerate(shown):
        y = i * row
        name = c.column if len(c.column) <= 30 else c.column[:29] + "…"
        size = c.score**0.5 / top * span
        css = "rb" if c.drifted else "ra"
        end = start + size + 5
        end = at + 5 if at - 30 < end < at else min(end, wide - 30)  # no figure under the line of the threshold
        parts.append(
            f'<text x="0" y="{y + 12}">{escape(name)}</text><rect class="{css}" x="{start}" y="{y + 4}" '
            f'width="{size:.1f}" height="10"><title>{escape(c.column)}: {c.score:.2f}</title></rect>'
            f'<text x="{end:.1f}" y="{y + 13}">{c.score:.2f}</text>'
        )
    high = len(shown) * row + 16
    mark = f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{high - 14}"/>'
    mark += f'<text x="{at:.1f}" y="{high - 3}" text-anchor="middle">threshold</text>'
    more = len(report.columns) - len(shown)
    rest = f'<p class="small soft">and {more} more below these, in the table at the end</p>' if more > 0 else ""
    drawn = f'<svg class="wide" viewBox="0 0 {wide} {high}" role="img" aria-label="score of each column">'
    return f'<div class="scroll">{drawn}{"".join(parts)}{mark}</svg></div>{rest}'


def _p(p: float) -> str:
    return "p < 1e-12" if p < 1e-12 else f"p = {p:.2g}"
