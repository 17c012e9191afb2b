"""`loopline runs`: the files of a run, and what it printed."""

from __future__ import annotations

from pathlib import Path

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session


@click.command()
@click.argument("run")
@click.argument("path", required=False)
@click.option(
    "-o",
    "--out",
    metavar="PLACE",
    help="Where to write the file PATH (else standard output), or the folder PATH or all.",
)
@as_json
@click.pass_context
def artifacts(ctx: click.Context, run: str, path: str | None, out: str | None, json: bool) -> None:
    """The files of a run; with PATH, that file, or those of that folder."""
    from loopline.tracking.paths import check_path

    with session(ctx) as s:
        name = names.one(s, run, "run")
        folder = f"{path.rstrip('/')}/" if path is not None else ""
        kept = s.runs.artifacts(name)
        found = [one for one in kept if one.path.startswith(folder)]
        if path is not None and (not found or any(one.path == path for one in kept)):
            show.save(s.runs.artifact(name, path), out, path)
            return
        if out is not None:
            for one in found:
                place = Path(out, check_path(one.path.removeprefix(folder)))
                show.make_folder(place.parent)
                show.save(s.runs.artifact(name, one.path), str(place), one.path)
            return
    if json:
        show.print_json(found)
        return
    show.table(
        ["path", "size", "digest", "at"],
        [(a.path, show.size(a.size), a.digest, show.when(a.created)) for a in found],
        empty="It keeps no files.",
    )


@click.command("remove-artifact")
@click.argument("run")
@click.argument("path")
@as_json
@click.pass_context
def remove_artifact(ctx: click.Context, run: str, path: str, json: bool) -> None:
    """Remove a file of a run, or all files of a folder."""
    with session(ctx) as s:
        name = names.one(s, run, "run")
        found = s.runs.remove_artifact(name, path)
    gone = ", ".join(f"{file.path} ({show.size(file.size)})" for file in found)
    show.done(found, json, f"Removed from run:{name}, for good: {gone}. The ledger keeps the digest.")


@click.command()
@click.argument("run")
@click.option("-o", "--out", metavar="FILE", help="Where to write it (else standard output).")
@as_json
@click.pass_context
def console(ctx: click.Context, run: str, out: str | None, json: bool) -> None:
    """What a run printed."""
    with session(ctx) as s:
        printed = s.runs.console(names.one(s, run, "run"))
    if json:
        show.print_json({"text": printed.read().decode()})
        return
    show.save(printed, out, "console.log")


COMMANDS = (artifacts, remove_artifact, console)
"""What `loopline runs` has of these."""
