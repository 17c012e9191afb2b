"""`loopline runs delete`, `restore`, `purge` and `retention`."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.tracking.records import Retention, TagRetention


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@as_json
@click.pass_context
def delete(ctx: click.Context, runs: tuple[str, ...], json: bool) -> None:
    """Delete runs: they are kept aside, and take no more."""
    with session(ctx) as s:
        ids = [s.runs.show(names.one(s, run, "run")).id for run in runs]  # one that is not there: none is deleted
        found = [s.runs.delete(run) for run in ids]
    ids = [run.id for run in found]
    show.done(found, json, f"{show.count(len(ids), 'run')} deleted.", f"loopline runs restore {' '.join(ids)}")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@as_json
@click.pass_context
def restore(ctx: click.Context, runs: tuple[str, ...], json: bool) -> None:
    """Make deleted runs live again, as they were."""
    with session(ctx) as s:
        ids = [s.runs.show(names.one(s, run, "run")).id for run in runs]
        found = [s.runs.restore(run) for run in ids]
    show.done(found, json, f"{show.count(len(ids), 'run')} live again.", f"loopline runs delete {' '.join(ids)}")


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@click.option("--older-than", metavar="DURATION", help="Those deleted so long ago: 30d, 12h, 0s (else the retention).")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@click.pass_context
def purge(ctx: click.Context, runs: tuple[str, ...], older_than: str | None, dry_run: bool, json: bool) -> None:
    """Remove deleted runs for good, with their points and files. Nothing undoes it.

    Without RUN: all that were deleted long enough ago. Those that a model or dataset version names stay.
    """
    if runs and older_than:
        raise click.UsageError("RUN and --older-than do not go together.")
    from loopline.durations import milliseconds

    age = milliseconds(older_than, "--older-than") if older_than else None
    with session(ctx) as s:
        purged(s, json, dry_run=dry_run, older_than=age, runs=tuple(names.one(s, run, "run") for run in runs))


@click.command()
@click.argument("duration", required=False)
@click.option(
    "--tag", "tags", nargs=2, multiple=True, metavar="TAG DURATION", help="Keep runs with KEY or KEY=VALUE longer."
)
@as_json
@click.pass_context
def retention(ctx: click.Context, duration: str | None, tags: tuple[tuple[str, str], ...], json: bool) -> None:
    """How long deleted runs and groups are kept; with DURATION (30d, 12h, or `forever`), set it, with all its tags."""
    if tags and duration is None:
        raise click.UsageError("Give the DURATION for those without the tag, too.")
    rules = tuple(_rule(tag, kept) for tag, kept in tags)
    with session(ctx) as s:
        before = s.runs.retention()
        if duration is None:
            if json:
                show.print_json(before)
            else:
                click.echo(f"What is deleted is kept {_policy(before)}.")
            return
        found = s.runs.set_retention(_asked(duration), rules)
    undo = [_said(before.deleted), *(f"--tag {quote(_tag(rule))} {_said(rule.kept)}" for rule in before.tags)]
    text = f"What is deleted is kept {_policy(found)}; `loopline up` and `loopline gc` remove it then."
    show.done(found, json, text, f"loopline runs retention {' '.join(undo)}")


def purged(s: Session, json: bool, *, dry_run: bool, **which: Any) -> None:
    """Removes runs for good, call by call until none is left, and says what went and what stays."""
    runs: list[str] = []
    groups: list[str] = []
    while True:
        part = s.runs.purge(dry_run=dry_run, **which)
        runs += part.runs
        groups += part.groups
        which["runs"] = ()  # those that were named went with the first call
        if dry_run or not part.more:
            break
    if json:
        show.print_json({"runs": runs, "groups": groups, "needed": part.needed, "more": part.more})
        return
    said = f"{show.count(len(runs), 'run')}" + (f" and {show.count(len(groups), 'group')}" if groups else "")
    more = ", and more" if part.more else ""
    click.echo(f"{said} would be removed for good{more}." if dry_run else f"{said} removed for good.")
    if part.needed:
        click.echo(f"{show.count(len(part.needed), 'run')} kept, since something names them:")
        show.table(["run", "named by"], [(needed.run, needed.by) for needed in part.needed])


def _asked(duration: str) -> int | None:
    from loopline.durations import milliseconds

    return None if duration == "forever" else milliseconds(duration, "the retention")


def _said(deleted: int | None) -> str:
    from loopline.durations import written

    return "forever" if deleted is None else written(deleted)


def _rule(tag: str, duration: str) -> TagRetention:
    from loopline.tracking.records import TagRetention

    key, equals, value = tag.partition("=")
    return TagRetention(key=key, value=value if equals else None, kept=_asked(duration))


def _tag(rule: TagRetention) -> str:
    return rule.key if rule.value is None else f"{rule.key}={rule.value}"


def _policy(found: Retention) -> str:
    return "; ".join([_kept(found.deleted), *(f"with the tag {_tag(rule)}, {_kept(rule.kept)}" for rule in found.tags)])


def _kept(deleted: int | None) -> str:
    return "for ever" if deleted is None else f"for {show.lasting(deleted)}"


COMMANDS = (delete, restore, purge, retention)
"""What `loopline runs` has of these."""
