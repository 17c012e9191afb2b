"""The pipeline room's verbs, within one transaction."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.operations import check_limit
from loopline.pipeline.records import PipelineRun, Status, StepRun
from loopline.pipeline.tables import pipeline_runs, steps
from loopline.pipeline.verbs import PipelinesVerbs
from loopline.refs import check_name

_RUN = sa.select(pipeline_runs).where(
    pipeline_runs.c.project == sa.bindparam("project"), pipeline_runs.c.id == sa.bindparam("run")
)
_DONE = (
    sa.select(steps)
    .where(*(steps.c[name] == sa.bindparam(name) for name in ("project", "name", "step", "key")))
    .order_by(steps.c.at.desc())
    .limit(1)
)


def forget(tx: Tx, refs: Collection[str]) -> None:
    """Steps that made one of these are not taken for done any more: what they made is gone, or bad. They stay on record."""
    made = re.compile("|".join(rf"(?<![\w-]){re.escape(ref)}(?![\w-]|\.\w)" for ref in refs))
    c = steps.c
    known = sa.select(c.run, c.step, sa.cast(c.outputs, sa.Text).label("outputs")).where(
        c.project == tx.project, c.key != ""
    )
    for row in tx.rows(known):
        if made.search(row.outputs):
            tx.execute(
                steps.update().where(c.project == tx.project, c.run == row.run, c.step == row.step).values(key="")
            )


class PipelinesService(PipelinesVerbs):
    """Runs of pipelines and the journal of their steps."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def start(self, name: str, key: str, reason: str = "") -> PipelineRun:
        check_name(name, "name of a pipeline")
        _check_key(key)
        c = pipeline_runs.c
        open_run = self.tx.first(
            sa.select(c.id, c.key)
            .where(c.project == self.tx.project, c.name == name, c.status == "running")
            .order_by(c.started.desc())
        )
        if open_run is not None and open_run.key == key:
            self.tx.note(inputs=[self.tx.ref("pipeline", open_run.id)])
            return self._record(self._row(open_run.id), resumed=True)
        if open_run is not None:
            # What it was started for has changed since: it can never be taken up, so it ends here.
            self.end(open_run.id, "stopped", "its declaration or data changed before it was finished")
        run = f"{self.tx.now:012x}{secrets.token_hex(5)}"
        self.tx.execute(
            pipeline_runs.insert().values(
                project=self.tx.project,
                id=run,
                name=name,
                key=key,
                status="running",
                reason=reason,
                started=self.tx.now,
                message="",
            )
        )
        self.tx.note(outputs=[self.tx.ref("pipeline", run)], digests={"key": key})
        return self._record(self._row(run))

    def step(
        self, run: str, step: str, key: str, outputs: dict[str, Any], seconds: float, cached: bool = False
    ) -> StepRun:
        _check_key(key)
        check_name(step, "name of a step")
        row = self._row(run)
        if row.status != "running":
            raise Conflict(f"The run {run} is {row.status}.", code="run-ended", hint="Start another run.")
        self.tx.execute(
            steps.delete().where(steps.c.project == self.tx.project, steps.c.run == run, steps.c.step == step)
        )
        self.tx.execute(
            steps.insert().values(
                project=self.tx.project,
                run=run,
                step=step,
                name=row.name,
                key=key,
                outputs=outputs,
                cached=cached,
                seconds=seconds,
                at=self.tx.now,
            )
        )
        self.tx.note(
            inputs=[self.tx.ref("pipeline", run)], outputs=[self.tx.ref("step", f"{run}.{step}")], digests={"key": key}
        )
        return StepRun(step=step, key=key, outputs=outputs, cached=cached, seconds=seconds, at=self.tx.now)

    def known(self, name: str, step: str, key: str) -> StepRun | None:
        found = self.tx.rows(_DONE, {"project": self.tx.project, "name": name, "step": step, "key": key})
        return _step(found[0]) if found else None

    def end(self, run: str, status: Status, message: str = "") -> PipelineRun:
        row = self._row(run)
        if row.status != "running":
            raise Conflict(f"The run {run} is {row.status} already.", code="run-ended")
        self.tx.execute(
            pipeline_runs.update()
            .where(pipeline_runs.c.project == self.tx.project, pipeline_runs.c.id == run)
            .values(status=status, ended=self.tx.now, message=message)
        )
        self.tx.note(inputs=[self.tx.ref("pipeline", run)], outputs=[self.tx.ref("pipeline", run, status)])
        return self._record(self._row(run))

    def show(self, run: str) -> PipelineRun:
        return self._record(self._row(run))

    def list(self, name: str | None = None, limit: int = 50) -> list[PipelineRun]:
        check_limit(limit, "runs")
        query = sa.select(pipeline_runs).where(pipeline_runs.c.project == self.tx.project)
        if name is not None:
            query = query.where(pipeline_runs.c.name == name)
        found = self.tx.rows(query.order_by(pipeline_runs.c.started.desc(), pipeline_runs.c.id.desc()).limit(limit))
        return [self._record(row) for row in found]

    def _row(self, run: str) -> Any:
        found = self.tx.rows(_RUN, {"project": self.tx.project, "run": run})
        if not found:
            raise NotFound(
                f"There is no run {run!r} of a pipeline.", code="no-run", hint="`loopline pipeline ls` lists them."
            )
        return found[0]

    def _record(self, row: Any, *, resumed: bool = False) -> PipelineRun:
        done = self.tx.rows(
            sa.select(steps)
            .where(steps.c.project == row.project, steps.c.run == row.id)
            .order_by(steps.c.at, steps.c.step)
        )
        return PipelineRun(
            ref=self.tx.ref("pipeline", row.id),
            id=row.id,
            name=row.name,
            key=row.key,
            status=row.status,
            reason=row.reason,
            started=row.started,
            ended=row.ended,
            message=row.message,
            steps=tuple(_step(s) for s in done),
            resumed=resumed,
        )


def _check_key(key: str) -> None:
    if not re.fullmatch(r"(sha256|blake3):[0-9a-f]{64}", key):
        raise Invalid(
            f"{key!r} is no key.", code="bad-key", hint="Give a digest: sha256: or blake3: and 64 hex digits."
        )


def _step(row: Any) -> StepRun:
    return StepRun(step=row.step, key=row.key, outputs=row.outputs, cached=row.cached, seconds=row.seconds, at=row.at)
