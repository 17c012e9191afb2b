"""`loopline data add|sync`: datasets collected from files, stores, databases and topics, once and again."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import data_contract, data_files, names, show
from loopline.cli.data_inbox import held_back, say_taken
from loopline.cli.problems import report
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.data.records import Collected, Collection, DatasetVersion

_FILE = click.Path(exists=True, dir_okay=False)
_SAID = 10.0
"""Seconds between two lines of progress where there is no terminal."""


@click.command()
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--contract",
    type=_FILE,
    metavar="FILE",
    help="What must hold, as TOML, JSON or Python; rows that break it are held back.",
)
@click.option("--message", default="", help="Why there is this version.")
@click.option("--query", metavar="SQL", help="What is asked of a database.")
@click.option("--mark", metavar="COLUMN", help="A column that only rises: from then on only rows above it are read.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the sources, for each of them (repeats).",
)
@click.option(
    "--join", multiple=True, metavar="COLUMN", help="Put the sources beside each other by this column (repeats)."
)
@click.option(
    "--on-schema-change",
    "on_change",
    type=click.Choice(["widen", "quarantine", "refuse"]),
    default="widen",
    show_default=True,
    help="Take what widens and refuse the rest; hold back what does not fit; refuse any change.",
)
@click.option("--label", type=(str, str, str), multiple=True, metavar="COLUMN TIME SPAN",
              help="A label that is known SPAN (30d) after its event, at the time in the column TIME.")  # fmt: skip
@click.option(
    "--files", is_flag=True, help="SOURCE is a folder of files (images, audio, anything): keep them as they are."
)
@as_json
@click.pass_context
def add(
    ctx: click.Context,
    name: str,
    sources: tuple[str, ...],
    contract: str | None,
    message: str,
    query: str | None,
    mark: str | None,
    options: tuple[str, ...],
    join: tuple[str, ...],
    on_change: Any,
    label: tuple[tuple[str, str, str], ...],
    files: bool,
    json: bool,
) -> None:
    """Read SOURCE into the next version of the dataset NAME: a file, a folder, a pattern, or a URL.

    Several go one behind the other, or beside each other with --join. Where they are is kept: `loopline data sync NAME` reads what
    came since. A secret in a URL is written as ${NAME} and taken from the environment. On a server (--server) a file is sent.
    """
    from loopline.data.records import LabelColumn
    from loopline.tracking.working_copy import commit_of

    labels = tuple(LabelColumn(column=c, time=time, matures=span) for c, time, span in label) or None
    rules = data_contract.read(contract) if contract else None
    given = _options(options) | {k: v for k, v in (("query", query), ("mark", mark)) if v is not None}
    with session(ctx, creates=True) as s, _progress():
        known = {d.name: d.versions for d in s.datasets.list()}
        called = names.one(s, name, "data")
        plain = not (given or join) and on_change == "widen"
        if files:
            if len(sources) > 1 or rules or not plain or labels:
                raise click.UsageError("--files takes one folder, and nothing of tables.", ctx)
            version = data_files.add_folder(ctx, s, called, sources[0], message)
        elif ctx.obj["server"] and len(sources) == 1 and Path(sources[0]).is_file() and plain:
            from loopline.operations import Body

            version = s.datasets.add(
                called,
                Body(sources[0]),
                contract=rules,
                message=message,
                labels=labels,
                facts=commit_of(Path.cwd()),
            )
            found: Any = version
        else:
            addresses = [source if "://" in source else str(Path(source).absolute()) for source in sources]
            found = s.sources.collect(
                called,
                tuple({"address": address, "options": given} for address in addresses),  # type: ignore[misc]
                contract=rules,
                message=message,
                join=join,
                on_change=on_change,
                labels=labels,
                facts=commit_of(Path.cwd()),
            )
            version = found.version
    if json:
        show.print_json(version)
        return
    if version.manifest:
        data_files.say_added(version, new=version.version > known.get(version.name, 0))
        return
    _say(version, new=version.version > known.get(version.name, 0))


@click.command("sync")
@click.argument("datasets", nargs=-1, metavar="[NAME...]")
@click.option("--message", default="", help="Why there is a version, should there be one.")
@click.option(
    "--every", metavar="DURATION", help="From now on by itself, so often (15min, 6h), by a running `loopline up`."
)
@click.option("--cron", metavar="LINE", help="From now on by itself, at these times (UTC): '15 2 * * 1-5'.")
@click.option("--on-arrival", is_flag=True, help="From now on by itself, as soon as something arrives.")
@click.option("--when-rows", type=click.IntRange(1), metavar="N", help="From now on by itself, when so many rows wait.")
@click.option("--never", is_flag=True, help="From now on not by itself any more.")
@as_json
@click.pass_context
def sync_sources(
    ctx: click.Context,
    datasets: tuple[str, ...],
    message: str,
    every: str | None,
    cron: str | None,
    on_arrival: bool,
    when_rows: int | None,
    never: bool,
    json: bool,
) -> None:
    """Read what came since into the next version of the datasets NAME (else of all that were added from a source).

    What was posted to them and waits is taken first. Each row of a source is taken once, whatever was ended in between. With
    --every, --cron, --on-arrival or --when-rows a running `loopline up` does it from then on; --never takes that back.
    """
    waiting = when_rows if when_rows is not None else 1 if on_arrival else None
    ruled = any(value is not None for value in (every, cron, waiting))
    with session(ctx) as s, _progress():
        chosen = [names.one(s, name, "data") for name in datasets] or [one.name for one in s.sources.list()]
        if ruled or never:
            if not datasets:
                raise click.UsageError("Name the datasets that this is for.", ctx)
            planned = [
                s.sources.unschedule(one) if never else s.sources.schedule(one, every=every, cron=cron, waiting=waiting)
                for one in chosen
            ]
            _say_planned(planned, json)
            return
        found, code = _sync(s, chosen, message, json)
    if json:
        show.print_json(found)
    elif not chosen:
        click.echo("No dataset was added from a source yet. Add one: loopline data add NAME SOURCE")
    ctx.exit(code)


def lines(collection: Collection) -> list[tuple[str, Any]]:
    """What a dataset is collected from, as facts to show."""
    import msgspec

    found: list[tuple[str, Any]] = []
    for source in collection.sources:
        options = "".join(f" {name}={value}" for name, value in source.options.items())
        found.append(("collected from", f"{source.address}{options}"))
        position = msgspec.json.encode(source.position).decode()
        found.append(("read up to", position if len(position) <= 200 else f"{position[:199]}…"))
    return [
        *found,
        ("joined by", ", ".join(collection.join)),
        ("read", show.when(collection.read)),
        ("by itself", rule_of(collection)),
        ("problem", f"{collection.problem} ({collection.failures} turns)" if collection.problem else ""),
    ]


def _sync(s: Session, chosen: list[str], message: str, json: bool) -> tuple[list[Collected], int]:
    from loopline.tracking.working_copy import commit_of

    """Each dataset in its turn; where one fails the others are read all the same."""
    found, code = [], 0
    collected = {one.name for one in s.sources.list()}
    for name in chosen:
        try:
            taken = s.inbox.take(name) if s.inbox.waiting(name).posts else None
            if taken is not None:
                if not json:
                    say_taken(taken)
                if name not in collected:
                    continue
            one = s.sources.sync(name, message=message, facts=commit_of(Path.cwd()))
        except Exception as e:
            if len(chosen) == 1:
                raise
            code = report(e)
            continue
        found.append(one)
        if json:
            continue
        if one.new:
            _say(one.version, new=True)
        else:
            click.echo(f"Nothing new for {name}: {one.version.ref} is the newest.")
    return found, code


def _say(version: DatasetVersion, *, new: bool) -> None:
    said = "Added" if new else "The same content is there already:"
    click.echo(
        f"{said} {version.ref}: {show.count(version.rows, 'row')} of {show.count(len(version.columns), 'column')}."
    )
    if version.quarantined:
        broken = ", ".join(f"{rule} {count:,}" for rule, count in version.broken.items())
        click.echo(f"  {held_back(version.quarantined)} ({broken}): loopline data quarantine list {version.ref}")
    if version.warned:
        warned = ", ".join(f"{rule} {count:,}" for rule, count in version.warned.items())
        click.echo(f"  Rules that only warn: {warned}")
    for one in version.labels:
        if one.immature:
            known = "is not known yet" if one.immature == 1 else "are not known yet"
            labels = show.count(one.immature, "label")
            click.echo(f"  {labels} of {one.column} {known} ({one.matures} after {one.time}).")
    for name, text in version.facts.items():
        if name == "told" or name.startswith("joined"):
            begun = text if "." in text.partition(" ")[0] else f"{text[0].upper()}{text[1:]}"  # but no name of a file
            click.echo(f"  {begun}.")
        elif name == "again":
            click.echo(f"  Beware: these are {text}.")
    if version.version > 1:
        click.echo(f"  Versions stay; to work on with an older one, name it: {version.name}@{version.version - 1}")
    else:
        click.echo(f"  What is in it: {show.here(f'loopline data profile {version.name}')}")


def _say_planned(planned: list[Collection], json: bool) -> None:
    if json:
        show.print_json(planned)
        return
    for one in planned:
        if one.schedule is None:
            click.echo(
                f"{one.name} is not read by itself any more. Read it: {show.here(f'loopline data sync {one.name}')}"
            )
            continue
        click.echo(f"{one.name} is read {rule_of(one)}, as long as `loopline up` runs.")
        click.echo(f"  Undo it: {show.here(f'loopline data sync {one.name} --never')}")


def rule_of(collection: Collection) -> str:
    """When a dataset is collected by itself, in words; empty: never."""
    schedule = collection.schedule
    if schedule is None:
        return ""
    if schedule.every is not None:
        return f"every {schedule.every}"
    if schedule.cron is not None:
        return f"at {schedule.cron} (UTC)"
    return "as soon as something arrives" if schedule.waiting == 1 else f"when {schedule.waiting:,} rows wait"


def _options(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.UsageError(f"{text!r} is no option of a source: write KEY=VALUE.")
        found[key] = value
    return found


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """How far it is, on standard error: a line that changes on a terminal, elsewhere a further line every ten seconds."""
    with contextlib.ExitStack() as stack:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.markup import escape

            status = stack.enter_context(Console(stderr=True).status("reading ..."))

            def say(text: str) -> None:
                status.update(escape(text))
        else:
            due = time.monotonic() + _SAID

            def say(text: str) -> None:
                nonlocal due
                if time.monotonic() >= due:
                    click.echo(text, err=True)
                    due = time.monotonic() + _SAID

        class Line(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                say(record.getMessage())

        told, line = logging.getLogger("loopline.data"), Line()
        level = told.level
        told.addHandler(line)
        told.setLevel(logging.DEBUG)
        stack.callback(told.setLevel, level)
        stack.callback(told.removeHandler, line)
        yield


COMMANDS = (add, sync_sources)
