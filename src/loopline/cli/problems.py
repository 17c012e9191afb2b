"""How an error is told on the command line, and the exit code it ends with."""

from __future__ import annotations

import sys

import click

from loopline.errors import LooplineError

EXIT_CODES = {"invalid": 2, "not_found": 2, "conflict": 2, "refused": 3, "unavailable": 4, "missing_extra": 5}


def report(error: Exception) -> int:
    """Tells an error on standard error (as JSON where `--json` was asked for) and gives the exit code.

    An error of ours is a sentence and a way out; anything else is a fault of the program and raised as it is.
    """
    if not isinstance(error, LooplineError):
        raise error
    if "--json" in sys.argv:
        import msgspec

        click.echo(msgspec.json.encode(error.to_dict()).decode(), err=True)
    else:
        click.echo(f"{click.style('Error', fg='red', bold=True)} [{error.code}] {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
    return EXIT_CODES.get(error.branch, 1)
