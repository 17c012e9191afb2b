"""`loopline score`: what a model version says to every row of a dataset version."""

from __future__ import annotations

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session


@click.command()
@click.argument("ref")
@click.option("--model", required=True, metavar="REF", help="The model version; an alias is looked up once.")
@click.option("--into", metavar="NAME", help="The dataset that the scores go into. Default: NAME.scores.")
@click.option("--message", default="", help="Why there is this version.")
@as_json
@click.pass_context
def score(ctx: click.Context, ref: str, model: str, into: str | None, message: str, json: bool) -> None:
    """Score the rows of dataset version REF by a model version, into the next version of a dataset, NAME.scores.

    It has the columns of REF without labels, the prediction of each row, and the probability of each class. Rows sealed for
    evaluation are left out. Any length of table takes the memory of a block.
    """
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        found = s.scores.make(
            name, s.models.show(*names.model(s, model)).ref, version=version, into=into, message=message
        )
    if json:
        show.print_json(found)
        return
    click.echo(
        f"{found.rows:,} rows of {found.inputs[0]} are scored: {found.ref}. Read them: loopline data read {found.ref}"
    )
