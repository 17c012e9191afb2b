"""`loopline threshold`: from which probability on an endpoint calls a row positive."""

from __future__ import annotations

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session


@click.command()
@click.argument("endpoint")
@click.argument("value", type=click.FloatRange(0, 1), required=False)
@click.option("--reason", default="", help="Why; it is kept with it.")
@click.option("--version", type=int, help="Of this version of the model (default: the champion).")
@click.option("--back", is_flag=True, help="To the one before, or that of the package.")
@as_json
@click.pass_context
def threshold(
    ctx: click.Context,
    endpoint: str,
    value: float | None,
    reason: str,
    version: int | None,
    back: bool,
    json: bool,
) -> None:
    """Set from which probability on ENDPOINT calls a row positive; without VALUE, list what was set, by whom and why.

    It holds at once, for one version of the model, and makes no new version. Answers say which threshold they were given by.
    """
    if back and value is not None:
        raise click.UsageError("Give a value, or --back for the one before.", ctx)
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        if value is None and not back:
            found = s.endpoints.thresholds(name)
            if json:
                show.print_json(found)
                return
            show.table(
                ["number", "model", "threshold", "how", "reason", "by", "at"],
                [
                    (t.number, t.model, _said(t.value), t.how.replace("_", " "), t.reason, t.by, show.when(t.at))
                    for t in found
                ],
                empty="None was set: rows are decided by what the model was packaged with.",
            )
            return
        made = (
            s.endpoints.roll_back_threshold(name, reason, version=version)
            if value is None
            else s.endpoints.set_threshold(name, value, reason, version=version)
        )
    undo = f"loopline threshold {name} --back --version {made.model.rpartition('@')[2]} --reason ..."
    show.done(made, json, f"{made.model} at {name} decides by {_said(made.value)} (number {made.number}).", undo)


def _said(value: float | None) -> str:
    return "what it was packaged with" if value is None else f"{value:g}"
