"""`loopline doctor`: what is amiss with this machine and this workspace, and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NoReturn

import click

from loopline.cli import show
from loopline.cli.session import as_json, settings_of

AMISS = 1
"""The exit code where a check found a problem."""

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, json: bool) -> None:
    """Look at this machine and this workspace, change nothing, and say what is amiss.

    Exit code 0: nothing but warnings; 1: a problem. It works without a workspace, too.
    """
    from loopline.cli import machine, workspace
    from loopline.cli.checks import Check, attempt
    from loopline.errors import LooplineError

    found: list[Check] = []

    def take(name: str, look: Callable[[], Iterable[Check]]) -> None:
        for check in attempt(name, look):
            found.append(check)
            if not json:
                _print(check)

    take("Python", machine.python)
    take("packages", machine.packages)
    take("cores", machine.cores)
    take("memory", machine.memory)
    take("open files", machine.open_files)
    take("clock", machine.clock)
    try:
        settings = settings_of(ctx)
    except LooplineError as e:
        take("settings", partial(_raise, e))
    else:
        take("settings", lambda: workspace.settings(settings))
        take("workspace", lambda: workspace.folder(settings))
        take("address", lambda: machine.address(settings))
        take("database", lambda: workspace.database(settings))
        take("keys", lambda: workspace.keys(settings))
        take("left over", lambda: workspace.left_over(settings))
        if not any(check.name == "database" and check.state == "problem" for check in found):
            take("records", lambda: workspace.records(settings))
    if ctx.obj["server"]:
        take("server", lambda: machine.server(ctx.obj["server"], ctx.obj["token"]))
    problems = sum(check.state == "problem" for check in found)
    warnings = sum(check.state == "warning" for check in found)
    if json:
        show.print_json({"ok": problems == 0, "problems": problems, "warnings": warnings, "checks": found})
    else:
        click.echo(f"{problems or 'No'} problem{'' if problems == 1 else 's'}, {warnings or 'no'} "
                   f"warning{'' if warnings == 1 else 's'}.")  # fmt: skip
    if problems:
        ctx.exit(AMISS)


def _raise(error: Exception) -> NoReturn:
    raise error


def _print(check: object) -> None:
    from loopline.cli.checks import Check

    assert isinstance(check, Check)
    click.echo(f"{click.style(f'{check.state:<8}', fg=_COLOURS[check.state])} {check.name:<10} {check.said}")
    if check.way_out:
        click.echo(f"{'':<19} {check.way_out}")
