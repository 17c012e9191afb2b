"""Running a graph of steps: in order, each durable once done, none done twice for the same inputs.

A step is a function from references to references. Its key is the digest of its name, its code's digest and the outputs of the
steps it needs; a step whose key is on the journal gives what it gave then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.errors import Invalid, did_you_mean
from loopline.hashing import digest_json
from loopline.pipeline.records import PipelineRun
from loopline.pipeline.verbs import PipelinesVerbs

Outputs = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One step of a graph.

    `work` takes the outputs of the steps in `needs`, by name, and gives its own: refs and small JSON values. `given` is all else
    that its result depends on (parameters, the digest of its code); `cached` is False for a step that must happen each run.
    """

    name: str
    work: Callable[[Mapping[str, Outputs]], Outputs]
    needs: Sequence[str] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = True


class Watcher:
    """What is told of the steps as they go; does nothing itself."""

    def started(self, step: str) -> None:
        """A step begins."""

    def ended(self, step: str, outputs: Outputs, seconds: float, *, reused: bool) -> None:
        """A step is done, or was found done."""


def ordered(nodes: Iterable[Node]) -> list[Node]:
    """The nodes so that each comes after those it needs. Raises `Invalid` on an unknown need, a name given twice or a circle."""
    by_name: dict[str, Node] = {}
    for node in nodes:
        if node.name in by_name:
            raise Invalid(f"Two steps are named {node.name!r}.", code="bad-pipeline", hint="Rename one.")
        by_name[node.name] = node
    done: dict[str, Node] = {}
    under_way: list[str] = []

    def visit(name: str, wanted_by: str) -> None:
        if name in done:
            return
        if name not in by_name:
            raise Invalid(
                f"Step {wanted_by!r} needs {name!r}, which is no step.",
                code="bad-pipeline",
                hint=did_you_mean(name, by_name),
            )
        if name in under_way:
            circle = " -> ".join([*under_way[under_way.index(name) :], name])
            raise Invalid(f"The steps need each other in a circle: {circle}.", code="bad-pipeline")
        under_way.append(name)
        for need in by_name[name].needs:
            visit(need, name)
        under_way.pop()
        done[name] = by_name[name]

    for name in by_name:
        visit(name, name)
    return list(done.values())


def key_of(plan: Iterable[Node]) -> str:
    """The key of a run of ordered nodes: the digest of all that it depends on."""
    return digest_json([[node.name, list(node.needs), dict(node.given)] for node in plan])


def run(
    name: str,
    nodes: Iterable[Node],
    pipelines: PipelinesVerbs,
    *,
    reason: str = "",
    watcher: Watcher | None = None,
    stop: Callable[[str, Outputs], str | None] = lambda step, outputs: None,
) -> tuple[PipelineRun, dict[str, Outputs]]:
    """Runs a graph to its end, to a step that fails, or to one after which `stop` gives a reason.

    Gives the run's record and the outputs of each step done. A run that was cut off is taken up where it was: every step is
    recorded in the same breath in which it ends. The error of a failing step is raised again, the run recorded as failed.
    """
    watcher = watcher or Watcher()
    plan = ordered(nodes)
    record = pipelines.start(name, key_of(plan), reason)
    journal = {step.step: step for step in record.steps}
    results: dict[str, Outputs] = {}
    try:
        for node in plan:
            inputs = {need: results[need] for need in node.needs}
            step_key = digest_json([node.name, dict(node.given), inputs])
            known = journal.get(node.name)
            if known is not None and known.key != step_key:
                known = None
            fresh = known is None
            if known is None and node.cached:
                known = pipelines.known(name, node.name, step_key)
            if known is not None:
                outputs, seconds = known.outputs, 0.0
            else:
                watcher.started(node.name)
                began = time.perf_counter()
                outputs = node.work(inputs)
                seconds = time.perf_counter() - began
            if fresh:
                pipelines.step(record.id, node.name, step_key, outputs, seconds, cached=known is not None)
            results[node.name] = outputs
            watcher.ended(node.name, outputs, seconds, reused=known is not None)
            if (why := stop(node.name, outputs)) is not None:
                return pipelines.end(record.id, "stopped", why), results
    except Exception as e:
        pipelines.end(record.id, "failed", str(e)[:2000])
        raise
    return pipelines.end(record.id, "finished"), results
