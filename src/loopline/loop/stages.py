"""The stages of a loop's run: from a file to a registered model version that is served or challenges.

Each is a step of one pipeline: keyed by what it depends on, recorded when it ends, never done twice. A stage gives refs and
small values, and one sentence (`said`) for whoever watches.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.data.records import Learning
from loopline.errors import Refused
from loopline.features.table import raw_rows
from loopline.hashing import digest_file, digest_json
from loopline.loop.declaration import Loop
from loopline.loop.house import House
from loopline.loop.table import Table, linear
from loopline.loop.watching import watch
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.pipeline.engine import Node, Outputs
from loopline.quality.cleaning import Cleaning
from loopline.refs import parse
from loopline.registry.bundle_tar import pack
from loopline.tracking.environment import capture
from loopline.tracking.records import Point
from loopline.training.model import Model
from loopline.training.records import Fit, Trial
from loopline.training.threshold import choose_threshold
from loopline.training.tune import best, search

Given = Mapping[str, Outputs]


class Stages:
    """The stages of one loop, on one file of rows.

    `path` is the file (the loop's own, or one with newer rows), `inputs` the refs that it was derived from, `scratch` a folder
    for bundles under way, `facts` short texts that go with the data and the model ("data": "synthetic").
    """

    def __init__(
        self,
        loop: Loop,
        house: House,
        path: Path,
        *,
        scratch: Path,
        inputs: tuple[str, ...] = (),
        facts: Mapping[str, str] | None = None,
        seed: int = 0,
        threads: int = 2,
    ) -> None:
        self.loop = loop
        self.house = house
        self.path = path
        self.scratch = scratch
        self.inputs = inputs
        self.facts = dict(facts or {})
        self.seed = seed
        self.threads = threads
        self._table: Table | None = None

    def nodes(self) -> list[Node]:
        """The graph: data, split, clean, baseline, tune, fit, gates, evaluate, verdicts, register, deploy."""
        loop, data = self.loop, self.loop.data
        described = loop.describe()
        columns = {
            "label": data.label,
            "time": data.time,
            "group": data.group,
            "ignore": data.ignore,
            "seed": self.seed,
        }
        fitting = {**columns, "train": described["train"]}
        return [
            Node(
                "data",
                self._data,
                given={
                    "file": digest_file(self.path),
                    "contract": digest_json(described["contract"]),
                    "facts": self.facts,
                    "learning": msgspec.to_builtins(self._learning()),
                },
            ),
            Node("split", self._split, ["data"], {**columns, "task": data.task}),
            Node("clean", self._clean, ["split"], {"clean": described["clean"]}),
            Node("baseline", self._baseline, ["split", "clean"], {**columns, "baseline": described["baseline"]}),
            Node("tune", self._tune, ["split", "clean"], {**fitting, "tune": described["tune"]}),
            Node("fit", self._fit, ["split", "clean", "tune"], fitting),
            Node("gates", self._gates, given={"gates": described["gates"]}, cached=False),
            Node(
                "evaluate",
                self._evaluate,
                ["split", "baseline", "fit", "gates"],
                {"protected": list(data.protected), "champion": self.champion()},
            ),
            Node("verdicts", self._verdicts, ["evaluate", "gates"]),
            Node("register", self._register, ["fit", "evaluate", "verdicts"]),
            Node("deploy", self._deploy, ["register", "verdicts"], {"champion": self.champion()}, cached=False),
        ]

    def champion(self) -> str | None:
        """The ref of the version that is champion now, if any is."""
        known = {model.name: model for model in self.house.models.list()}
        model = known.get(self.loop.name)
        version = model.aliases.get("champion") if model else None
        return None if version is None else f"model:{self._in_project(self.loop.name)}@{version}"

    def stop(self, step: str, outputs: Outputs) -> str | None:
        """Why the run ends after this stage, if it does."""
        if step == "verdicts" and outputs["outcome"] == "fail":
            return f"refused by {len(outputs['failed'])} of {outputs['count']} gates: " + "; ".join(outputs["failed"])
        if step == "register" and outputs["asks"] and not self._approved(outputs["model"]):
            return f"{outputs['model']} waits for a person: " + "; ".join(outputs["asks"])
        return None

    # The stages, in order.

    def _data(self, _: Given) -> Outputs:
        version = self.house.datasets.add(
            self.loop.name,
            Body(self.path),
            contract=msgspec.to_builtins(self.loop.contract) if self.loop.contract else None,
            facts=self.facts,
            inputs=list(self.inputs),
            learning=self._learning(),
        )
        broken = ", ".join(f"{name} {count:,}" for name, count in version.broken.items())
        held = f"; {version.quarantined:,} quarantined ({broken})" if version.quarantined else ""
        return {
            "dataset": version.ref,
            "rows": version.rows,
            "quarantined": version.quarantined,
            "said": f"{version.rows + version.quarantined:,} rows of {len(version.columns)} columns as {version.ref}{held}",
        }

    def _split(self, given: Given) -> Outputs:
        data = self.loop.data
        name, version = self._named(given["data"]["dataset"])
        sides = self.house.datasets.split(
            name, data.label, version=version, time=data.time, group=data.group, task=data.task, seed=self.seed
        )
        rows = {
            side: self.house.datasets.show(*self._named(getattr(sides, side))).rows
            for side in ("train", "validation", "test")
        }
        counts = ", ".join(f"{side} {count:,}" for side, count in rows.items())
        dropped = int(sides.facts.get("dropped", 0))
        also = f"; {dropped:,} later rows of groups seen earlier left out" if dropped else ""
        return {
            "train": sides.train,
            "validation": sides.validation,
            "test": sides.test,
            "facts": sides.facts,
            "said": f"{counts} (sealed){also}",
        }

    def _clean(self, given: Given) -> Outputs:
        if not self.loop.clean:
            return {"cleaning": None, "said": "nothing declared"}
        train = self._frame(given["split"]["train"])
        data = self.loop.data
        kept = [c for c in (data.label, data.time, data.group) if c]
        fitted = Cleaning.fit(train, self.loop.clean, keep=kept)
        _, report = fitted.apply(train, training=True)
        changed = sum(change.count for change in report.changes)
        duplicates = f", {report.duplicates:,} duplicates left out" if report.duplicates else ""
        return {
            "cleaning": fitted.to_dict(),
            "said": f"{len(fitted.steps)} steps fitted on {train.height:,} training rows: {changed:,} values mended{duplicates}",
        }

    def _baseline(self, given: Given) -> Outputs:
        step = self.loop.baseline
        model = step(self._rows(given)) if step else linear(self._rows(given))
        return self._draft(f"{self.loop.name}.baseline", model, given, {}, f"the baseline ({model.family})")

    def _tune(self, given: Given) -> Outputs:
        tune = self.loop.tune
        if tune is None:
            return {"params": {}, "said": "nothing to tune"}
        table = self._rows(given).for_trials(True)
        name = f"{self.loop.name}.tune"
        key = digest_json([self.loop.describe()["tune"], given["split"]["train"]])
        under_way = [r for r in self.house.runs.list(name=name, status="running").runs if r.tags.get("key") == key]
        run = (
            under_way[0]
            if under_way
            else self.house.runs.create(name, inputs=(given["split"]["train"],), tags={"key": key})
        )
        done = self._trials(run.id)

        def attempt(params: dict[str, Any]) -> Fit:
            return table.measure(self.loop.train(table, **params))

        def record(trial: Trial) -> None:
            kept = self.house.runs.create(
                name,
                kind="trial",
                parent=run.id,
                params={"number": trial.number, "seconds": trial.seconds, "rounds": trial.rounds, **trial.params},
            )
            if trial.value is not None:
                self.house.runs.log(kept.id, [Point(key="value", value=trial.value, step=trial.number)])
            self.house.runs.finish(kept.id)

        trials = search(tune, attempt, trials_done=done, on_trial=record)
        found = best(trials)
        table.for_trials(False)
        self.house.runs.finish(run.id)
        params = dict(found.params) if found else {}
        shown = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())
        again = f", {len(done)} of them from before" if done else ""
        return {"params": params, "run": run.ref, "said": f"{len(trials)} trials{again}; best {shown or 'none'}"}

    def _fit(self, given: Given) -> Outputs:
        params = given["tune"]["params"]
        model = self.loop.train(self._rows(given), **params)
        return self._draft(self.loop.name, model, given, params, f"{model.family} model")

    def _gates(self, _: Given) -> Outputs:
        declared = self.house.evaluations.declare([msgspec.to_builtins(gate) for gate in self.loop.gates])
        return {"gates": declared.digest, "said": f"{len(declared.gates)} gates on record before the evidence"}

    def _evaluate(self, given: Given) -> Outputs:
        opponents = {"baseline": given["baseline"]["model"]}
        if champion := self.champion():
            opponents["@champion"] = champion
        found = self.house.evaluations.measure(
            given["fit"]["model"],
            given["split"]["test"],
            self.loop.data.label,
            opponents=opponents,
            protected=list(self.loop.data.protected),
            seed=self.seed,
        )
        evidence = found.evidence
        first = evidence.metrics[0] if evidence.metrics else None  # too few rows prove nothing
        seen = f"{first.name} {first.value:.3f} [{first.low:.3f}, {first.high:.3f}]" if first else "nothing to measure"
        against = ", ".join(
            f"{d.opponent} {d.b:.3f}"
            for d in evidence.differences
            if first and d.metric == first.name and d.opponent in opponents
        )
        return {
            "evaluation": found.id,
            "digest": found.digest,
            "metrics": {m.name: [m.value, m.low, m.high] for m in evidence.metrics},
            "said": f"{seen} on {evidence.n:,} sealed rows (look {evidence.looks}){'; ' + against if against else ''}",
        }

    def _verdicts(self, given: Given) -> Outputs:
        judged = self.house.evaluations.judge(given["evaluate"]["evaluation"], given["gates"]["gates"])
        failed = [f"{v.gate}: {v.reason}" for v in judged.verdicts if v.outcome == "fail"]
        asks = [f"{v.gate}: {v.reason}" for v in judged.verdicts if v.outcome == "ask"]
        passed = len(judged.verdicts) - len(failed) - len(asks)
        return {
            "outcome": judged.outcome,
            "count": len(judged.verdicts),
            "failed": failed,
            "asks": asks,
            "verdicts": [msgspec.to_builtins(v) for v in judged.verdicts],
            "said": "; ".join([f"{passed} of {len(judged.verdicts)} gates passed", *failed, *asks]),
        }

    def _register(self, given: Given) -> Outputs:
        ref = given["fit"]["model"]
        name, version = self._named(ref, "model")
        known = self.house.models.show(name, int(version))
        if known.status == "registered":
            return {"model": known.ref, "asks": given["verdicts"]["asks"], "said": f"{known.ref} is registered already"}
        evaluation = self.house.evaluations.show(given["evaluate"]["evaluation"])
        evidence = self.house.models.attach(name, int(version), "evaluation", msgspec.to_builtins(evaluation.evidence))
        verdicts = self.house.models.attach(name, int(version), "verdicts", {"verdicts": given["verdicts"]["verdicts"]})
        made = self.house.models.register(name, int(version), evaluation=evidence.digest, verdicts=verdicts.digest)
        asks = given["verdicts"]["asks"]
        if asks and not any(a.version == made.version for a in self.house.models.approvals(name)):
            self.house.models.request_approval(name, made.version)
        return {"model": made.ref, "asks": asks, "said": f"{made.ref}, signed by key {made.signature}"}

    def _deploy(self, given: Given) -> Outputs:
        ref = given["register"]["model"]
        name, version = self._named(ref, "model")
        champion = self.champion()
        data = self.loop.data
        if champion is None:
            self.house.models.set_alias(
                name, "champion", int(version), reason="the first version that passed the gates"
            )
            # What the model does not read may be sent all the same: it is kept for grouping, slices and retraining.
            columns = [c.name for c in self.house.datasets.show(self.loop.name).columns if c.name != data.label]
            self.house.endpoints.create(name, ref, route_key=data.group, passthrough=columns)
            watch(self.house, name, self.loop.describe(), ref)
            return {"alias": "champion", "model": ref, "said": f"{ref} is @champion, served at /predict/{name}"}
        if champion == ref:
            return {"alias": "champion", "model": ref, "said": f"{ref} is @champion already"}
        self.house.models.set_alias(name, "challenger", int(version), reason="passed the gates")
        started = self.house.rollouts.start(name, ref, self.loop.rollout.plan())
        return {
            "alias": "challenger",
            "model": ref,
            "rollout": started.id,
            "said": f"{ref} is @challenger of {champion}; its rollout has begun",
        }

    # What the stages share.

    def _learning(self) -> Learning:
        data = self.loop.data
        columns = (*data.protected, *data.ignore)
        return Learning(label=data.label, task=data.task, time=data.time, group=data.group, columns=columns)

    def _draft(self, name: str, model: Model, given: Given, params: dict[str, Any], what: str) -> Outputs:
        table = self._rows(given)
        fit = table.measure(model)
        inputs = (given["split"]["train"], given["split"]["validation"])
        run = self.house.runs.create(
            name,
            kind="step",
            params={**params, "family": model.family, "seed": self.seed},
            inputs=inputs,
            environment=capture(),
        )
        now = time.time_ns() // 1_000_000
        self.house.runs.log(run.id, [Point(key=f"validation_{fit.metric}", value=fit.value, time=now)])
        if model.task == "binary" and model.threshold is None:
            truth = table.problem.validation_labels
            model = model.with_threshold(choose_threshold(model.predict(table.validation), truth))
        version = 1 + max((v.version for v in self._versions(name)), default=0)
        facts = {**self.facts, "loop": self.loop.name, "purpose": self.loop.purpose}
        folder = self.scratch / f"bundle-{run.id}"
        try:
            manifest = write_bundle(
                model,
                folder,
                name=name,
                version=version,
                example=raw_rows(table.rows.head(1), model.signature.inputs)[0],
                validation_frame=table.validation,
                created=now,
                cleaning=given["clean"]["cleaning"],
            )
            draft = self.house.models.draft(
                name, Body(pack(folder), name="bundle.tar"), run=run.ref, inputs=inputs, facts=facts
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if draft.status == "draft":  # the same model again, registered before a crash: it is as it was signed
            self.house.models.attach(
                name,
                draft.version,
                "training",
                {
                    "run": run.ref,
                    "family": model.family,
                    "params": params,
                    "validation": {fit.metric: fit.value},
                    "dropped": [msgspec.to_builtins(d) for d in table.problem.dropped],
                    "split": given["split"]["facts"],
                },
            )
        self.house.runs.finish(run.id, outputs=(draft.ref,))
        return {
            "model": draft.ref,
            "run": run.ref,
            "runtime": manifest.runtime,
            "said": f"{what}: validation {fit.metric} {fit.value:.3f}; {draft.ref}, served by {manifest.runtime}",
        }

    def _rows(self, given: Given) -> Table:
        if self._table is None:
            data = self.loop.data
            train, validation = (self._frame(given["split"][side]) for side in ("train", "validation"))
            if (cleaning := given["clean"]["cleaning"]) is not None:
                fitted = Cleaning.from_dict(cleaning)
                train, validation = fitted.apply(train, training=True)[0], fitted.apply(validation)[0]
            self._table = Table(
                train,
                validation,
                label=data.label,
                task=data.task,
                ignore=[c for c in (data.time, data.group, *data.ignore) if c],
                seed=self.seed,
                threads=self.threads,
            )
        return self._table

    def _frame(self, ref: str) -> pl.DataFrame:
        return pl.read_ipc_stream(io.BytesIO(self.house.datasets.read(*self._named(ref)).read()))

    def _trials(self, run: str) -> list[Trial]:
        found = []
        for kept in self.house.runs.list(parent=run, kind="trial", status="finished", limit=1000).runs:
            params = dict(kept.params)
            found.append(
                Trial(
                    number=params.pop("number"),
                    seconds=params.pop("seconds"),
                    rounds=params.pop("rounds"),
                    params=params,
                    value=float(kept.metrics["value"]) if "value" in kept.metrics else None,
                )
            )
        return sorted(found, key=lambda trial: trial.number)

    def _versions(self, name: str) -> tuple[Any, ...]:
        known = {model.name for model in self.house.models.list()}
        return self.house.models.versions(name) if name in known else ()

    def _approved(self, ref: str) -> bool:
        name, version = self._named(ref, "model")
        asked = [a for a in self.house.models.approvals(name) if a.version == int(version)]
        if any(a.decision == "rejected" for a in asked):
            raise Refused(f"{ref} was rejected by {asked[0].decider}: {asked[0].comment}", code="rejected")
        return any(a.decision == "approved" for a in asked)

    def _named(self, ref: str, kind: str = "data") -> tuple[str, str]:
        parsed = parse(ref, kind, self.house.project)
        return parsed.name, parsed.version or "latest"

    def _in_project(self, name: str) -> str:
        return name if self.house.project == "default" else f"{self.house.project}/{name}"
