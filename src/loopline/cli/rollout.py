"""`loopline rollout`: guarded plans that move an endpoint from its champion to a challenger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.deployment.records import Decision, Rollout, Stage

_UNDER_WAY = "Takes a rollout by its id, or the one under way on an endpoint."


@group("rollout", "Rollouts. ROLLOUT is rollout:ID, ID, or the name of an endpoint.")
def rollout() -> None:
    pass


@rollout.command()
@click.argument("endpoint", required=False)
@click.option("--status", type=click.Choice(["running", "promoted", "kept", "rolled_back"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_context
def ls(ctx: click.Context, endpoint: str | None, status: str | None, limit: int, json: bool) -> None:
    """The newest rollouts, on all endpoints or on ENDPOINT."""
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint") if endpoint else None
        found = s.rollouts.list(endpoint=name, status=status, limit=limit)
    if json:
        show.print_json(found)
        return
    show.table(
        ["rollout", "endpoint", "challenger", "champion", "status", "stage", "reason", "started"],
        [
            (r.id, r.endpoint, r.challenger, r.champion, r.status, _stage(r), r.reason, show.when(r.started))
            for r in found
        ],
        empty="No rollouts yet.",
    )


@rollout.command("show")
@click.argument("rollout")
@as_json
@click.pass_context
def show_rollout(ctx: click.Context, rollout: str, json: bool) -> None:
    """One rollout: its plan, where it stands, every decision with its reason."""
    with session(ctx) as s:
        found = names.rollout(s, rollout)
    if json:
        show.print_json(found)
        return
    show.title(found.ref)
    show.facts(
        [
            ("endpoint", found.endpoint),
            ("challenger", found.challenger),
            ("champion", found.champion),
            ("status", found.status.replace("_", " ") + (f": {found.reason}" if found.reason else "")),
            ("stage", _stage(found)),
            ("plan", [_words(stage) for stage in found.plan.stages]),
            ("started", show.when(found.started)),
            ("ended", show.when(found.ended)),
        ]
    )
    show.table(
        ["at", "stage", "decision", "reason"],
        [(show.when(d.at), d.stage + 1, d.decision.replace("_", " "), d.reason) for d in found.steps],
        empty="No decision yet.",
    )


@rollout.command()
@click.argument("endpoint")
@click.argument("model")
@click.option("--shadow-rows", type=click.IntRange(min=1), help="First score copies of this many rows, answering none.")
@click.option(
    "--canary", default="5,25,50", show_default=True, help="Then answer these percentages, one after another."
)
@click.option("--rows", type=click.IntRange(min=1), help="Rows that the challenger answers at each percentage.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Time at each percentage (default, without --rows: 3600).",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="Promoted where labels show it to be no worse than the champion by more than this.",
)
@as_json
@click.pass_context
def start(
    ctx: click.Context,
    endpoint: str,
    model: str,
    shadow_rows: int | None,
    canary: str,
    rows: int | None,
    seconds: float | None,
    margin: float,
    json: bool,
) -> None:  # fmt: skip
    """Roll the registered version MODEL out on ENDPOINT. While `loopline up` runs, it goes on and is judged by itself."""
    from loopline.deployment.records import Plan, Stage

    lasts = seconds if seconds is not None else 0.0 if rows else 3600.0
    stages = [Stage(kind="shadow", rows=shadow_rows)] if shadow_rows else []
    stages += [Stage(kind="canary", percent=p, rows=rows or 0, seconds=lasts) for p in _percents(canary)]
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        ref = s.models.show(*names.model(s, model)).ref
        found = s.rollouts.start(name, ref, Plan(stages=tuple(stages), margin=margin))
    show.done(
        found,
        json,
        f"The rollout {found.id} of {found.challenger} on {name} has begun: {_stage(found)}.",
        f"loopline rollout back {name}",
    )


@rollout.command(epilog=_UNDER_WAY)
@click.argument("rollout")
@click.option("--reason", default="by hand", show_default=True)
@as_json
@click.pass_context
def advance(ctx: click.Context, rollout: str, reason: str, json: bool) -> None:
    """Take a rollout to its next stage, without waiting for it."""
    found = _decide(ctx, rollout, "advance", reason)
    show.done(found, json, f"{found.challenger} is at {_stage(found)}.", f"loopline rollout back {found.endpoint}")


@rollout.command(epilog=_UNDER_WAY)
@click.argument("rollout")
@click.option("--reason", default="by hand", show_default=True)
@as_json
@click.pass_context
def promote(ctx: click.Context, rollout: str, reason: str, json: bool) -> None:
    """End a rollout: the challenger becomes champion and answers all."""
    found = _decide(ctx, rollout, "promote", reason)
    name = found.challenger.removeprefix("model:").partition("@")[0].rpartition("/")[2]
    show.done(
        found,
        json,
        f"{found.challenger} is champion of {found.endpoint} now.",
        f"loopline deploy {found.endpoint} {found.champion} && loopline models roll-back {name} champion",
    )


@rollout.command(epilog=_UNDER_WAY)
@click.argument("rollout")
@click.option("--reason", default="by hand", show_default=True)
@as_json
@click.pass_context
def keep(ctx: click.Context, rollout: str, reason: str, json: bool) -> None:
    """End a rollout: the champion stays, the challenger answers nothing and may be tried again."""
    found = _decide(ctx, rollout, "keep", reason)
    show.done(
        found,
        json,
        f"{found.champion} stays champion of {found.endpoint}; {found.challenger} is kept as challenger.",
        f"loopline rollout start {found.endpoint} {found.challenger}",
    )


@rollout.command(epilog=_UNDER_WAY)
@click.argument("rollout")
@click.option("--reason", default="by hand", show_default=True)
@as_json
@click.pass_context
def back(ctx: click.Context, rollout: str, reason: str, json: bool) -> None:
    """End a rollout at once: the champion answers all again."""
    found = _decide(ctx, rollout, "roll_back", reason)
    show.done(
        found,
        json,
        f"Rolled back: {found.champion} answers all of {found.endpoint} again.",
        f"loopline rollout start {found.endpoint} {found.challenger}",
    )


def _decide(ctx: click.Context, text: str, decision: Decision, reason: str) -> Rollout:
    with session(ctx) as s:
        return s.rollouts.decide(names.rollout(s, text, running=True).id, decision, reason)


def _stage(rollout: Rollout) -> str:
    stages = rollout.plan.stages
    return f"{rollout.stage + 1} of {len(stages)}: {_words(stages[rollout.stage])}"


def _words(stage: Stage) -> str:
    what = "shadow" if stage.kind == "shadow" else f"{stage.percent}%"
    lasts = [f"{stage.rows:,} rows"] if stage.rows else []
    lasts += [f"{stage.seconds:g} s"] if stage.seconds else []
    lasts += [f"{stage.labels:,} labels"] if stage.labels else []
    return f"{what} for {' and '.join(lasts)}" if lasts else what


def _percents(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.replace("%", "").split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or sorted(set(found)) != found or not 0 < found[0] <= found[-1] < 100:
        raise click.BadParameter(
            f"{text!r} are no rising percentages from 1 to 99. Write 5,25,50.", param_hint="--canary"
        )
    return found
