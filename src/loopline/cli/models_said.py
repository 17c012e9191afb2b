"""`loopline models`: what people say of models (titles, descriptions, tags, comments), and deletion."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.catalog import Session


@click.command()
@click.argument("name")
@click.option("--title", help="What people call it; the name by default.")
@click.option("--description", default="", help="What it is for (Markdown).")
@as_json
@click.pass_context
def create(ctx: click.Context, name: str, title: str | None, description: str, json: bool) -> None:
    """Make a model that has no version yet. A draft makes its model by itself."""
    with session(ctx) as s:
        found = s.models.create(names.one(s, name, "model"), title=title, description=description)
    show.done(found, json, f"{found.ref} is there, without a version yet.", f"loopline models delete {found.name}")


@click.command()
@click.argument("name")
@click.argument("title")
@as_json
@click.pass_context
def rename(ctx: click.Context, name: str, title: str, json: bool) -> None:
    """Give a model another TITLE. Its name stays: it stands in refs, aliases and signatures."""
    with session(ctx) as s:
        name = names.model(s, name)[0]
        before = s.models.model(name).title
        found = s.models.rename(name, title)
    undo = f"loopline models rename {found.name} {shlex.quote(before)}"
    show.done(found, json, f"{found.ref} is called {found.title!r} now.", undo)


@click.command()
@click.argument("ref")
@click.argument("text")
@as_json
@click.pass_context
def describe(ctx: click.Context, ref: str, text: str, json: bool) -> None:
    """Set the description of a model, or of one version (NAME@VERSION)."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.describe(name, text, version=version)
    show.done(found, json, f"{_shown(name, version)} is described.")


@click.command()
@click.argument("ref")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=TEXT...")
@as_json
@click.pass_context
def tag(ctx: click.Context, ref: str, tags: tuple[str, ...], json: bool) -> None:
    """Set tags of a model, or of one version (NAME@VERSION). KEY= removes one."""
    given = names.tags(tags)
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.tag(name, given, version=version)
        kept = found.tags if version is None else s.models.show(name, version).tags
    show.done(found, json, f"{_shown(name, version)} has the tags {kept or 'none'}.")


@click.command()
@click.argument("ref")
@click.argument("text")
@as_json
@click.pass_context
def comment(ctx: click.Context, ref: str, text: str, json: bool) -> None:
    """Say something of a model, or of one version (NAME@VERSION). It stays, with your name and the time."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.comment(name, text, version=version)
    show.done(found, json, f"Kept with {_shown(name, version)}.")


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def comments(ctx: click.Context, ref: str, json: bool) -> None:
    """What was said of a model and its versions, or of one version (NAME@VERSION), oldest first."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.comments(name, version=version)
    if json:
        show.print_json(found)
        return
    show.table(
        ["version", "comment", "by", "at"],
        [(c.version, c.text, c.by, show.when(c.at)) for c in found],
        empty="Nothing was said.",
    )


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def delete(ctx: click.Context, ref: str, json: bool) -> None:
    """Hide one version (NAME@VERSION), or a model with all of its versions. It can be brought back."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.delete(name, version=version)
    show.done(found, json, f"{_shown(name, version)} is deleted.", f"loopline models restore {_shown(name, version)}")


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def restore(ctx: click.Context, ref: str, json: bool) -> None:
    """Bring back a deleted version (NAME@VERSION), or a model with the versions that were deleted with it."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        found = s.models.restore(name, version=version)
    show.done(found, json, f"{_shown(name, version)} is back.", f"loopline models delete {_shown(name, version)}")


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def purge(ctx: click.Context, ref: str, json: bool) -> None:
    """Remove a deleted version (NAME@VERSION), or a deleted model's versions, for good. This cannot be undone."""
    with session(ctx) as s:
        name, version = _place(s, ref)
        s.models.purge(name, version=version)
    show.done(
        None, json, f"{_shown(name, version)} is gone for good; the ledger and the history of aliases keep its refs."
    )


COMMANDS = [create, rename, describe, tag, comment, comments, delete, restore, purge]


def _place(session: Session, text: str) -> tuple[str, int | None]:
    """The name of a model and, where one is named, the number of its version; also of deleted ones."""
    from loopline.refs import parse, version_number

    name = names.one(session, text, "model")
    ref = parse(text, "model", session.project)
    if ref.version is None:
        return name, None
    number = version_number(ref.version)
    return name, session.models.show(name, ref.version).version if number is None else number


def _shown(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"
