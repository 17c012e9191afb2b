"""`loopline runs`: what people say of runs afterwards: names, tags, notes, corrected params, and how one ended."""

from __future__ import annotations

import shlex
from json import loads
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.tracking.records import Ending


@click.command()
@click.argument("run")
@click.argument("name")
@as_json
@click.pass_context
def rename(ctx: click.Context, run: str, name: str, json: bool) -> None:
    """Call a run otherwise. Its id stays."""
    with session(ctx) as s:
        before = s.runs.show(names.one(s, run, "run"))
        found = s.runs.change(before.id, name=name)
    undo = f"loopline runs rename {found.id} {shlex.quote(before.name)}"
    show.done(found, json, f"{found.ref} is called {found.name!r}.", undo)


@click.command()
@click.argument("run")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=TEXT...")
@as_json
@click.pass_context
def tag(ctx: click.Context, run: str, tags: tuple[str, ...], json: bool) -> None:
    """Set tags of a run; KEY= removes one."""
    given = names.tags(tags)
    with session(ctx) as s:
        before = s.runs.show(names.one(s, run, "run"))
        found = s.runs.tag(before.id, given)
    show.done(
        found, json, f"{found.ref} is tagged.", f"loopline runs tag {found.id} {names.untagged(given, before.tags)}"
    )


@click.command()
@click.argument("run")
@click.argument("text")
@as_json
@click.pass_context
def note(ctx: click.Context, run: str, text: str, json: bool) -> None:
    """Say something of a run, in place of what was said before."""
    with session(ctx) as s:
        before = s.runs.show(names.one(s, run, "run"))
        found = s.runs.note(before.id, text)
    show.done(found, json, f"{found.ref} is noted.", f"loopline runs note {found.id} {shlex.quote(before.note)}")


@click.command()
@click.argument("run")
@click.option(
    "--status", type=click.Choice(["finished", "failed", "killed"]), default="killed", show_default=True, help="How."
)
@click.option("--message", default="", help="Why.")
@as_json
@click.pass_context
def finish(ctx: click.Context, run: str, status: Ending, message: str, json: bool) -> None:
    """End a run whose program is gone and can say nothing more, such as one of a machine that is lost."""
    with session(ctx) as s:
        found = s.runs.finish(names.one(s, run, "run"), status, message=message)
    show.done(found, json, f"{found.ref} is {found.status}.")


@click.command()
@click.argument("run")
@click.argument("params", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--reason", required=True, help="Why they were wrong.")
@as_json
@click.pass_context
def correct(ctx: click.Context, run: str, params: tuple[str, ...], reason: str, json: bool) -> None:
    """Change params that were set wrongly; what stood there stays on record."""
    given = {}
    for param in params:
        key, sign, value = param.partition("=")
        if not sign:
            raise click.UsageError(f"{param!r} is not KEY=VALUE.")
        given[key] = _value(value)
    with session(ctx) as s:
        found = s.runs.correct(names.one(s, run, "run"), given, reason)
    show.done(found, json, f"{found.ref} is corrected; `loopline runs corrections {found.id}` shows what stood there.")


@click.command()
@click.argument("run")
@as_json
@click.pass_context
def corrections(ctx: click.Context, run: str, json: bool) -> None:
    """What params of a run were before they were corrected."""
    with session(ctx) as s:
        found = s.runs.corrections(names.one(s, run, "run"))
    if json:
        show.print_json(found)
        return
    show.table(
        ["param", "was", "reason", "by", "at"],
        [(c.key, show.exact(c.value), c.reason, c.by, show.when(c.at)) for c in found],
        empty="Nothing was corrected.",
    )


def _value(text: str) -> Any:
    """What a value on the command line says: JSON where it is some, else the text itself."""
    try:
        return loads(text)
    except ValueError:
        return text


COMMANDS = (rename, tag, note, finish, correct, corrections)
"""What `loopline runs` has of these."""
