"""How results are shown: JSON for programs, tables for people, plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import datetime
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from loopline.operations import Bytes


_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def print_json(value: Any) -> None:
    """The value as JSON on standard output."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def done(value: Any, json: bool, text: str, undo: str = "") -> None:
    """What a command did, and how to undo it; as JSON the record it gave."""
    if json:
        print_json(value)
        return
    click.echo(text)
    if undo:
        click.echo(f"  Undo it: {here(undo)}")


def here(command: str) -> str:
    """A command as it is typed for the very place of this one: its workspace or server, and its project, where they were given."""
    given = click.get_current_context().obj
    options = [f"--{name} {shlex.quote(given[name])}" for name in ("workspace", "server", "project") if given[name]]
    return " ".join([command, *options])


def title(text: str) -> None:
    """A line that heads what follows."""
    click.echo(click.style(text, bold=True))


def save(content: Bytes, path: str | None, what: str) -> None:
    """Raw bytes into a file, or on standard output where none is named (`-` is none, too)."""
    if path in (None, "-"):
        sys.stdout.buffer.writelines(content.chunks())
        sys.stdout.buffer.flush()
        return
    with _written(str(path)), Path(str(path)).open("wb") as file:
        file.writelines(content.chunks())
        written = file.tell()
    click.echo(f"Wrote {what} to {path} ({size(written)}).", err=True)


def put(path: str, data: bytes) -> None:
    """Writes a file that the caller named, over one that is there. Raises `Invalid` where it cannot be."""
    with _written(path):
        Path(path).write_bytes(data)


def make_folder(path: Path) -> None:
    """Makes a folder that the caller named, where it is not there. Raises `Invalid` where it cannot be."""
    with _written(str(path)):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _written(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        from loopline.errors import Invalid

        raise Invalid(f"{path} cannot be written: {e.strerror}.", code="bad-file", hint="Name another file.") from e


def size(count: int) -> str:
    """A number of bytes as people read it."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def interval(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """A metric with its interval: roc_auc 0.703 [0.695, 0.711]."""
    return f"{name} {value:.4g}" + (f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else "")


def ago(milliseconds: int | None, now: int) -> str:
    """How long ago a time was, roughly: 3 min ago."""
    return "" if milliseconds is None else f"{lasting(max(0, now - milliseconds))} ago"


def count(number: int, thing: str) -> str:
    """How many of a thing: 1 row, 2,000 rows."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def lasting(milliseconds: int) -> str:
    """How long something takes, roughly: 3 min."""
    seconds = milliseconds / 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "None yet.") -> None:
    """Rows under their columns: drawn on a terminal, tab-separated otherwise; `empty` where there are none."""
    found = [[cell(value) for value in row] for row in rows]
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

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        numeric = all(_numeric(row[place]) for row in found)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in found:
        drawn.add_row(*map(escape, row))
    Console().print(drawn)


def rows(found: Sequence[dict[str, Any]], *, empty: str) -> None:
    """Rows of data as a table; numbers as they are, without the commas of a count."""
    columns = list(found[0]) if found else []
    table(columns, [[_plain(row.get(column)) for column in columns] for row in found], empty=empty)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; values that say nothing are left out."""
    shown = [(name, cell(value)) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def when(milliseconds: int | None) -> str:
    """A time as people write it, in this machine's zone."""
    if milliseconds is None:
        return ""
    try:
        return datetime.datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # no year that people have
        return f"{milliseconds} ms"


def cell(value: Any) -> str:
    """A value in a table: numbers in few digits, counts with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}={cell(v)}" for k, v in value.items())
    # Names and texts are of anybody: what would steer the terminal (escape sequences, line ends) is shown, not sent.
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], str(value))


def exact(value: Any) -> str:
    """A value as it is, in JSON where it is no text: a param is not rounded, and a seed has no commas."""
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _numeric(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == ""
    return True
