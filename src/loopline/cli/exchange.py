"""`loopline runs import` and `loopline runs export`: runs from elsewhere, and to elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopline.catalog import Session
    from loopline.foreign import ForeignSystem
    from loopline.operations import Bytes
    from loopline.registry.importing import ModelOutcome
    from loopline.tracking.exchange.importing import Outcome
    from loopline.tracking.records import Run

_PAGE = 1000
_filter = click.option("--filter", "where", metavar="FILTER", help="Those that it finds (docs/search.md).")


@click.group("import", help="Take in runs of other systems, each once; again goes on where it was.")
def import_group() -> None:
    pass


def _source(system: ForeignSystem, what: str, text: str) -> None:
    """Adds the command for one system."""

    @import_group.command(system, help=text)
    @click.argument("place", metavar=what)
    @as_json
    @click.pass_context
    def command(ctx: click.Context, place: str, json: bool) -> None:
        _take(ctx, system, place, json)


_source("mlflow", "FOLDER_OR_URL", "The runs of a folder mlruns/, or of an MLflow server.")
_source("tensorboard", "FOLDER", "The runs of a folder of event files.")
_source("modeldb", "FILE_OR_FOLDER", "The runs in saved answers of ModelDB (docs/import-export.md).")


@import_group.command("bundle")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", metavar="FINGERPRINT", default="", help="The key that signed it, as its owner told you.")
@as_json
@click.pass_context
def import_bundle(ctx: click.Context, file: Path, key: str, json: bool) -> None:
    """The runs of a run bundle, whole or not at all."""
    from loopline.operations import Body

    with session(ctx, creates=True) as s:
        run = s.runs.import_bundle(Body(file), key)
    show.done(
        run,
        json,
        f"{run.ref} ({run.name}) is here; it is {run.tags['import.source']}.",
        f"loopline runs delete {run.id}",
    )


def _take(ctx: click.Context, system: ForeignSystem, place: str, json: bool) -> None:
    from loopline.cli.problems import EXIT_CODES
    from loopline.foreign import run_source
    from loopline.ports.foreign_runs import ModelSource
    from loopline.registry.importing import bring_models
    from loopline.tracking.exchange.importing import bring

    source = run_source(system, place)
    outcomes: list[Outcome | ModelOutcome] = []
    refused: set[str] = set()
    lost: dict[str, list[str]] = {}
    with session(ctx, creates=True) as s:
        models = bring_models(s, source, refused) if isinstance(source, ModelSource) else ()
        both: Iterator[Outcome | ModelOutcome] = itertools.chain(bring(s, source), models)
        for one in both:
            outcomes.append(one)
            if one.state == "refused":
                refused.add(one.source)
                click.echo(f"{one.source} is refused: {one.why}", err=True)
            for what in one.left_out:
                lost.setdefault(what, []).append(one.source)
    for what, sources in lost.items():
        more = f" and {len(sources) - 1} more" if sources[1:] else ""
        click.echo(f"{sources[0]}{more}: left out {what}", err=True)
    if json:
        show.print_json(outcomes)
    else:
        count = {
            state: sum(one.state == state for one in outcomes) for state in ("imported", "there already", "refused")
        }
        click.echo(", ".join(f"{number} {state}" for state, number in count.items()))
        click.echo(f"They have the tag import.source: loopline runs search \"tags.`import.source` LIKE '{system}:%'\"")
    if refused:
        ctx.exit(EXIT_CODES["invalid"])


@click.group("export", help="Give runs to other programs. Without RUN and --filter it is all runs.")
def export_group() -> None:
    pass


def _table(form: str) -> None:
    @export_group.command(form, help=f"As a table, {form.upper() if form == 'csv' else 'Parquet'}: a row a run.")
    @click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
    @click.argument("runs", nargs=-1, metavar="[RUN]...")
    @_filter
    @click.option("--points", is_flag=True, help="A row a metric point instead.")
    @click.pass_context
    def command(ctx: click.Context, file: Path, runs: tuple[str, ...], where: str | None, points: bool) -> None:
        from loopline.tracking.exchange import tables

        with session(ctx) as s:
            found = _chosen(s, runs, where)
            pieces = tables.points(s.runs, found) if points else iter([tables.table(list(found))])
            rows = tables.write(pieces, file, "csv" if form == "csv" else "parquet")
        click.echo(f"Wrote {show.count(rows, 'row')} to {file}.", err=True)


_table("csv")
_table("parquet")


@export_group.command("tensorboard")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@_filter
@click.pass_context
def tensorboard(ctx: click.Context, folder: Path, runs: tuple[str, ...], where: str | None) -> None:
    """As event files, a folder a run, for `tensorboard --logdir FOLDER`."""
    from loopline.foreign import write_events

    count = 0
    with session(ctx) as s:
        for run in _chosen(s, runs, where):
            points = (point for key in run.metrics for point in s.runs.history(run.id, key))
            write_events(folder, run, points)
            count += 1
    click.echo(f"Wrote {show.count(count, 'run')} to {folder}.", err=True)


@export_group.command("bundle")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("run")
@click.pass_context
def export_bundle(ctx: click.Context, file: str, run: str) -> None:
    """One run, with its children, as a signed file for another instance."""
    with session(ctx) as s:
        packed = s.runs.export_bundle(names.one(s, run, "run"))
        show.save(packed, file, "the run")
        key = _fingerprint(packed)
    click.echo(f"It is signed by the key {key}: tell that to whoever takes it, by another way than the file.", err=True)


def _fingerprint(packed: Bytes) -> str:
    """The fingerprint of the key that a run bundle carries."""
    import io
    import tarfile

    from loopline.packaging.signing import fingerprint
    from loopline.tracking.bundle.statement import KEY

    with tarfile.open(packed.path) if packed.path else tarfile.open(fileobj=io.BytesIO(packed.data)) as tar:
        pem = tar.extractfile(KEY)
        assert pem is not None  # it was just packed
        return fingerprint(pem.read().decode("ascii"))


def _chosen(s: Session, runs: tuple[str, ...], where: str | None) -> Iterator[Run]:
    """The runs that are named, or those that a filter finds."""
    if runs and where is not None:
        raise click.UsageError("Name runs, or give a filter.")
    for run in runs:
        yield s.runs.show(names.one(s, run, "run"))
    after: str | None = None
    while not runs:
        page = s.runs.search(where or "", limit=_PAGE, after=after)
        yield from page.runs
        if (after := page.after) is None:
            return


COMMANDS = (import_group, export_group)
"""What `loopline runs` has of these."""
