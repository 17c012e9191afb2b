"""The stages of a loop's run: from a file to a registered model version that is served or challenges.

Each is a step of one pipeline: keyed by what it depends on, recorded when it ends, never done twice. A stage gives refs and
small values, and one sentence (`said`) for whoever watches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from loopline.data.records import DatasetVersion, LabelColumn, Learning
from loopline.errors import Refused
from loopline.evaluation.records import Evaluation
from loopline.hashing import digest_file, digest_json
from loopline.loop.declaration import Loop
from loopline.loop.fitting import Fitting, Given, named
from loopline.loop.house import House
from loopline.loop.watching import watch
from loopline.operations import Body
from loopline.pipeline.engine import Node, Outputs
from loopline.registry.records import ModelVersion


class Stages:
    """The stages of one loop, on one file of rows.

    `path` is the file (the loop's own, or one of newer rows, that go behind those of the version `onto`), `scratch` a folder
    for bundles under way, `facts` short texts that go with the data and the model ("data": "synthetic").
    """

    def __init__(
        self,
        loop: Loop,
        house: House,
        path: Path,
        *,
        scratch: Path,
        onto: DatasetVersion | None = None,
        facts: Mapping[str, str] | None = None,
        seed: int = 0,
        threads: int = 2,
    ) -> None:
        self.loop = loop
        self.house = house
        self.path = path
        self.onto = onto
        self.facts = dict(facts or {})
        self.seed = seed
        self._fitting = Fitting(loop, house, scratch=scratch, facts=self.facts, seed=seed, threads=threads)

    def nodes(self) -> list[Node]:
        """The graph: data, split, clean, baseline, tune, fit, gates, evaluate, verdicts, register, deploy."""
        loop, data = self.loop, self.loop.data
        described = loop.describe()
        columns = {
            "label": data.label,
            "time": data.time,
            "group": data.group,
            "label_time": data.label_time,
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
                    "onto": self.onto.ref if self.onto else None,
                    "contract": digest_json(described["contract"]),
                    "facts": self.facts,
                    "learning": msgspec.to_builtins(self._learning()),
                    "labels": msgspec.to_builtins(self._labels()),
                },
                cached=not (self.loop.contract and self.loop.contract.looks_beyond),
            ),
            Node("split", self._split, ["data"], {**columns, "task": data.task, "split": described["split"]}),
            Node("clean", self._fitting.clean, ["split"], {"clean": described["clean"]}),
            Node(
                "baseline", self._fitting.baseline, ["split", "clean"], {**columns, "baseline": described["baseline"]}
            ),
            Node("tune", self._fitting.tune, ["split", "clean"], {**fitting, "tune": described["tune"]}),
            Node("fit", self._fitting.fit, ["split", "clean", "tune"], fitting),
            Node("gates", self._gates, ["fit"], {"gates": described["gates"]}, cached=False),
            Node(
                "evaluate",
                self._evaluate,
                ["split", "baseline", "fit", "gates"],
                {"protected": list(data.protected)},
            ),
            Node("verdicts", self._verdicts, ["evaluate", "gates"]),
            Node("register", self._register, ["fit", "evaluate", "verdicts"]),
            Node("deploy", self._deploy, ["register", "verdicts"], cached=False),
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
            onto=str(self.onto.version) if self.onto else None,
            learning=self._learning(),
            labels=self._labels(),
        )
        broken = ", ".join(f"{name} {count:,}" for name, count in version.broken.items())
        held = f"; {version.quarantined:,} quarantined ({broken})" if version.quarantined else ""
        warned = ", ".join(f"{name} {count:,}" for name, count in version.warned.items())
        return {
            "dataset": version.ref,
            "rows": version.rows,
            "quarantined": version.quarantined,
            "warned": version.warned,
            "said": f"{version.rows + version.quarantined:,} rows of {len(version.columns)} columns as {version.ref}{held}"
            + (f"; warned of: {warned}" if warned else ""),
        }

    def _split(self, given: Given) -> Outputs:
        data = self.loop.data
        name, version = named(self.house, given["data"]["dataset"])
        sides = self.house.datasets.split(
            name,
            data.label,
            version=version,
            time=data.time,
            group=data.group,
            task=data.task,
            seed=self.seed,
            **msgspec.to_builtins(self.loop.split),
        )
        rows = {
            side: self.house.datasets.show(*named(self.house, getattr(sides, side))).rows
            for side in ("train", "validation", "test")
        }
        counts = ", ".join(f"{side} {count:,}" for side, count in rows.items())
        facts = sides.facts
        reasons = {
            "dropped": "later rows of groups seen earlier",
            "embargoed": f"rows within {facts['embargo']} before a later side",
            "immature": "rows whose label was not known yet",
        }
        also = "".join(f"; {facts[count]:,} {what} left out" for count, what in reasons.items() if facts[count])
        also += "".join(f"; {found['text'].rstrip('.')}" for found in facts["findings"] if found["severity"] == 3)
        return {
            "train": sides.train,
            "validation": sides.validation,
            "test": sides.test,
            "facts": facts,
            "said": f"{counts} (sealed){also}",
        }

    def _gates(self, given: Given) -> Outputs:
        """The rules and the champion that the evidence will be held against; both stay the same if this run is taken up again."""
        declared = self.house.evaluations.declare([msgspec.to_builtins(gate) for gate in self.loop.gates])
        champion = self.champion()
        return {
            "gates": declared.digest,
            # A version is no opponent of its own: the run that made it champion, run again, has nothing new to measure.
            "champion": champion if champion != given["fit"]["model"] else None,
            "said": f"{len(declared.gates)} gates on record before the evidence",
        }

    def _evaluate(self, given: Given) -> Outputs:
        opponents = {"baseline": given["baseline"]["model"]}
        if champion := given["gates"]["champion"]:
            opponents["@champion"] = champion
        model, test = given["fit"]["model"], given["split"]["test"]
        found = self._measured(model, test, opponents) or self.house.evaluations.measure(
            model,
            test,
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

    def _measured(self, model: str, test: str, opponents: Mapping[str, str]) -> Evaluation | None:
        """The newest evaluation, where it is this one, cut off before it was on the journal: a look is not taken twice."""
        newest = next(iter(self.house.evaluations.list(limit=1)), None)
        if newest is None or newest.judgement is not None:
            return None
        seen = newest.evidence
        same = (seen.model, seen.dataset, set(seen.opponents)) == (model, test, set(opponents))
        return newest if same else None

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
            "said": f"{passed} of {len(judged.verdicts)} gates passed",  # the run ends with the reasons of the others
        }

    def _register(self, given: Given) -> Outputs:
        ref = given["fit"]["model"]
        name, version = named(self.house, ref, "model")
        known = self.house.models.show(name, int(version))
        asks = given["verdicts"]["asks"]
        if known.status == "registered":
            self._ask(known, asks)
            return {"model": known.ref, "asks": asks, "said": f"{known.ref} is registered already"}
        evaluation = self.house.evaluations.show(given["evaluate"]["evaluation"])
        evidence = self.house.models.attach(name, int(version), "evaluation", msgspec.to_builtins(evaluation.evidence))
        verdicts = self.house.models.attach(name, int(version), "verdicts", {"verdicts": given["verdicts"]["verdicts"]})
        made = self.house.models.register(name, int(version), evaluation=evidence.digest, verdicts=verdicts.digest)
        self._ask(made, asks)
        return {"model": made.ref, "asks": asks, "said": f"{made.ref}, signed by key {made.signature}"}

    def _ask(self, made: ModelVersion, asks: list[str]) -> None:
        """Asks a person about a version, once."""
        if asks and not any(a.version == made.version for a in self.house.models.approvals(made.name)):
            self.house.models.request_approval(made.name, made.version)

    def _deploy(self, given: Given) -> Outputs:
        ref = given["register"]["model"]
        name, version = named(self.house, ref, "model")
        champion = self.champion()
        data = self.loop.data
        if champion is None:
            # The alias comes last: with it, all is done.
            # What the model does not read may be sent all the same: it is kept for grouping, slices and retraining.
            columns = [c.name for c in self.house.datasets.show(self.loop.name).columns if c.name != data.label]
            self.house.endpoints.create(name, ref, route_key=data.group, passthrough=columns)
            watch(self.house, name, self.loop.describe(), ref)
            self.house.models.set_alias(
                name, "champion", int(version), reason="the first version that passed the gates"
            )
            return {"alias": "champion", "model": ref, "said": f"{ref} is @champion, served at /predict/{name}"}
        if champion == ref:
            return {"alias": "champion", "model": ref, "said": f"{ref} is @champion already"}
        self.house.models.set_alias(name, "challenger", int(version), reason="passed the gates")
        before = [r for r in self.house.rollouts.list(name) if (r.challenger, r.champion) == (ref, champion)]
        if before:  # run again: what a rollout found is not asked a second time
            said = f"{ref} challenged {champion} already; its rollout is {before[0].status.replace('_', ' ')}"
            return {"alias": "challenger", "model": ref, "rollout": before[0].id, "said": said}
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

    def _labels(self) -> tuple[LabelColumn, ...] | None:
        data = self.loop.data
        when = data.label_time or data.time
        if not data.matures or when is None:
            return None
        return (LabelColumn(column=data.label, time=when, matures=f"{data.matures}ms"),)

    def _approved(self, ref: str) -> bool:
        name, version = named(self.house, ref, "model")
        asked = [a for a in self.house.models.approvals(name) if a.version == int(version)]
        if any(a.decision == "rejected" for a in asked):
            raise Refused(f"{ref} was rejected by {asked[0].decider}: {asked[0].comment}", code="rejected")
        return any(a.decision == "approved" for a in asked)

    def _in_project(self, name: str) -> str:
        return name if self.house.project == "default" else f"{self.house.project}/{name}"
