"""`loopline ledger`: the append-only record, and the proof that it holds."""

from __future__ import annotations

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session

DOES_NOT_HOLD = 3
"""The exit code of `verify` where the ledger does not hold, or nothing outside the workspace proves that its end was not cut."""

UNPROVEN = frozenset({"no-copies", "copy-missing"})
"""Findings that are warnings, for each entry agrees, and yet no pass: who cuts the ledger's end off removes the copies as well,
and a script that asks `verify` is to hear of that."""


@group("ledger", "The ledger: every change, hash-linked, signed by checkpoints.")
def ledger() -> None:
    pass


@ledger.command()
@as_json
@click.pass_context
def verify(ctx: click.Context, json: bool) -> None:
    """Recompute the whole ledger and compare it with every signed checkpoint, here and outside the workspace.

    Exit code 0: it holds; 3: it does not, or copies of its checkpoints outside the workspace are missing, without which nothing
    proves that its end was not cut off. Each finding is on a line.
    """
    with session(ctx) as s:
        found = s.ledger.verify()
    proven = found.ok and not any(finding.kind in UNPROVEN for finding in found.findings)
    if json:
        show.print_json(found)
    else:
        if found.ok and not proven:
            click.echo(
                f"All {found.size:,} entries agree with {found.checkpoints:,} signed checkpoints, but only {found.copies:,} of "
                "them are copied outside the workspace, so the ledger is not proven whole:"
            )
        elif found.ok:
            click.echo(
                f"The ledger holds: {found.size:,} entries agree with {found.checkpoints:,} signed checkpoints, "
                f"{found.copies:,} of them outside the workspace."
            )
        else:
            click.echo(f"The ledger does not hold ({found.size:,} entries, {found.checkpoints:,} checkpoints agree):")
        for finding in found.findings:
            at = f" (entry {finding.seq})" if finding.seq is not None else ""
            click.echo(f"  {finding.severity} {finding.kind}{at}: {finding.message} {finding.hint}".rstrip())
        if found.unsigned:
            click.echo(f"  {found.unsigned:,} newer entries are not signed yet: loopline ledger checkpoint")
        click.echo(f"  root {found.root}")
    if not proven:
        ctx.exit(DOES_NOT_HOLD)


@ledger.command()
@click.argument("seq", type=click.IntRange(min=0))
@click.option("-o", "--out", metavar="FILE", help="Where to write it (else standard output).")
@click.pass_context
def prove(ctx: click.Context, seq: int, out: str | None) -> None:
    """The proof that entry SEQ is in the ledger, as JSON that anybody can check without Loopline."""
    import msgspec

    with session(ctx) as s:
        found = s.ledger.prove(seq=seq)
    if out is None:
        show.print_json(found)
        return
    show.put(out, msgspec.json.encode(found))
    click.echo(f"Wrote the proof of entry {found.seq} in a ledger of {found.size:,} entries to {out}.")


@ledger.command()
@as_json
@click.pass_context
def checkpoint(ctx: click.Context, json: bool) -> None:
    """Sign the ledger as it stands now, and copy the statement outside the workspace."""
    with session(ctx) as s:
        found = s.ledger.checkpoint()
    copied = f"; copied to {found.copy}" if found.copy else ""
    show.done(found, json, f"Signed: {found.size:,} entries, root {found.root}{copied}.")


@ledger.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_context
def checkpoints(ctx: click.Context, limit: int, json: bool) -> None:
    """The signed checkpoints, newest first."""
    with session(ctx) as s:
        found = s.ledger.checkpoints(limit=limit)
    if json:
        show.print_json(found)
        return
    show.table(
        ["entries", "root", "signed", "copy"],
        [(c.size, c.root, show.when(c.time), c.copy) for c in found],
        empty="No checkpoint yet: loopline ledger checkpoint",
    )


@ledger.command()
@click.option("--ref", help="Only entries that name this ref.")
@click.option("--operation", help="Only this operation, for example models.set_alias.")
@click.option("--principal", help="Only what this principal did.")
@click.option("--since", type=Moment(), metavar="TIME", help='Only after it: "2h" (ago), "2026-01-31".')
@click.option("--after", type=int, default=-1, help="Only after this place.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@as_json
@click.pass_context
def entries(
    ctx: click.Context,
    ref: str | None,
    operation: str | None,
    principal: str | None,
    since: int | None,
    after: int,
    limit: int,
    json: bool,
) -> None:
    """Entries in order, of all projects."""
    with session(ctx) as s:
        found = s.ledger.entries(
            ref=names.any_ref(s, ref) if ref else None,
            operation=operation,
            principal=principal,
            since=since,
            after=after,
            limit=limit,
        )
    if json:
        show.print_json(found)
        return
    show.table(
        ["entry", "at", "operation", "by", "project", "from", "made"],
        [
            (
                str(e.seq),
                show.when(e.time),
                f"{e.operation}{' (denied)' if e.record == 'denied' else ''}",
                e.principal,
                e.project,
                e.inputs,
                e.outputs,
            )
            for e in found
        ],
        empty="No such entries.",
    )


@ledger.command()
@click.argument("file")
@click.pass_context
def export(ctx: click.Context, file: str) -> None:
    """Write all entries, keys and checkpoints to FILE (NDJSON; - for standard output), for the stand-alone verifier."""
    with session(ctx) as s:
        show.save(s.ledger.export(), file, "the ledger")


@ledger.command("rotate-key")
@as_json
@click.pass_context
def rotate_key(ctx: click.Context, json: bool) -> None:
    """Sign with a new key from now on; the old one signs the change. This cannot be undone, and need not be."""
    with session(ctx) as s:
        found = s.ledger.rotate_key()
    show.done(found, json, f"A new key signs the ledger from now on ({found.size:,} entries, root {found.root}).")
