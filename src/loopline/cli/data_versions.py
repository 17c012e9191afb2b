"""`loopline data diff|files|tag|untag|restore|withdraw`: what one does with versions that are there."""

from __future__ import annotations

import click

from loopline.cli import data_files, names, show
from loopline.cli.session import as_json, session

_SHOWN = 100


@click.command()
@click.argument("before")
@click.argument("after", default="", required=False)
@click.option(
    "--key", multiple=True, metavar="COLUMN", help="What tells rows apart (repeats); else whole rows are compared."
)
@click.option("--html", metavar="FILE", help="Write the difference as a page instead.")
@as_json
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, key: tuple[str, ...], html: str | None, json: bool) -> None:
    """What changed from BEFORE to AFTER (else: to the newest): columns, rows, distributions. No value is shown."""
    with session(ctx) as s:
        name, version = names.dataset(s, before)
        other = names.dataset(s, after) if after else (name, "latest")
        to = other[1] if other[0] == name else f"data:{s.project}/{other[0]}@{other[1]}"
        if s.datasets.show(name, version).manifest:
            if key or html:
                raise click.UsageError("--key and --html are for tables; these are files.", ctx)
            of_files = s.files.diff(name, version, to=to)
            if json:
                show.print_json(of_files)
            else:
                data_files.say_diff(of_files)
            return
        found = s.datasets.diff(name, version, to=to, key=key, form="html" if html else "json")
        if html:
            show.save(found, html, f"the difference of {before} and {after or 'the newest version'}")
            return
        content = found.read()
    if json:
        click.echo(content.decode())
        return
    import msgspec

    from loopline.data.diff import Diff
    from loopline.data.diff_page import said
    from loopline.quality.drift_page import HEAD, rows

    read = msgspec.json.decode(content, type=Diff)
    show.title(f"{read.before} to {read.after}")
    for line in said(read):
        click.echo(line)
    if read.distribution is not None and read.distribution.drifted:
        changed = len(read.distribution.drifted)
        show.table(HEAD, rows(read.distribution)[:changed])


@click.command()
@click.argument("ref")
@click.argument("tag")
@as_json
@click.pass_context
def tag(ctx: click.Context, ref: str, tag: str, json: bool) -> None:
    """Name the version REF for good: then it is NAME@TAG, too."""
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        found = s.datasets.tag(name, version, tag)
    if json:
        show.print_json(found)
        return
    click.echo(f"{found.ref} is {found.name}@{found.tag}.")


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def untag(ctx: click.Context, ref: str, json: bool) -> None:
    """Take a tag away: REF is NAME@TAG. The version stays."""
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        s.datasets.untag(name, version)
    show.done(None, json, f"{name}@{version} names nothing any more.")


@click.command()
@click.argument("ref")
@click.option("--message", default="", help="Why.")
@as_json
@click.pass_context
def restore(ctx: click.Context, ref: str, message: str, json: bool) -> None:
    """Make the content of the version REF the newest version again."""
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        found = s.datasets.restore(name, version, message=message)
    if json:
        show.print_json(found)
        return
    held = f"{found.files:,} files" if found.manifest else f"{found.rows:,} rows"
    click.echo(f"{found.ref} has the content of {ref}: {held}.")


@click.command()
@click.argument("ref")
@click.option("--reason", required=True, help="What is wrong with it.")
@as_json
@click.pass_context
def withdraw(ctx: click.Context, ref: str, reason: str, json: bool) -> None:
    """Say that a version is bad: nothing is learned, registered or promoted from it any more. It cannot be taken back."""
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        found = s.datasets.withdraw(name, version, reason)
        affected = set(found.affected)
        serving = [one for one in s.endpoints.list() if affected & {one.champion, one.challenger}]
    for one in serving:
        click.echo(
            f"WARNING: {one.name} still answers by what learnt from it. Roll another version out: "
            f"loopline rollout start {one.name} REF",
            err=True,
        )
    if json:
        show.print_json(found)
        return
    click.echo(f"{found.ref} is withdrawn: {found.reason}")
    if not found.affected:
        click.echo("Nothing was made from it.")
        return
    click.echo(f"Made, trained or decided from it ({len(found.affected):,}):")
    for made in found.affected[:_SHOWN]:
        click.echo(f"  {made}")
    if len(found.affected) > _SHOWN:
        click.echo(f"  and {len(found.affected) - _SHOWN:,} more: the same with --json lists all.")


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def files(ctx: click.Context, ref: str, json: bool) -> None:
    """The Parquet files of the version REF, one a line: for Spark and others that read Parquet. Leave them as they are."""
    with session(ctx) as s:
        found = s.datasets.files(*names.dataset(s, ref))
    if json:
        show.print_json(found)
        return
    for file in found.files:
        click.echo(file)


COMMANDS = (diff, files, tag, untag, restore, withdraw)
