"""A difference of two dataset versions to look at: lines for a terminal, and one self-contained HTML page."""

from __future__ import annotations

from html import escape

from loopline.data.diff import Diff
from loopline.quality.drift_page import HEAD, cards, rows
from loopline.quality.html import document, table


def said(diff: Diff) -> list[str]:
    """What changed, a line each."""
    lines = [f"{diff.rows_before:,} rows before, {diff.rows_after:,} after."]
    if diff.left_out:
        lines.append(f"{diff.left_out:,} rows of both are sealed for evaluation and not compared.")
    by = f"by {', '.join(diff.key)}" if diff.key else "as a whole"
    counts = [
        f"{n:,} {word}"
        for word, n in (("added", diff.added), ("removed", diff.removed), ("changed", diff.changed))
        if n
    ]
    lines.append(
        f"Rows {by}: {', '.join([*counts, f'{diff.same:,} the same'])}{', in another order' if diff.moved else ''}."
    )
    if diff.changed_in:
        shown = [f"{column} {n:,}" for column, n in list(diff.changed_in.items())[:10]]
        more = f" and {len(diff.changed_in) - 10} more columns" if len(diff.changed_in) > 10 else ""
        lines.append(f"Changed in {', '.join(shown)}{more}.")
    for change in diff.schema:
        types = " to ".join(filter(None, (change.before, change.after)))
        lines.append(f"Column {change.column} was {change.change} ({types}).")
    if not diff.schema:
        lines.append("The columns and their types are the same.")
    if diff.distribution is not None:
        lines.append(diff.distribution.verdict)
    return lines


def page(diff: Diff) -> str:
    """The difference as one HTML page; whatever comes from the data is escaped."""
    title = f"{diff.before} to {diff.after}"
    body = [f"<h1>{escape(title)}</h1>", "<ul>", *(f"<li>{escape(line)}</li>" for line in said(diff)), "</ul>"]
    if diff.schema:
        changes = [(c.column, c.change, c.before, c.after) for c in diff.schema]
        body += ["<h2>Columns</h2>", table(("column", "change", "before", "after"), changes)]
    if diff.changed_in:
        counts = [(column, f"{n:,}") for column, n in diff.changed_in.items()]
        body += ["<h2>Rows changed, by column</h2>", table(("column", "rows"), counts, numbers=(1,))]
    if diff.distribution is not None:
        body += [
            "<h2>How values are distributed</h2>",
            cards(diff.distribution.columns, "before", "after"),
            "<h2>All columns</h2>",
            table(HEAD, rows(diff.distribution), numbers=(2, 3, 4, 5)),
        ]
    return document(title, "\n".join(body))
