"""The evaluation room's verbs, within one transaction."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from loopline.data.service import DatasetsService
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.evaluation import gates as rules
from loopline.evaluation.records import Difference, Evaluation, Evidence, GateSet, Judgement, Verdict
from loopline.evaluation.tables import evaluations, gate_sets
from loopline.evaluation.verbs import EvaluationsVerbs
from loopline.features.labels import encode_labels
from loopline.hashing import canonical_json, digest_json
from loopline.operations import Bytes, check_limit
from loopline.ports.blobs import BlobStore
from loopline.ports.predictor import Predictor
from loopline.refs import parse
from loopline.store.service import Store

_ROWS_TIMED = 400


class EvaluationsService(EvaluationsVerbs):
    """Gates, evaluations and verdicts. `open_model` opens a model version by its ref."""

    def __init__(
        self, tx: Tx, blobs: BlobStore, datasets: DatasetsService, open_model: Callable[[str], Predictor]
    ) -> None:
        self.tx = tx
        self.blobs = blobs
        self.datasets = datasets
        self.open_model = open_model

    def declare(self, gates: list[dict[str, Any]]) -> GateSet:
        declared = rules.from_json(json.dumps(gates).encode())
        digest = rules.digest(declared)
        known = self._gates(digest)
        if known is None:
            self.tx.execute(
                gate_sets.insert().values(
                    project=self.tx.project,
                    digest=digest,
                    gates=msgspec.to_builtins(declared),
                    at=self.tx.now,
                    by=self.tx.principal,
                )
            )
            known = self._gates(digest)
            assert known is not None
        self.tx.note(digests={"gates": digest})
        return known

    def measure(
        self,
        model: str,
        dataset: str,
        label: str,
        opponents: dict[str, str] | None = None,
        protected: list[str] | None = None,
        window: str = "test",
        seed: int = 0,
    ) -> Evaluation:
        # Imported where they are needed: who lists evaluations waits for neither scipy nor matplotlib.
        from loopline.evaluation.measure import differences as differences_of
        from loopline.evaluation.measure import measure

        model, dataset = self._version(model, "model"), self._version(dataset, "data")
        opponents = {name: self._version(ref, "model") for name, ref in (opponents or {}).items()}
        opened = {name: self.open_model(ref) for name, ref in {"": model, **opponents}.items()}
        subject = opened.pop("")
        frame, look = self.datasets.look(dataset)
        truth = encode_labels(frame, label, subject.task, subject.classes)  # type: ignore[arg-type]
        slices = [column for column in protected or [] if column in frame.columns]
        if missing := set(protected or []) - set(slices):
            raise Invalid(
                f"{dataset} has no column {min(missing)!r} to slice by.",
                code="no-column",
                hint=did_you_mean(min(missing), frame.columns),
            )
        predicted = subject.predict(frame)
        measured = measure(
            truth,
            predicted,
            task=subject.task,
            classes=subject.classes,
            threshold=subject.threshold,
            frame_of_slices=frame.select(slices),
            protected=slices,
            seed=seed,
            looks=look,
        )
        differences: list[Difference] = []
        for name, opponent in opened.items():
            if (opponent.task, opponent.classes) != (subject.task, subject.classes):
                raise Conflict(
                    f"{opponents[name]} answers another question than {model}: {opponent.task} {opponent.classes}.",
                    code="other-task",
                )
            other = opponent.predict(frame)
            differences += differences_of(
                truth,
                predicted,
                other,
                task=subject.task,
                classes=subject.classes,
                thresholds=(subject.threshold, opponent.threshold),
                seed=seed,
                looks=look,
                opponent=name,
            )
        evidence = Evidence(
            model=model,
            dataset=dataset,
            window=window,
            task=subject.task,
            n=measured.n,
            metrics=measured.metrics,
            slices=measured.slices,
            fairness=measured.fairness,
            differences=tuple(differences),
            opponents=tuple(opponents),
            latency_p99_ms=_latency(subject, frame.head(_ROWS_TIMED).to_dicts()),
            looks=look,
            confidence=measured.confidence,
            threshold=measured.threshold,
            curves=measured.curves,
        )
        made = self._keep(model, dataset, evidence, list(opponents.values()))
        if made is None:  # another look came first, so this one is a later one, and its intervals are wider
            return self.measure(model, dataset, label, opponents, protected, window, seed)
        return made

    def judge(self, evaluation: str, gates: str) -> Judgement:
        row = self._row(evaluation)
        declared = self._gates(gates)
        if declared is None:
            raise NotFound(f"There are no gates {gates}.", code="no-gates", hint="Declare them before measuring.")
        if declared.at > row.at:
            raise Conflict(
                f"The gates {gates} were declared after the evaluation {evaluation}.",
                code="gates-after-evidence",
                hint="Measure again, on a new window: thresholds must not be chosen by the evidence.",
            )
        evidence = self._evidence(row)
        verdicts = rules.judge_all(rules.from_json(json.dumps(declared.gates).encode()), evidence)
        self.tx.execute(
            evaluations.update()
            .where(evaluations.c.project == self.tx.project, evaluations.c.id == evaluation)
            .values(gates=gates, verdicts=msgspec.to_builtins(verdicts))
        )
        self.tx.note(
            inputs=[self.tx.ref("evaluation", evaluation), row.model],
            digests={"gates": gates, "evidence": row.document, "verdicts": digest_json(verdicts)},
        )
        return Judgement(evaluation=evaluation, gates=gates, outcome=rules.decision(verdicts), verdicts=verdicts)

    def show(self, evaluation: str) -> Evaluation:
        return self._record(self._row(evaluation))

    def list(self, model: str | None = None, limit: int = 50) -> list[Evaluation]:
        check_limit(limit, "evaluations")
        query = sa.select(evaluations).where(evaluations.c.project == self.tx.project)
        if model is not None:
            query = query.where(evaluations.c.model == model)
        found = self.tx.rows(query.order_by(evaluations.c.at.desc(), evaluations.c.id.desc()).limit(limit))
        return [self._record(row) for row in found]

    def report(self, evaluation: str) -> Bytes:
        from loopline.evaluation.report import page

        record = self.show(evaluation)
        verdicts = record.judgement.verdicts if record.judgement else ()
        return Bytes(media="text/html", data=page(record.evidence, verdicts).encode())

    def plot(self, evaluation: str, plot: str) -> Bytes:
        row = self._row(evaluation)
        if plot not in row.plots:
            raise NotFound(
                f"Evaluation {evaluation} has no plot {plot!r}.", code="no-plot", hint=did_you_mean(plot, row.plots)
            )
        media = "image/svg+xml" if plot.endswith(".svg") else "image/png"
        return Bytes(media=media, data=self.blobs.read(row.plots[plot]), name=plot)

    def _keep(self, model: str, dataset: str, evidence: Evidence, opponents: Sequence[str]) -> Evaluation | None:
        """The evaluation on record with its look; None where another look took that number. The long work is done by now."""
        from loopline.evaluation.plots import draw

        document = self.blobs.put([canonical_json(evidence)])
        plots = {name: self.blobs.put([data]).digest for name, data in draw(evidence).items()}
        if not self.datasets.count(dataset, evidence.looks, f"evaluation of {model}"):
            return None
        evaluation = f"{self.tx.now:012x}{secrets.token_hex(5)}"
        ref = self.tx.ref("evaluation", evaluation)
        self.tx.execute(
            evaluations.insert().values(
                project=self.tx.project,
                id=evaluation,
                model=model,
                dataset=dataset,
                document=document.digest,
                plots=plots,
                at=self.tx.now,
                by=self.tx.principal,
            )
        )
        store = Store(self.tx, self.blobs)
        for digest in {document.digest, *plots.values()}:
            store.retain(digest, ref)
        self.tx.note(inputs=[model, *opponents], outputs=[ref], digests={"evidence": document.digest})
        return self.show(evaluation)

    def _version(self, ref: str, kind: str) -> str:
        """The printed ref of one version for good, of this project."""
        named = parse(ref, kind, self.tx.project)
        if named.project != self.tx.project:
            raise NotFound(
                f"There is no {ref} in project {self.tx.project!r}.",
                code="no-dataset" if kind == "data" else "no-model",
            )
        if named.number is None:
            raise Invalid(
                f"{ref} names no version by its number.",
                code="bad-version",
                hint=f"Evidence is of one version for good: give {kind}:NAME@NUMBER.",
            )
        return str(named)

    def _gates(self, digest: str) -> GateSet | None:
        row = self.tx.first(
            sa.select(gate_sets).where(gate_sets.c.project == self.tx.project, gate_sets.c.digest == digest)
        )
        return None if row is None else GateSet(digest=row.digest, gates=tuple(row.gates), at=row.at, by=row.by)

    def _row(self, evaluation: str) -> Any:
        row = self.tx.first(
            sa.select(evaluations).where(evaluations.c.project == self.tx.project, evaluations.c.id == evaluation)
        )
        if row is None:
            raise NotFound(f"There is no evaluation {evaluation!r}.", code="no-evaluation")
        return row

    def _evidence(self, row: Any) -> Evidence:
        return msgspec.json.decode(self.blobs.read(row.document), type=Evidence)

    def _record(self, row: Any) -> Evaluation:
        judgement = None
        if row.gates is not None:
            verdicts = msgspec.convert(row.verdicts, tuple[Verdict, ...])
            judgement = Judgement(
                evaluation=row.id, gates=row.gates, outcome=rules.decision(verdicts), verdicts=verdicts
            )
        return Evaluation(
            id=row.id,
            ref=self.tx.ref("evaluation", row.id),
            evidence=self._evidence(row),
            digest=row.document,
            plots=tuple(sorted(row.plots)),
            at=row.at,
            by=row.by,
            judgement=judgement,
        )


def _latency(model: Predictor, rows: list[dict[str, Any]]) -> float | None:
    """The p99 of single answers in milliseconds, over the rows that are answered at all, each asked before.

    Time on the CPU, of this thread alone: what else the machine does is not the model's latency, and the served form computes
    in one thread.
    """
    taken = []
    rows = [row for row in rows if _answered(model, row)]
    for row in rows:
        began = time.thread_time()
        model.answer([row])
        taken.append((time.thread_time() - began) * 1000)
    return float(np.quantile(taken, 0.99)) if taken else None


def _answered(model: Predictor, row: dict[str, Any]) -> bool:
    """Whether the endpoint would answer this row; it refuses, say, a gap in a column that had none in training."""
    try:
        model.answer([row])
    except Invalid:
        return False
    return True
