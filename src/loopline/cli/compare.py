"""`loopline runs compare`: runs beside each other, in the terminal, as plots and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.ports.drawing import PlotForm
    from loopline.tracking.comparison.result import Comparison

_MOST_PLOTS = 24  # of a page


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--metric", "metrics", multiple=True, metavar="KEY", help="Only this metric (repeats).")
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all of them, and the machine's use.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the metric by step, as .png or .svg.",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it as a page that stands alone, with plots.",
)
@as_json
@click.pass_context
def compare(
    ctx: click.Context,
    runs: tuple[str, ...],
    metrics: tuple[str, ...],
    everything: bool,
    plot: Path | None,
    html: Path | None,
    json: bool,
) -> None:
    """Hold runs against the first: what differs, and is it more than chance? (docs/comparing.md)"""
    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise click.UsageError(f"{plot.name} is neither a .png nor an .svg file.")
    if plot is not None and len(metrics) != 1:
        raise click.UsageError("--plot draws one metric: name it by --metric KEY.")
    with session(ctx) as s:
        given = tuple(names.one(s, run, "run") for run in runs)
        found = s.runs.compare(given, metrics, everything)
        if plot is not None:
            form: PlotForm = "png" if plot.suffix == ".png" else "svg"
            show.save(s.runs.plot(given, metrics[0], form), str(plot), "the plot")
        if html is not None:
            from loopline.tracking.comparison.result import page

            keys = [one.key for one in found.metrics if any(one.values)]  # what folds alone have is no line of a run
            plots = {key: s.runs.plot(given, key, "svg").read() for key in keys[:_MOST_PLOTS]}
            show.put(str(html), page(found, plots).encode())
            click.echo(f"Wrote {html}.", err=True)
    if json:
        show.print_json(found)
        return
    _tables(found)


def _tables(found: Comparison) -> None:
    from loopline.tracking.comparison import tables

    heads = tables.names(found)
    if found.metrics:
        show.table(
            ["metric", *heads],
            [[one.key, *tables.metric(one)] for one in found.metrics],
        )
    for aspect in dict.fromkeys(one.of for one in found.differences):
        show.table(
            [aspect, *heads],
            [[one.key, *map(tables.written, one.values)] for one in found.differences if one.of == aspect],
        )
    if told := tables.left_out(found):
        click.echo(told)
    if not found.metrics and not found.differences:
        click.echo("They differ in nothing that was kept; --all shows what they have.")


COMMANDS = (compare,)
"""What `loopline runs` has of these."""
