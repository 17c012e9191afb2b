"""Gates, evaluations and verdicts in a real workspace, on models that are served as they are measured."""

from __future__ import annotations

import io
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

import loopline as ll
from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Conflict, Invalid, NotFound
from loopline.evaluation.records import Evaluation, Metric
from loopline.hashing import digest_bytes
from loopline.loop.table import Table, boosted, constant, linear
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.registry.bundle_tar import pack
from loopline.statistics.intervals import confidence_at
from loopline.testing.clock import FakeClock


def table(task: str, rows: int = 2400) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    x, ward = rng.normal(size=rows), rng.integers(0, 3, rows)
    signal = 1.5 * x + (ward == 2) + rng.logistic(size=rows)
    label = {
        "binary": np.where(signal > 0.5, "yes", "no"),
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(signal, [-1, 1])],
        "regression": 100 + 10 * signal,
    }[task]
    return pl.DataFrame(
        {"at": range(rows), "x": x, "ward": np.array(["a", "b", "c"])[ward], "noise": rng.normal(size=rows), "y": label}
    )


def gates(*rules: Any) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(rule) for rule in rules]


class Place:
    """A workspace with a split dataset and, for one task, a boosted model, a linear and a constant one."""

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.platform = Platform.open(
            workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=self.clock
        )
        self.session: Session = self.platform.session()
        buffer = io.BytesIO()
        table(task).write_parquet(buffer)
        self.session.datasets.add("t", Body(buffer.getvalue(), name="t.parquet"))
        self.sides = self.session.datasets.split("t", "y", time="at", task=task)
        train, validation = (
            pl.read_ipc_stream(io.BytesIO(self.session.datasets.read(f"t.{side}").read()))
            for side in ("train", "validation")
        )
        ready = Table(train, validation, label="y", task=task, ignore=["at"])  # type: ignore[arg-type]
        for name, model in (("good", boosted(ready)), ("plain", linear(ready)), ("flat", constant(ready))):
            place = folder / name
            example = train.select([f.name for f in model.signature.inputs]).head(1).to_dicts()[0]
            write_bundle(model, place, name=name, version=1, example=example, validation_frame=validation, created=1)
            self.session.models.draft(name, Body(pack(place), name="bundle.tar"))

    def measure(self, model: str = "good", **opponents: str) -> Evaluation:
        self.clock.forward(seconds=1)
        return self.session.evaluations.measure(
            f"model:{model}@1",
            self.sides.test,
            "y",
            opponents={name.replace("champion", "@champion"): f"model:{ref}@1" for name, ref in opponents.items()},
            protected=["ward"],
        )

    def declare(self, *rules: Any) -> str:
        self.clock.forward(seconds=1)
        return self.session.evaluations.declare(gates(*rules)).digest


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("binary"), "binary")
    yield place
    place.platform.close()


def of(evaluation: Evaluation) -> dict[str, Metric]:
    return {metric.name: metric for metric in evaluation.evidence.metrics}


# The evidence


def test_a_measurement_is_on_record_with_its_evidence(binary: Place) -> None:
    made = binary.measure(baseline="flat", champion="plain")
    assert binary.session.evaluations.show(made.id) == made
    assert binary.session.evaluations.list(model="model:good@1")[0] == made
    evidence = made.evidence
    assert (evidence.model, evidence.dataset, evidence.task, evidence.n) == (
        "model:good@1",
        binary.sides.test,
        "binary",
        360,
    )
    assert {"roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier"} <= set(of(made))
    assert all(m.low <= m.value <= m.high for m in evidence.metrics)
    assert {s.group: s.n for s in evidence.slices if s.column == "ward"}.keys() == {"a", "b", "c"}
    assert evidence.latency_p99_ms is not None
    assert evidence.latency_p99_ms > 0


def test_opponents_are_scored_on_the_same_rows(binary: Place) -> None:
    made = binary.measure(baseline="flat", champion="plain")
    against = {(d.opponent, d.metric): d for d in made.evidence.differences}
    flat, plain = against["baseline", "roc_auc"], against["@champion", "roc_auc"]
    assert flat.b == 0.5
    assert flat.a == plain.a == of(made)["roc_auc"].value
    assert plain.b == pytest.approx(of(binary.measure("plain"))["roc_auc"].value)
    assert flat.low > 0
    assert plain.low < plain.value < plain.high
    assert plain.high - plain.low < flat.high - flat.low  # paired: what both get wrong cancels out


def test_each_look_is_counted_and_the_second_widens(binary: Place) -> None:
    before = binary.session.datasets.show("t.test").looks
    first, second = binary.measure(), binary.measure()
    assert (first.evidence.looks, second.evidence.looks) == (before + 1, before + 2)
    assert binary.session.datasets.show("t.test").looks == before + 2
    assert second.evidence.confidence > first.evidence.confidence or first.evidence.looks == 1
    one, other = of(first)["roc_auc"], of(second)["roc_auc"]
    assert one.value == other.value
    assert other.high - other.low > one.high - one.low
    looked = [e for e in binary.session.ledger.entries(limit=1000) if e.operation == "evaluations.measure"]
    assert sum(binary.sides.test in e.inputs for e in looked) == before + 2


def test_the_second_look_is_wider_than_the_first_at_a_window(tmp_path: Path) -> None:
    place = Place(tmp_path, "binary")
    first, second = place.measure(), place.measure()
    place.platform.close()
    assert (first.evidence.looks, first.evidence.confidence) == (1, 0.95)
    assert second.evidence.confidence == confidence_at(2)


def test_looks_at_once_are_counted_apart(binary: Place) -> None:
    made: list[Evaluation] = []
    threads = [threading.Thread(target=lambda: made.append(binary.measure("flat"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    looked = sorted(m.evidence.looks for m in made)
    assert looked == [*range(looked[0], looked[0] + 3)]
    assert binary.session.datasets.show("t.test").looks == looked[-1]


def test_reports_and_plots_are_files(binary: Place) -> None:
    made = binary.measure(baseline="flat")
    page = binary.session.evaluations.report(made.id)
    assert page.media == "text/html"
    assert b"roc_auc" in page.read() or b"ROC" in page.read()
    assert made.plots
    for name in made.plots:
        plot = binary.session.evaluations.plot(made.id, name)
        if name.endswith(".svg"):
            assert ET.fromstring(plot.read()).tag.endswith("svg")
        else:
            assert plot.read().startswith(b"\x89PNG")
    with pytest.raises(NotFound):
        binary.session.evaluations.plot(made.id, "no.svg")
    with pytest.raises(NotFound):
        binary.session.evaluations.show("gone")


def test_bad_questions_are_refused_and_cost_no_look(binary: Place) -> None:
    ask, test = binary.session.evaluations.measure, binary.sides.test
    before = binary.session.datasets.show("t.test").looks
    with pytest.raises(Invalid, match="no column 'wrad'") as caught:
        ask("model:good@1", test, "y", protected=["wrad"])
    assert "ward" in caught.value.hint
    with pytest.raises(Invalid):
        ask("model:good@1", test, "yy")
    with pytest.raises(NotFound):
        ask("model:none@1", test, "y")
    with pytest.raises(NotFound):
        ask("model:good@1", "data:none@1", "y")
    for model, dataset in (("model:good", test), ("model:good@champion", test), ("model:good@1", "data:t.test")):
        with pytest.raises(Invalid, match="by its number"):
            ask(model, dataset, "y")
    assert binary.session.datasets.show("t.test").looks == before


# Verdicts


def test_verdicts_are_recorded_with_their_digests(binary: Place) -> None:
    rules = binary.declare(ll.gate.at_least("roc_auc", 0.6), ll.gate.beats("baseline", "roc_auc"))
    made = binary.measure(baseline="flat")
    judged = binary.session.evaluations.judge(made.id, rules)
    assert (judged.outcome, [v.outcome for v in judged.verdicts]) == ("pass", ["pass", "pass"])
    assert binary.session.evaluations.show(made.id).judgement == judged
    (entry,) = (e for e in binary.session.ledger.entries(limit=1000) if made.ref in e.inputs)
    assert entry.digests["gates"] == rules
    assert entry.digests["evidence"] == made.digest == digest_bytes(binary.platform.blobs.read(made.digest))
    assert entry.digests["verdicts"].startswith("sha256:")


def test_a_hopeless_gate_fails(binary: Place) -> None:
    rules = binary.declare(ll.gate.at_least("roc_auc", 0.99), ll.gate.at_least("roc_auc", 0.6))
    judged = binary.session.evaluations.judge(binary.measure().id, rules)
    assert (judged.outcome, [v.outcome for v in judged.verdicts]) == ("fail", ["fail", "pass"])
    assert "0.99" in judged.verdicts[0].gate


def test_not_worse_wants_proof(binary: Place) -> None:
    """The linear model against the boosted one: within a generous margin, and not within none."""
    rules = {m: binary.declare(ll.gate.not_worse_than("@champion", "roc_auc", margin=m)) for m in (0.2, 0.0001)}
    made = binary.measure("plain", champion="good")
    outcomes = {m: binary.session.evaluations.judge(made.id, digest).outcome for m, digest in rules.items()}
    assert outcomes == {0.2: "pass", 0.0001: "fail"}


def test_gates_declared_after_the_evidence_are_refused(binary: Place) -> None:
    made = binary.measure()
    late = binary.declare(ll.gate.at_least("roc_auc", 0.21234))
    with pytest.raises(Conflict) as caught:
        binary.session.evaluations.judge(made.id, late)
    assert caught.value.code == "gates-after-evidence"
    assert binary.session.evaluations.show(made.id).judgement is None
    again = binary.measure()
    assert binary.session.evaluations.judge(again.id, late).outcome == "pass"


def test_the_same_gates_declared_again_keep_their_time(binary: Place) -> None:
    rules = gates(ll.gate.at_least("roc_auc", 0.601))
    first = binary.session.evaluations.declare(rules)
    binary.clock.forward(seconds=60)
    assert binary.session.evaluations.declare(rules) == first


def test_gates_that_cannot_be_are_refused(binary: Place) -> None:
    for bad in ([{"gate": "at_least", "metric": "roc", "threshold": 0.5}], [{"gate": "perhaps"}], [{}]):
        with pytest.raises(Invalid):
            binary.session.evaluations.declare(bad)
    with pytest.raises(NotFound):
        binary.session.evaluations.judge(binary.measure().id, "sha256:" + "0" * 64)


# Other tasks


@pytest.mark.parametrize(("task", "metric", "threshold"), [("multiclass", "accuracy", 0.4), ("regression", "r2", 0.2)])
def test_other_tasks_are_measured_and_judged(task: str, metric: str, threshold: float, tmp_path: Path) -> None:
    place = Place(tmp_path, task)
    try:
        rules = place.declare(ll.gate.at_least(metric, threshold), ll.gate.beats("baseline", metric))
        made = place.measure(baseline="flat", champion="plain")
        assert made.evidence.task == task
        assert metric in of(made)
        judged = place.session.evaluations.judge(made.id, rules)
        assert [v.outcome for v in judged.verdicts] == ["pass", "pass"], judged.verdicts
        assert place.session.evaluations.report(made.id).read()
        assert place.session.ledger.verify().ok
    finally:
        place.platform.close()


def test_an_opponent_of_another_task_is_refused(binary: Place, tmp_path: Path) -> None:
    train = table("regression")
    ready = Table(train[:1600], train[1600:], label="y", task="regression", ignore=["at"])
    model = constant(ready)
    example = train.select([f.name for f in model.signature.inputs]).head(1).to_dicts()[0]
    write_bundle(
        model, tmp_path / "b", name="other", version=1, example=example, validation_frame=train[1600:], created=1
    )
    binary.session.models.draft("other", Body(pack(tmp_path / "b"), name="bundle.tar"))
    with pytest.raises(Conflict) as caught:
        binary.measure(baseline="other")
    assert caught.value.code == "other-task"


def test_models_of_another_project_are_not_there(binary: Place) -> None:
    binary.session.projects.create("elsewhere")
    there = binary.platform.session(project="elsewhere")
    buffer = io.BytesIO()
    table("binary").write_parquet(buffer)
    own = there.datasets.add("t", Body(buffer.getvalue(), name="t.parquet")).ref
    for foreign in ("model:default/good@1", "model:default/absent@1"):
        with pytest.raises(NotFound, match="in project 'elsewhere'") as refused:
            there.evaluations.measure(foreign, own, "y")
        assert refused.value.code == "no-model"
    with pytest.raises(NotFound) as refused:
        there.evaluations.measure("model:good@1", own, "y", opponents={"baseline": "model:default/plain@1"})
    assert refused.value.code == "no-model"
    assert there.evaluations.list() == []


def test_refs_are_printed_whole(binary: Place) -> None:
    binary.clock.forward(seconds=1)
    side = binary.sides.test.removeprefix("data:")
    made = binary.session.evaluations.measure("good@1", side, "y", opponents={"baseline": "plain@1"})
    assert (made.evidence.model, made.evidence.dataset) == ("model:good@1", binary.sides.test)
    assert made.id in [found.id for found in binary.session.evaluations.list("model:good@1")]
