"""The stages that learn: cleaning, baseline, tuning, fit. Each makes a tracked run, and a fit a draft of a model version.

Training gives the same for the same rows and seed, and a run that was cut off is found by its key: so what is done twice, because
the process ended before it was on the journal, makes no second run and no second draft.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.features.raw import raw_signature
from loopline.features.records import Signature
from loopline.features.table import raw_rows
from loopline.hashing import digest_json
from loopline.loop.declaration import Loop
from loopline.loop.house import House
from loopline.loop.table import Table, linear
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.packaging.manifest import MANIFEST, PARITY, TRANSFORM
from loopline.pipeline.engine import Outputs
from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_rows import RowCleaning
from loopline.refs import parse
from loopline.registry.bundle_tar import pack
from loopline.tracking.environment import capture
from loopline.tracking.records import Point, Run, RunKind
from loopline.training.leakage import telling
from loopline.training.model import Model
from loopline.training.records import Fit, Trial
from loopline.training.threshold import choose_threshold
from loopline.training.tune import best, search

Given = Mapping[str, Outputs]


class Fitting:
    """The stages that learn, of one run of a loop. `scratch` is a folder for bundles under way."""

    def __init__(
        self, loop: Loop, house: House, *, scratch: Path, facts: Mapping[str, str], seed: int, threads: int
    ) -> None:
        self.loop = loop
        self.house = house
        self.scratch = scratch
        self.facts = dict(facts)
        self.seed = seed
        self.threads = threads
        self._table: Table | None = None
        self._cleaned: tuple[pl.DataFrame, RowCleaning] | None = None

    def clean(self, given: Given) -> Outputs:
        """Fits the declared cleaning on the training rows."""
        if not self.loop.clean:
            return {"cleaning": None, "said": "nothing declared"}
        train = self._frame(given["split"]["train"])
        data = self.loop.data
        kept = [c for c in (data.label_time, data.time, data.group) if c]
        fitted = Cleaning.fit(train, self.loop.clean, keep=kept, hidden=[data.label])
        report = fitted.apply(train, training=True).report
        aside = "".join(f"; {count:,} rows set aside ({rule})" for rule, count in report.aside.items())
        return {
            "cleaning": fitted.to_dict(),
            "report": msgspec.to_builtins(report),
            "said": f"{len(fitted.steps)} steps fitted on {train.height:,} training rows: {report.cells:,} values mended{aside}",
        }

    def baseline(self, given: Given) -> Outputs:
        """Fits the baseline, as a draft of its own model."""
        step = self.loop.baseline
        model = step(self._rows(given)) if step else linear(self._rows(given))
        return self._draft(f"{self.loop.name}.baseline", model, given, {}, f"the baseline ({model.called})")

    def tune(self, given: Given) -> Outputs:
        """Searches the declared space; a search that was cut off goes on with the trials it has."""
        tune = self.loop.tune
        if tune is None:
            return {"params": {}, "said": "nothing to tune"}
        table = self._rows(given).for_trials(True)
        name = f"{self.loop.name}.tune"
        run = self._run(name, given, tune, kind="run", inputs=(given["split"]["train"],))
        for cut_off in self.house.runs.list(parent=run.id, kind="trial", status="running", limit=1000).runs:
            self.house.runs.finish(cut_off.id, "killed", message="the process ended before it did")
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

    def fit(self, given: Given) -> Outputs:
        """Fits the model with what the search found, as a draft of the next version."""
        params = given["tune"]["params"]
        model = self.loop.train(self._rows(given), **params)
        return self._draft(self.loop.name, model, given, params, f"{model.called} model")

    def _draft(self, name: str, model: Model, given: Given, params: dict[str, Any], what: str) -> Outputs:
        table = self._rows(given)
        fit = table.measure(model)
        told = telling(table.problem) if name == self.loop.name else ()
        inputs = (given["split"]["train"], given["split"]["validation"])
        cleaning, signature, example = self._raw(model, table)
        shown = {**params, "family": model.family, "seed": self.seed}
        run = self._run(name, given, shown, kind="step", inputs=inputs, params=shown)
        self.house.runs.log(run.id, [Point(key=f"validation_{fit.metric}", value=fit.value, time=run.created)])
        if model.task == "binary" and model.threshold is None:
            truth = table.problem.validation_labels
            model = model.with_threshold(choose_threshold(model.predict(table.validation), truth))
        known = {v.version: v.run for v in self._versions(name)}
        version = max(known, default=0)
        version += known.get(version) != run.ref  # a draft of this very run was made before a crash: the same again
        facts = {**self.facts, "loop": self.loop.name, "purpose": self.loop.purpose}
        folder = self.scratch / f"bundle-{run.id}"
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        try:
            manifest = write_bundle(
                model,
                folder,
                name=name,
                version=version,
                example=example,
                validation_frame=table.validation,
                created=run.created,
                cleaning=cleaning,
                signature=signature,
            )
            for file in (MANIFEST, PARITY, TRANSFORM):
                self.house.runs.put_artifact(run.id, file, Body(folder / file))
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
                    "telling": [msgspec.to_builtins(one) for one in told],
                },
            )
        self.house.runs.finish(run.id, outputs=(draft.ref,))
        return {
            "model": draft.ref,
            "run": run.ref,
            "runtime": manifest.runtime,
            "said": f"{what}: validation {fit.metric} {fit.value:.3f}; {draft.ref}, served by {manifest.runtime}"
            + "".join(f"; {one.said()}" for one in told),
        }

    def _run(self, name: str, given: Given, what: Any, *, kind: RunKind, inputs: tuple[str, ...], **more: Any) -> Run:
        """The tracked run of a stage: the one that was begun for the very same work and not journalled, else a new one."""
        described = self.loop.describe()
        key = digest_json(
            [
                *(described[part] for part in ("data", "train", "baseline")),
                *(given[step] for step in ("split", "clean")),
                msgspec.to_builtins(what),
                self.facts,
                self.seed,
            ]
        )
        newest = next(iter(self.house.runs.list(name=name, kind=kind, limit=1).runs), None)
        if newest is not None and newest.tags.get("key") == key and newest.status != "failed":
            return newest
        return self.house.runs.create(name, kind=kind, inputs=inputs, tags={"key": key}, environment=capture(), **more)

    def _rows(self, given: Given) -> Table:
        if self._table is None:
            data = self.loop.data
            train, validation = (self._frame(given["split"][side]) for side in ("train", "validation"))
            if (cleaning := given["clean"]["cleaning"]) is not None:
                fitted = Cleaning.from_dict(cleaning)
                self._cleaned = (train, fitted.rows)
                train, validation = fitted.apply(train, training=True).kept, fitted.apply(validation).kept
            self._table = Table(
                train,
                validation,
                label=data.label,
                task=data.task,
                ignore=[c for c in (data.time, data.label_time, data.group, *data.ignore) if c],
                seed=self.seed,
                threads=self.threads,
            )
        return self._table

    def _raw(self, model: Model, table: Table) -> tuple[RowCleaning | None, Signature, dict[str, Any]]:
        """What is done to raw rows before the model takes them, what they hold, and one of them."""
        cleaning, signature, rows = None, model.signature, table.rows
        if self._cleaned is not None:
            rows, fitted = self._cleaned
            cleaning = fitted.reads(field.name for field in signature.inputs)
            signature = raw_signature(rows, signature, cleaning)
        return cleaning, signature, raw_rows(rows.head(1), signature.inputs)[0]

    def _frame(self, ref: str) -> pl.DataFrame:
        return pl.read_ipc_stream(io.BytesIO(self.house.datasets.read(*named(self.house, ref)).read()))

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


def named(house: House, ref: str, kind: str = "data") -> tuple[str, str]:
    """Name and version of a ref, as verbs take them."""
    parsed = parse(ref, kind, house.project)
    return parsed.name, parsed.version or "latest"
