"""How results are shown: JSON for programs, tables for people, plain lines where there is no terminal."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """The value as JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "None yet.") -> None:
    """Rows under their columns: drawn on a terminal, tab-separated otherwise; `empty` where there are none."""
    found = [[_cell(value) for value in row] for row in rows]
    if not found:
        click.echo(empty, err=not sys.stdout.isatty())
        return
    if not sys.stdout.isatty():
        for row in [list(columns), *found]:
            click.echo("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = all(_numeric(row[place]) for row in found)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in found:
        drawn.add_row(*map(escape, row))
    Console().print(drawn)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; values that say nothing are left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def when(milliseconds: int | None) -> str:
    """A time as people write it, in this machine's zone."""
    if milliseconds is None:
        return ""
    return datetime.datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}={_cell(v)}" for k, v in value.items())
    return str(value)


def _numeric(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == ""
    return True
