"""`loopline score`: what a model version says to every row of a dataset version, or to each message of a stream."""

from __future__ import annotations

from pathlib import Path

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session


@click.command()
@click.argument("ref", required=False)
@click.option("--model", required=True, metavar="REF", help="The model version; of a stream, a bundle's folder, too.")
@click.option("--into", metavar="NAME", help="The dataset that the scores go into. Default: NAME.scores.")
@click.option("--message", default="", help="Why there is this version.")
@click.option(
    "--from", "source", metavar="ADDRESS",
    help="A stream instead of REF: kafka://host:port/topic, mqtt://host:port/filter.",
)  # fmt: skip
@click.option("--to", "target", metavar="ADDRESS", help="The stream that answers go to.")
@click.option(
    "--aside", metavar="ADDRESS",
    help="Where messages go that cannot be answered. Default: beside --to, TOPIC.refused or TOPIC/refused.",
)  # fmt: skip
@click.option(
    "--endpoint", metavar="NAME",
    help="The endpoint that a stream answers as: its policy, its record. Default: the one named after the model, if any.",
)  # fmt: skip
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of --from; repeat for several.")
@click.option("--to-option", "to_options", multiple=True, metavar="KEY=VALUE", help="Of --to and --aside.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("loopline-score"), show_default=True,
    help="What a stream keeps on this disk; one for each.",
)  # fmt: skip
@as_json
@click.pass_context
def score(
    ctx: click.Context,
    /,
    ref: str | None,
    model: str,
    into: str | None,
    message: str,
    source: str | None,
    target: str | None,
    aside: str | None,
    endpoint: str | None,
    options: tuple[str, ...],
    to_options: tuple[str, ...],
    folder: Path,
    json: bool,
) -> None:
    """Score the rows of dataset version REF by a model version, into the next version of a dataset, NAME.scores.

    It has the columns of REF without labels, the prediction of each row, and the probability of each class. Rows sealed for
    evaluation are left out. Any length of table takes the memory of a block.

    With --from and --to, the messages of a stream are scored as they come, until Ctrl-C or SIGTERM: each is answered at least
    once and always under the same id, whatever is ended in between. Where --model is an alias that moves, it is followed.
    """
    if (ref is None) == (source is None):
        raise click.UsageError("Name what is scored: a dataset version, or --from ADDRESS.")
    if source is not None:
        if target is None or into or message:
            raise click.UsageError("A stream goes from --from to --to; --into and --message are of datasets.")
        from loopline.cli.score_stream import stream

        stream(ctx, model, source, options, target, aside, to_options, folder, endpoint=endpoint, json=json)
        return
    if target or aside or endpoint or options or to_options:
        raise click.UsageError("--to, --aside, --endpoint and --option go with --from.")
    with session(ctx) as s:
        name, version = names.dataset(s, str(ref))
        found = s.scores.make(
            name, s.models.show(*names.model(s, model)).ref, version=version, into=into, message=message
        )
    if json:
        show.print_json(found)
        return
    click.echo(
        f"{found.rows:,} rows of {found.inputs[0]} are scored: {found.ref}. Read them: loopline data read {found.ref}"
    )
