"""One run of a loop, from its rows to a verdict, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from loopline.data.records import DatasetVersion
from loopline.errors import Conflict
from loopline.loop.declaration import Loop
from loopline.loop.house import House
from loopline.loop.stages import Stages
from loopline.pipeline.engine import Node, Watcher, key_of, ordered
from loopline.pipeline.engine import run as run_graph

Outcome = Literal["promoted", "challenging", "refused", "waiting"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of a loop came to.

    `promoted`: a first version became champion (or it is the same one); `challenging`: a version passed the gates and its rollout
    has begun; `refused` by a gate; `waiting` for a person's approval.
    """

    loop: str
    outcome: Outcome
    reason: str
    run: str
    model: str | None
    evaluation: str | None
    rollout: str | None = None
    metrics: dict[str, tuple[float, float, float]] = {}


def run_loop(
    loop: Loop,
    house: House,
    path: Path,
    *,
    scratch: Path,
    reason: str = "",
    onto: DatasetVersion | None = None,
    facts: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
    seed: int = 0,
    threads: int = 2,
) -> Result:
    """Runs the loop's stages on a file of rows (behind those of a version, `onto`); takes up a run that was cut off.

    Raises what a stage raises, and `Conflict` before any of them where a rollout would be in the way of what they make.
    """
    stages = Stages(loop, house, path, scratch=scratch, onto=onto, facts=facts, seed=seed, threads=threads)
    nodes = stages.nodes()
    _check_free(loop, house, nodes)
    record, outputs = run_graph(loop.name, nodes, house.pipelines, reason=reason, watcher=watcher, stop=stages.stop)
    evaluation = outputs.get("evaluate", {}).get("evaluation")
    metrics = {name: tuple(values) for name, values in outputs.get("evaluate", {}).get("metrics", {}).items()}
    if record.status == "stopped":
        refused = outputs["verdicts"]["outcome"] == "fail"
        return Result(
            loop=loop.name,
            outcome="refused" if refused else "waiting",
            reason=record.message,
            run=record.ref,
            model=outputs["fit"]["model"],
            evaluation=evaluation,
            metrics=metrics,
        )
    deployed = outputs["deploy"]
    return Result(
        loop=loop.name,
        outcome="promoted" if deployed["alias"] == "champion" else "challenging",
        reason=deployed["said"],
        run=record.ref,
        model=deployed["model"],
        evaluation=evaluation,
        rollout=deployed.get("rollout"),
        metrics=metrics,
    )


def _check_free(loop: Loop, house: House, nodes: list[Node]) -> None:
    """Raises where a rollout is under way: nothing is trained, and no test row looked at, for what could not challenge then."""
    under_way = house.rollouts.list(loop.name, status="running")
    if not under_way:
        return
    key = key_of(ordered(nodes))
    # A run that has its evidence already only finds again what it did: it may be the one that began the rollout.
    if any(r.key == key and any(s.step == "evaluate" for s in r.steps) for r in house.pipelines.list(loop.name)):
        return
    raise Conflict(
        f"The rollout {under_way[0].id} is under way on {loop.name}: a new version could not challenge before it ends.",
        code="rollout-running",
        hint=f"Let it end, or roll it back: loopline rollout back {loop.name}",
    )
