"""`loopline data split` and `data labels`: the sides of a version, and which of its labels are known."""

from __future__ import annotations

from typing import Any

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, session

_SEVERITY = {3: "likely wrong", 2: "look at it", 1: "to know"}
AS_OF = click.option(
    "--as-of",
    type=Moment(),
    metavar="TIME",
    help="Labels that were not known then are missing (else: when rows were read).",
)


@click.command()
@click.argument("ref")
@click.option("--label", required=True, metavar="COLUMN", help="What is to be predicted.")
@click.option("--time", metavar="COLUMN", help="What orders the rows in time: the newest become the test.")
@click.option("--group", metavar="COLUMN", help="Rows of one group stay on one side.")
@click.option("--task", type=click.Choice(["binary", "multiclass", "regression"]), help="Else by the label.")
@click.option("--by", type=click.Choice(["time", "group", "stratified", "random"]), help="Else by what is named above.")
@click.option("--fractions", type=(float, float, float), default=(0.7, 0.15, 0.15), show_default=True,
              help="Shares of train, validation and test.")  # fmt: skip
@click.option("--embargo", default="", metavar="SPAN",
              help="Leave out rows so long before a later side: 7d, or a number in the time's own unit.")  # fmt: skip
@click.option("--refuse", multiple=True, type=click.Choice(["same-group", "same-row", "near-row", "knows-label"]),
              help="Make no split that has such a finding.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@AS_OF
@as_json
@click.pass_context
def split(ctx: click.Context, /, ref: str, label: str, json: bool, **options: Any) -> None:
    """Split a version into train, validation and a sealed test."""
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        found = s.datasets.split(name, label, version=version, **options)
    if json:
        show.print_json(found)
        return
    rows = {side["name"]: f"{side['rows']:,} rows" for side in found.facts["sides"]}
    show.facts(
        [
            ("train", f"{found.train}, {rows['train']}"),
            ("validation", f"{found.validation}, {rows['validation']}"),
            ("test (sealed)", f"{found.test}, {rows['test']}"),
            ("by", found.facts["by"]),
            ("group seen earlier", _left_out(found.facts["dropped"])),
            ("embargo", _left_out(found.facts["embargoed"]) or (options["embargo"] and "no row left out")),
            ("label not known yet", _left_out(found.facts["immature"])),
        ]
    )
    for one in found.facts["findings"]:
        click.echo(f"{_SEVERITY[one['severity']]}: {one['text']}")


@click.command()
@click.argument("ref")
@AS_OF
@as_json
@click.pass_context
def labels(ctx: click.Context, ref: str, as_of: int | None, json: bool) -> None:
    """Which labels of a version are known, of columns that become known later than their rows."""
    with session(ctx) as s:
        found = s.datasets.labels(*names.dataset(s, ref), as_of=as_of)
    if json:
        show.print_json(found)
        return
    show.table(
        ["label", "event", "matures after", "rows", "known", "not known yet", "missing"],
        [(one.column, one.time, one.matures, one.rows, one.known, one.immature, one.missing) for one in found],
        empty="It has no label with a maturity. Declare one: loopline data add NAME FILE --label COLUMN TIME SPAN",
    )


def _left_out(count: int) -> str:
    return f"{show.count(count, 'row')} left out" if count else ""


COMMANDS = (split, labels)
