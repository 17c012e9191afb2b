"""`loopline data`: datasets and their versions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from loopline.cli import (
    data_cleaning,
    data_contract,
    data_files,
    data_inbox,
    data_retention,
    data_sources,
    data_split,
    data_versions,
    names,
    quarantine,
    show,
)
from loopline.cli.session import as_json, group, session
from loopline.refs import parse

_SEVERITY = {3: "likely wrong", 2: "look at it", 1: "to know"}


@group(
    "data",
    "Datasets and their immutable versions. REF is data:NAME@VERSION, NAME@VERSION or NAME (the newest); "
    "a version is a number, a tag, or a day such as 2026-03-01 (the newest at its end, UTC).",
)
def data() -> None:
    pass


for command in (
    quarantine.quarantine,
    data_inbox.inbox,
    *data_sources.COMMANDS,
    *data_cleaning.COMMANDS,
    *data_contract.COMMANDS,
    *data_files.COMMANDS,
    *data_retention.COMMANDS,
    *data_split.COMMANDS,
    *data_versions.COMMANDS,
):
    data.add_command(command)


@data.command()
@as_json
@click.pass_context
def ls(ctx: click.Context, json: bool) -> None:
    """All datasets, newest first."""
    with session(ctx) as s:
        found = s.datasets.list()
    if json:
        show.print_json(found)
        return
    show.table(
        ["dataset", "versions", "newest", "rows", "since"],
        [(d.name, d.versions, d.latest, d.rows, show.when(d.created)) for d in found],
        empty="No datasets yet. Add one: loopline data add NAME SOURCE",
    )


@data.command()
@click.argument("ref")
@as_json
@click.pass_context
def log(ctx: click.Context, ref: str, json: bool) -> None:
    """The versions of a dataset, newest first."""
    with session(ctx) as s:
        found: Any = s.datasets.log(names.dataset(s, ref)[0])
    if json:
        show.print_json(found)
        return
    show.table(
        ["version", "rows", "held back", "made from", "", "message", "by", "at"],
        [
            (
                v.ref, f"{v.files:,} files" if v.manifest else v.rows, v.quarantined, _origin(v), _state(v), v.message,
                v.creator, show.when(v.created),
            )
            for v in found
        ],
    )  # fmt: skip


@data.command("show")
@click.argument("ref")
@as_json
@click.pass_context
def show_version(ctx: click.Context, ref: str, json: bool) -> None:
    """One version: columns, origin, contract, looks."""
    with session(ctx) as s:
        found = s.datasets.show(*names.dataset(s, ref))
        collected = next((one for one in s.sources.list() if one.name == found.name), None)
        if collected is not None and found.version < (parse(collected.ref).number or 0):
            collected = None  # how it is collected now is nothing of an earlier version
    if json:
        show.print_json(found)
        return
    show.title(found.ref)
    show.facts(
        [
            ("rows", found.rows if not found.manifest else ""),
            ("files", f"{found.files:,}, {show.size(found.bytes)}" if found.manifest else ""),
            ("held back", found.quarantined),
            ("broken", found.broken),
            ("warned of", found.warned),
            ("sealed", f"yes, {found.looks} looks so far" if found.sealed else ""),
            ("opened", f"rows of it stand in {found.opened}: it is evidence no more" if found.opened else ""),
            ("withdrawn", found.withdrawn),
            ("removed", show.when(found.purged) if found.purged else ""),
            ("unsound", f"{found.unsound} is withdrawn" if found.unsound not in ("", found.ref) else ""),
            ("tags", ", ".join(found.tags)),
            ("labels", ", ".join(f"{one.column}, {one.matures} after {one.time}" for one in found.labels)),
            ("made from", ", ".join(found.inputs)),
            ("source", found.source),
            ("digest", found.digest),
            ("contract", found.contract),
            ("facts", found.facts),
            ("message", found.message),
            ("added", f"{show.when(found.created)} by {found.creator}"),
            *(data_sources.lines(collected) if collected is not None else ()),
        ]
    )
    if found.manifest:
        return
    show.table(["column", "type"], [(c.name, c.type) for c in found.columns])


@data.command()
@click.argument("source")
@click.option("--full", is_flag=True, help="Look for more: what goes together, near repeats, how texts are spelled.")
@click.option("--label", metavar="COLUMN", help="What is to be predicted: what gives it away is told.")
@click.option("--html", metavar="FILE", help="Write the profile as a page instead.")
@as_json
@click.pass_context
def profile(ctx: click.Context, source: str, full: bool, label: str | None, html: str | None, json: bool) -> None:
    """The profile of SOURCE, a version or a file: each column's values, what is missing, what stands out."""
    from loopline.operations import Bytes

    form = "html" if html else "json"
    if Path(source).is_file():
        content = _profile_of_file(Path(source), form, full, label)
    else:
        with session(ctx) as s, data_contract.file_or_version(source):
            content = s.datasets.profile(*names.dataset(s, source), form=form, full=full, label=label).read()
    if html:
        show.save(Bytes(media="text/html", data=content), html, f"the profile of {source}")
        return
    if json:
        click.echo(content.decode())
        return
    from loopline.quality.profile import Profile
    from loopline.quality.profile_page import HEAD, PAIRS, TELLING, pairs, rows, telling

    summary = Profile.from_json(content)
    show.table(HEAD, rows(summary))
    if found := telling(summary):
        show.table(TELLING, found)
    if summary.full is not None:
        show.table(PAIRS, pairs(summary.full), empty="No two columns go together.")
    for warning in summary.warnings():
        click.echo(f"{_SEVERITY[warning.severity]}: {warning.text}")


def _profile_of_file(path: Path, form: str, full: bool, label: str | None) -> bytes:
    from loopline.data.readers import read_table
    from loopline.quality.profile import profile as profile_of
    from loopline.quality.profile_blocks import profile_blocks
    from loopline.quality.profile_page import page

    rows = read_table(path).rows
    made = profile_of(rows.frame(), label=label, full=full) if full or label is not None else profile_blocks(rows)
    return page(made, title=path.name).encode() if form == "html" else made.to_json()


@data.command()
@click.argument("ref")
@click.option("--rows", type=click.IntRange(1, 100_000), default=10, show_default=True, help="How many.")
@data_split.AS_OF
@as_json
@click.pass_context
def read(ctx: click.Context, ref: str, rows: int, as_of: int | None, json: bool) -> None:
    """The first rows of a version that is not sealed. That you looked is put on the ledger."""
    import polars as pl

    with session(ctx) as s:
        named = names.dataset(s, ref)
        version, content = s.datasets.show(*named), s.datasets.read(*named, as_of=as_of).read()
        known = s.datasets.labels(*named, as_of=as_of)
    frame = pl.read_ipc_stream(io.BytesIO(content))
    found = frame.head(rows).to_dicts()
    if json:
        show.print_json(found)
        return
    show.rows(found, empty="It has no rows.")
    if sealed := version.rows - frame.height:
        click.echo(f"{sealed:,} of its {version.rows:,} rows are sealed for evaluation and left out.", err=True)
    for one in known:
        if one.immature:
            click.echo(f"{one.immature:,} labels of {one.column} were not known then, and are missing.", err=True)


def _state(version: Any) -> str:
    """The tags of a version, whether its content is there, and whether nothing is to be learned from it."""
    bad = "removed" if version.purged else "withdrawn" if version.withdrawn else "unsound" if version.unsound else ""
    return ", ".join(filter(None, [*(f"@{tag}" for tag in version.tags), bad]))


def _origin(version: Any) -> str:
    commit = version.facts.get("commit", "")[:10]
    changed = " and changes" if version.facts.get("dirty") == "yes" else ""
    return ", ".join(
        filter(None, [version.source.partition("@")[0], *version.inputs, f"at {commit}{changed}" if commit else ""])
    )
