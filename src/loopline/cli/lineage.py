"""`loopline lineage`: where a thing came from, or what came of it, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.ledger.records import Edge, Lineage


@click.command()
@click.argument("ref")
@click.option("--forward", is_flag=True, help="What was made of it, instead of what it was made from.")
@click.option("--depth", type=click.IntRange(1, 50), default=50, show_default=True, help="How many steps to go.")
@click.option(
    "--openlineage",
    metavar="FILE|URL",
    help="Write the way back as OpenLineage events into FILE, or send them to the catalog at URL (OPENLINEAGE_API_KEY).",
)
@as_json
@click.pass_context
def lineage(ctx: click.Context, ref: str, forward: bool, depth: int, openlineage: str | None, json: bool) -> None:
    """Where REF came from, down to the hash of the file, read off the ledger.

    REF is any ref: model:NAME@3, NAME@champion, data:NAME@2, run:ID, alert:ID; a bare NAME is a model, or else a dataset.
    """
    if openlineage is not None:
        if forward:
            raise click.UsageError("OpenLineage events tell the way back: leave --forward out.", ctx)
        from loopline.cli import openlineage as catalog

        with session(ctx) as s:
            events = s.lineage.openlineage(ref=names.any_ref(s, ref), depth=depth)
        if openlineage.startswith(("http://", "https://")):
            sent = catalog.send(events.read(), openlineage)
            click.echo(f"Sent {sent:,} events of {ref} to {openlineage}.", err=True)
        else:
            show.save(events, openlineage, f"the lineage of {ref}")
        return
    with session(ctx) as s:
        found = s.lineage.trace(ref=names.any_ref(s, ref), direction="forward" if forward else "back", depth=depth)
    if json:
        show.print_json(found)
        return
    for line in tree(found):
        click.echo(line)
    if not found.edges:
        click.echo("Nothing was made of it yet." if forward else "Nothing leads to it: it begins here.")
    if found.cut:
        click.echo("It goes on further than this: see --depth.", err=True)


def tree(found: Lineage) -> list[str]:
    """The lineage as the lines of a tree; what was drawn above is named again, but not drawn again."""
    back = found.direction == "back"
    steps: dict[str, dict[str, Edge]] = {}
    for edge in found.edges:
        near, far = (edge.target, edge.source) if back else (edge.source, edge.target)
        steps.setdefault(near, {}).setdefault(far, edge)
    lines = [_node(found, found.ref)]
    drawn = {found.ref}

    def draw(ref: str, indent: str) -> None:
        onward = list(steps.get(ref, {}).items())
        for place, (other, edge) in enumerate(onward):
            last = place == len(onward) - 1
            again = other in drawn and other in steps
            by = f"  {edge.operation}, entry {edge.seq}"
            lines.append(
                f"{indent}{'└─ ' if last else '├─ '}{_node(found, other)}{by}{' (drawn above)' if again else ''}"
            )
            if not again:
                drawn.add(other)
                draw(other, indent + ("   " if last else "│  "))

    draw(found.ref, "")
    return lines


def _node(found: Lineage, ref: str) -> str:
    """A ref with the digest that tells its content, shortened; a source's ref holds the file's digest itself, in full."""
    digests = found.digests.get(ref, {})
    side = ref.partition("@")[0].rpartition(".")[2]  # the sides of a split were made by one call
    content = digests.get("content") or digests.get("bundle") or digests.get(side) or ""
    return f"{ref} [{content[:19]}]" if content else ref
