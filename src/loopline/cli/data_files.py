"""`loopline data add --files|checkout|status`: folders of files as versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.data.manifest import FilesDiff
    from loopline.data.records import DatasetVersion

_SHOWN = 50


def add_folder(ctx: click.Context, s: Session, name: str, folder: str, message: str) -> DatasetVersion:
    """The folder as the next version of the dataset."""
    from loopline.data.files.adding import add

    version = add(s.files, name, Path(folder), states=_states(ctx), message=message)
    keep_out_of_git(folder)
    return version


def keep_out_of_git(folder: str) -> None:
    """Writes a folder that is in a Git repository into the .gitignore beside it, so that its files are not added there."""
    from loopline.tracking.working_copy import ignored

    place = Path(folder).resolve()
    if (place / ".git").exists() or ignored(place):
        return
    beside = place.with_name(".gitignore")
    with beside.open("a+") as file:
        file.seek(0)
        text = file.read()
        file.write(("" if not text or text.endswith("\n") else "\n") + f"/{place.name}\n")
    click.echo(f"/{place.name} is in {beside} now: Git keeps the code, the dataset the files.", err=True)


def say_added(version: DatasetVersion, *, new: bool) -> None:
    """What was added."""
    said = "Added" if new else "The same content is there already:"
    click.echo(f"{said} {version.ref}: {version.files:,} files, {show.size(version.bytes)}.")
    if "case" in version.facts:
        click.echo(f"Beware: {version.facts['case']}.", err=True)


def say_diff(found: FilesDiff) -> None:
    """What changed between two versions."""
    show.title(f"{found.before} to {found.after}")
    _say(found, "Nothing changed.")


@click.command()
@click.argument("ref")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--writable", is_flag=True, help="Copy the files, so that they can be changed in place.")
@click.option("--force", is_flag=True, help="Write over what was changed by hand.")
@as_json
@click.pass_context
def checkout(ctx: click.Context, ref: str, folder: str, writable: bool, force: bool, json: bool) -> None:
    """Make FOLDER hold the files of the version REF, read-only. What else is in it stays.

    Whole files are linked from the store, large ones put together. It can be ended anywhere and done again.
    """
    from loopline.data.files.checkout import checkout as check_out

    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        withdrawn = s.datasets.show(name, version).withdrawn
        found = check_out(s.files, name, version, Path(folder), states=_states(ctx), force=force, writable=writable)
    keep_out_of_git(folder)
    if json:
        show.print_json(found)
        return
    if withdrawn:
        click.echo(f"Beware: {found.ref} is withdrawn: {withdrawn}", err=True)
    click.echo(
        f"{found.folder} holds {found.ref}: {found.placed:,} files placed ({show.size(found.bytes)}), "
        f"{found.same:,} were there, {found.removed:,} removed."
    )


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@as_json
@click.pass_context
def status(ctx: click.Context, folder: str, json: bool) -> None:
    """How FOLDER differs from the version that it was added as or checked out from. Ends with 1 where it does."""
    from loopline.data.files.state import status as status_of

    found = status_of(_states(ctx), Path(folder))
    if json:
        show.print_json(found)
    else:
        show.title(f"{found.folder}, {found.ref}")
        _say(found, "Nothing differs.")
    ctx.exit(0 if found.clean else 1)


@click.command("import-dvc")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--remote",
    type=click.Path(file_okay=False),
    help="The folder that `dvc push` fills; else the cache of FILE's repository, and its remote.",
)
@click.option("--message", default="", help="Why there is this version.")
@as_json
@click.pass_context
def import_dvc(ctx: click.Context, name: str, file: str, remote: str | None, message: str, json: bool) -> None:
    """Make what the FILE of DVC (x.dvc) names the next version of the dataset NAME."""
    from loopline.data.files.dvc import import_dvc as import_files

    with session(ctx, creates=True) as s:
        known = {d.name: d.versions for d in s.datasets.list()}
        called = names.one(s, name, "data")
        version = import_files(s.files, called, Path(file), Path(remote) if remote else None, message=message)
    if json:
        show.print_json(version)
        return
    say_added(version, new=version.version > known.get(version.name, 0))


@click.command("export-dvc")
@click.argument("ref")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--remote",
    type=click.Path(file_okay=False),
    help="A folder that `dvc pull` reads from; else the cache of FILE's repository, for `dvc checkout` and `dvc push`.",
)
@as_json
@click.pass_context
def export_dvc(ctx: click.Context, ref: str, file: str, remote: str | None, json: bool) -> None:
    """Write the files of the version REF as the FILE of DVC (x.dvc), and into the cache of its repository or a remote."""
    from loopline.data.files.dvc import export_dvc as export_files

    with session(ctx) as s:
        place, count = export_files(s.files, *names.dataset(s, ref), Path(file), Path(remote) if remote else None)
    show.done({"files": count}, json, f"{count:,} files of {ref} are in {place}, and {file} names them.")


def _say(found: Any, nothing: str) -> None:
    listed = [
        (what, path)
        for what, paths in (("added", found.added), ("removed", found.removed), ("changed", found.changed))
        for path in paths
    ]
    for what, path in listed[:_SHOWN]:
        click.echo(f"{what:8} {path}")
    if len(listed) > _SHOWN:
        click.echo(f"and {len(listed) - _SHOWN:,} more: --json lists all.")
    click.echo(
        f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed, {found.same:,} as before."
        if listed
        else nothing
    )


def _states(ctx: click.Context) -> Path:
    return settings_of(ctx).workspace / "folders"


COMMANDS = (checkout, status, import_dvc, export_dvc)
