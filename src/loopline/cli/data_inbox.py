"""`loopline data inbox`: what was posted to a dataset and waits for its next version."""

from __future__ import annotations

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session


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
        click.echo(f"Took {taken.rows:,} rows of {taken.posts:,} posts into {taken.version}.")
        if taken.quarantined:
            broken = ", ".join(f"{rule} {count:,}" for rule, count in taken.broken.items())
            held = f"loopline data quarantine list {taken.version}"
            click.echo(f"  {taken.quarantined:,} rows are held back ({broken}): {show.here(held)}")
    elif not waiting.posts:
        click.echo(f"Nothing that was posted to {waiting.dataset} waits.")
    if waiting.since is not None:
        click.echo(
            f"{waiting.rows:,} rows of {waiting.posts:,} posts wait, the first since {show.when(waiting.since)}."
        )
        take_now = show.here(f"loopline data inbox {called} --take")
        click.echo(f"  Take them now: {take_now}")
