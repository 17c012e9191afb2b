"""`loopline data inbox`: what was posted to a dataset and waits for its next version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.data.records import Taken


@click.command()
@click.argument("name")
@click.option("--take", is_flag=True, help="Take what waits into the next version now.")
@as_json
@click.pass_context
def inbox(ctx: click.Context, name: str, take: bool, json: bool) -> None:
    """What was posted to the dataset NAME and waits for its next version. A running server takes it by itself."""
    with session(ctx) as s:
        called = names.one(s, name, "data")
        taken = s.inbox.take(called) if take else None
        waiting = s.inbox.waiting(called)
    if json:
        show.print_json(taken if take else waiting)
        return
    if taken is not None:
        say_taken(taken)
    elif not waiting.posts:
        click.echo(f"Nothing that was posted to {waiting.dataset} waits.")
    if waiting.since is not None:
        what = f"{show.count(waiting.rows, 'row')} of {show.count(waiting.posts, 'post')}"
        wait = "waits" if waiting.rows == 1 else "wait"
        click.echo(f"{what} {wait}, the first since {show.when(waiting.since)}.")
        take_now = show.here(f"loopline data inbox {called} --take")
        click.echo(f"  Take them now: {take_now}")


def say_taken(taken: Taken) -> None:
    """Says what became of the posts that waited."""
    what = f"{show.count(taken.rows, 'row')} of {show.count(taken.posts, 'post')}"
    click.echo(f"Took {what} into {taken.version}.")
    if taken.quarantined:
        broken = ", ".join(f"{rule} {count:,}" for rule, count in taken.broken.items())
        held = show.here(f"loopline data quarantine list {taken.version}")
        click.echo(f"  {held_back(taken.quarantined)} ({broken}): {held}")


def held_back(rows: int) -> str:
    """That so many rows are in quarantine."""
    return f"{show.count(rows, 'row')} {'is' if rows == 1 else 'are'} held back"
