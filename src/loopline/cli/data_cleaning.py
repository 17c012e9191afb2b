"""`loopline data clean|cleaning`: a version cleaned by declared steps, and what a cleaning did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.data.records import Cleaned


@click.command()
@click.argument("ref")
@click.option(
    "--with", "steps", required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="The steps, as TOML or JSON.",
)  # fmt: skip
@click.option(
    "--fit", metavar="REF", help="The version that the steps learn from: the training side. Default: REF itself."
)
@click.option("--label", metavar="COLUMN", help="What is to be predicted: no step reads it.")
@click.option("--time", metavar="COLUMN", help="What orders the rows: no step changes it.")
@click.option("--group", metavar="COLUMN", help="What rows of one thing share: no step changes it.")
@click.option("--message", default="", help="Why there is this version.")
@as_json
@click.pass_context
def clean(
    ctx: click.Context,
    ref: str,
    steps: str,
    fit: str | None,
    label: str | None,
    time: str | None,
    group: str | None,
    message: str,
    json: bool,
) -> None:
    """Clean a version by the steps in a file, into the next version of NAME.clean; what is set aside is held in its quarantine."""
    declared = _read(Path(steps))
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        taught = None if fit is None else "data:{}@{}".format(*names.dataset(s, fit))
        found = s.datasets.clean(
            name, declared, version=version, fit=taught, label=label, time=time, group=group, message=message
        )
    if json:
        show.print_json(found)
        return
    click.echo(f"{found.made_from} is cleaned: {found.ref}.")
    _told(found)


@click.command()
@click.argument("ref")
@as_json
@click.pass_context
def cleaning(ctx: click.Context, ref: str, json: bool) -> None:
    """How a version was cleaned: the steps, what they learned from, rows and cells changed."""
    with session(ctx) as s:
        found = s.datasets.cleaning(*names.dataset(s, ref))
    if json:
        show.print_json(found)
        return
    show.title(found.ref)
    show.facts([("made from", found.made_from), ("learned from", found.fitted_on)])
    _told(found)


def _told(found: Cleaned) -> None:
    report = found.report
    show.table(
        ["step", "column", "cells", "missing before", "after", "made"],
        [(c.step, c.column, c.cells, c.missing, c.left, ", ".join(c.made)) for c in report.changes],
        empty="No step changed a cell.",
    )
    click.echo(
        f"{report.kept:,} of {report.rows:,} rows kept; {report.cells:,} cells of {report.changed:,} rows changed."
    )
    if report.aside:
        aside = ", ".join(f"{rule} {count:,}" for rule, count in report.aside.items())
        click.echo(
            f"  {report.rows - report.kept:,} rows are set aside ({aside}): loopline data quarantine list {found.ref}"
        )


def _read(path: Path) -> tuple[dict[str, Any], ...]:
    """The steps in a file of TOML or JSON."""
    import msgspec

    from loopline.errors import Invalid
    from loopline.quality.cleaning_steps import steps
    from loopline.quality.cleaning_toml import from_toml

    try:
        content = path.read_text(encoding="utf-8")
        declared = from_toml(content) if path.suffix == ".toml" else steps(msgspec.json.decode(content))
    except (UnicodeDecodeError, msgspec.DecodeError) as e:
        raise Invalid(f"{path} is no cleaning: {e}.", code="cleaning-toml", hint="Write the steps as TOML.") from e
    return tuple(msgspec.to_builtins(one) for one in declared)


COMMANDS = (clean, cleaning)
