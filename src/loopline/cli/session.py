"""The session behind a command: a server's where one is given, else the workspace's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from loopline.catalog import Session

as_json = click.option("--json", "json", is_flag=True, help="Print JSON for programs.")


def settings_of(ctx: click.Context, **given: Any) -> Any:
    """The settings in force for this command."""
    from loopline.settings import load

    return load(workspace=ctx.obj["workspace"], project=ctx.obj["project"], **given)


@contextlib.contextmanager
def session(ctx: click.Context) -> Iterator[Session]:
    """The verbs, for the length of a command."""
    from loopline.client import connect

    opened = connect(
        ctx.obj["server"], token=ctx.obj["token"], project=ctx.obj["project"], workspace=ctx.obj["workspace"]
    )
    try:
        yield opened
    finally:
        opened.close()


def group(name: str, text: str) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands whose help names what it is about."""
    return click.group(name=name, help=text, context_settings={"help_option_names": ["-h", "--help"]})
