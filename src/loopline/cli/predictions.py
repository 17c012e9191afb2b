"""`loopline predictions`: what endpoints answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.outcomes.records import Prediction
    from loopline.outcomes.verbs import PredictionsVerbs
    from loopline.serving.kept import Kept

_SINCE = click.option(
    "--since", type=Moment(), default=0, metavar="TIME", help='Only after it: "2h" (ago), "2026-01-31"; default: all.'
)
_FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Of a `loopline serve`: what is in its folder, instead of the workspace's record.",
)  # fmt: skip


@contextlib.contextmanager
def _kept(
    ctx: click.Context, endpoint: str, folder: Path | None, *, labelled: bool = False, served: bool = False
) -> Iterator[tuple[PredictionsVerbs | Kept, str]]:
    """Who is asked for predictions, and the endpoint's name. `served`: the workspace must have the endpoint still."""
    if folder is not None:
        from loopline.serving.kept import Kept

        if labelled:
            raise click.UsageError("Labels are joined in a workspace: --labelled does not go with --folder.")
        yield Kept(folder), endpoint
        return
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        if served:
            s.endpoints.show(name)
        yield s.predictions, name


@group("predictions", "Predictions: each answer with its id. They are on record some seconds after they were answered.")
def predictions() -> None:
    pass


@predictions.command()
@click.argument("endpoint")
@_SINCE
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option(
    "--variant", type=click.Choice(["champion", "challenger", "stream"]), help="Only answers of this variant."
)
@click.option("--labelled", is_flag=True, help="Only those whose label has come.")
@_FOLDER
@as_json
@click.pass_context
def ls(
    ctx: click.Context,
    endpoint: str,
    since: int,
    limit: int,
    variant: str | None,
    labelled: bool,
    folder: Path | None,
    json: bool,
) -> None:
    """The newest predictions of an endpoint, with their labels. That you looked is put on the ledger."""
    with _kept(ctx, endpoint, folder, labelled=labelled, served=True) as (kept, name):
        found = kept.list(name, since=since, limit=limit, variant=variant, labelled=labelled)
    if json:
        show.print_json(found)
        return
    show.table(
        ["prediction", "answer", "label", "model", "variant", "at"],
        [
            (p.id, _answer(p), p.label, p.model, f"{p.variant}{' (shadow)' if p.shadow else ''}", show.when(p.at))
            for p in found
        ],
        empty=f"{name} has answered nothing yet that is on record.",
    )


@predictions.command("show")
@click.argument("endpoint")
@click.argument("prediction")
@_FOLDER
@as_json
@click.pass_context
def show_prediction(ctx: click.Context, endpoint: str, prediction: str, folder: Path | None, json: bool) -> None:
    """One prediction with its row, answer and label. That you looked is put on the ledger."""
    with _kept(ctx, endpoint, folder) as (kept, name):
        found = kept.show(name, prediction.removeprefix("prediction:"))
    if json:
        show.print_json(found)
        return
    show.title(f"prediction:{found.id}")
    show.facts(
        [
            ("model", f"{found.model} ({found.variant})"),
            ("answer", found.output),
            ("label", f"{found.label} ({show.when(found.label_at)})" if found.label is not None else "none yet"),
            ("at", show.when(found.at)),
        ]
    )
    show.table(["column", "value"], [(k, v if isinstance(v, str) else str(v)) for k, v in found.row.items()])


@predictions.command()
@click.argument("endpoint")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_SINCE
@click.option("--labelled", is_flag=True, help="Only those whose label has come.")
@_FOLDER
@click.pass_context
def export(ctx: click.Context, endpoint: str, file: Path, since: int, labelled: bool, folder: Path | None) -> None:
    """Write answers with their rows and labels to FILE (Parquet), for DuckDB or any other. That you did is put on the ledger."""
    import io

    import polars as pl

    with _kept(ctx, endpoint, folder, labelled=labelled) as (kept, name):
        frame = pl.read_ipc_stream(io.BytesIO(kept.read(name, since=since, labelled=labelled).read()))
    frame.write_parquet(file)
    show.done(None, False, f"{frame.height:,} answers of {name} are in {file}.")


@predictions.command()
@click.argument("endpoint")
@_SINCE
@_FOLDER
@as_json
@click.pass_context
def traffic(ctx: click.Context, endpoint: str, since: int, folder: Path | None, json: bool) -> None:
    """What an endpoint answered, by variant: rows, errors, latencies, labels."""
    with _kept(ctx, endpoint, folder, served=True) as (kept, name):
        found = kept.traffic(name, since=since)
    if json:
        show.print_json(found)
        return
    show.table(
        ["variant", "model", "requests", "rows", "errors", "labelled", "p50 ms", "p99 ms", "different answers"],
        [
            (
                variant,
                t.model,
                t.requests,
                t.rows,
                t.errors,
                t.labelled,
                t.latency_p50 / 1000,
                t.latency_p99 / 1000,
                t.distinct_outputs,
            )
            for variant, t in found.variants.items()
        ],
        empty=f"{name} has answered nothing yet that is on record.",
    )


def _answer(prediction: Prediction) -> str:
    out = prediction.output
    if "label" not in out:
        return str(out.get("value", ""))
    chance = out.get("probability")
    return f"{out['label']} ({chance:.3f})" if isinstance(chance, float) else str(out["label"])
