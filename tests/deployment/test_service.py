"""Endpoints and rollouts in a real workspace, and against a model of what must always hold."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.deployment.records import Guards, Plan, Stage
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.loop.controller import Controller
from loopline.loop.standing import Standing
from loopline.loop.status import summary
from loopline.loop.table import Table, linear
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.packaging.records import Opening
from loopline.registry.bundle_tar import pack, unpack
from loopline.serving.live import prepare
from loopline.serving.records import BUCKETS, ControlMessage
from loopline.testing.clock import FakeClock

PLAN = Plan(
    stages=(Stage(kind="shadow", rows=10), Stage(kind="canary", percent=5), Stage(kind="canary", percent=33)),
)


def shares(session: Session, name: str = "risk") -> dict[str, tuple[str, int, str]]:
    variants = session.endpoints.routes().endpoints[name].variants
    assert sum(v.weight for v in variants) == BUCKETS
    return {v.name: (v.model, v.weight, v.mode) for v in variants}


def champion(session: Session) -> int:
    return next(m for m in session.models.list() if m.name == "risk").aliases["champion"]


# Endpoints


def test_an_endpoint_serves_a_registered_version(session: Session) -> None:
    made = session.endpoints.create("risk", "model:risk@1", route_key="person", passthrough=["sex", "sex", "age"])
    assert (made.champion, made.challenger, made.challenger_percent) == ("model:risk@1", None, 0)
    assert made.passthrough == ("sex", "age")
    assert session.endpoints.show("risk") == made
    assert shares(session) == {"champion": ("model:risk@1", BUCKETS, "live")}
    routed = session.endpoints.routes().endpoints["risk"]
    assert routed.route_key == "person"
    assert (Path(routed.variants[0].bundle) / "manifest.json").is_file()


def test_an_alias_is_resolved_once(session: Session) -> None:
    session.models.set_alias("risk", "champion", 2)
    assert session.endpoints.create("risk", "model:risk@champion").champion == "model:risk@2"
    session.models.set_alias("risk", "champion", 3)
    assert session.endpoints.show("risk").champion == "model:risk@2"


def test_what_cannot_be_served(session: Session) -> None:
    with pytest.raises(Conflict, match="draft") as caught:
        session.endpoints.create("risk", "model:risk@4")
    assert "register" in caught.value.hint
    session.models.withdraw("risk", 3, "wrong rows")
    with pytest.raises(Conflict, match="withdrawn"):
        session.endpoints.create("risk", "model:risk@3")
    with pytest.raises(NotFound):
        session.endpoints.create("risk", "model:risk@9")
    with pytest.raises(Invalid):
        session.endpoints.create("no name", "model:risk@1")
    assert session.endpoints.list() == []
    assert session.endpoints.routes().endpoints == {}


def test_what_a_worker_would_refuse_is_not_routed(session: Session, bundles: list[bytes], tmp_path: Path) -> None:
    # Workers take a routing table whole: one such endpoint would hold up every other, of other projects too.
    unpack([bundles[0]], tmp_path / "bundle")
    manifest = msgspec.json.decode((tmp_path / "bundle" / "manifest.json").read_bytes())
    manifest["golden"]["probabilities"] = {
        name: 1 - chance for name, chance in manifest["golden"]["probabilities"].items()
    }
    (tmp_path / "bundle" / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    version = session.models.draft("risk", Body(pack(tmp_path / "bundle"), name="bundle.tar")).version
    session.models.register("risk", version)
    with pytest.raises(Invalid, match="cannot be served") as caught:
        session.endpoints.create("risk", f"model:risk@{version}")
    assert caught.value.code == "bad-bundle"
    session.endpoints.create("risk", "model:risk@1")
    before = session.endpoints.routes()
    for plan in (PLAN, Plan(stages=(Stage(kind="shadow", rows=10),))):
        with pytest.raises(Invalid, match="cannot be served"):
            session.rollouts.start("risk", f"model:risk@{version}", plan)
    assert session.endpoints.routes() == before


def test_a_new_champion_at_once_and_back(session: Session) -> None:
    first = session.endpoints.create("risk", "model:risk@1")
    second = session.endpoints.create("risk", "model:risk@2")
    back = session.endpoints.create("risk", "model:risk@1")
    assert [e.champion for e in (first, second, back)] == ["model:risk@1", "model:risk@2", "model:risk@1"]
    assert first.epoch < second.epoch < back.epoch
    assert back.created == first.created


def test_a_removed_endpoint_is_gone(session: Session) -> None:
    made = session.endpoints.create("risk", "model:risk@1")
    session.endpoints.remove("risk")
    assert session.endpoints.routes().endpoints == {}
    assert session.endpoints.routes().epoch > made.epoch
    with pytest.raises(NotFound):
        session.endpoints.show("risk")


def test_the_salt_stays_so_that_a_key_keeps_its_variant(session: Session) -> None:
    session.endpoints.create("risk", "model:risk@1")
    salt = session.endpoints.routes().endpoints["risk"].salt
    session.endpoints.create("risk", "model:risk@2")
    assert session.endpoints.routes().endpoints["risk"].salt == salt


# Thresholds


def test_a_threshold_is_changed_without_a_new_version(session: Session, platform: Platform) -> None:
    session.endpoints.create("risk", "model:risk@1")
    before = session.endpoints.routes()
    made = session.endpoints.set_threshold("risk", 0.3, "too many are missed")
    assert (made.number, made.model, made.how, made.by) == (1, "model:risk@1", "set", platform.owner.name)
    routed = session.endpoints.routes()
    assert routed.epoch == before.epoch + 1
    (variant,) = routed.endpoints["risk"].variants
    assert (variant.threshold, variant.threshold_number) == (pytest.approx(0.3), 1)
    assert len(session.models.versions("risk")) == 4, "no version is made"
    (entry,) = [e for e in session.ledger.entries(limit=1000) if e.operation == "endpoints.set_threshold"]
    assert (entry.principal, entry.outputs) == (platform.owner.name, ("endpoint:risk",))
    assert "missed" not in str(entry)


def test_a_threshold_goes_back_step_by_step(session: Session) -> None:
    session.endpoints.create("risk", "model:risk@1")
    for value in (0.3, 0.4, 0.5):
        session.endpoints.set_threshold("risk", value, "try")
    for value in (0.4, 0.3, None):
        back = session.endpoints.roll_back_threshold("risk", "worse")
        assert back.value == (value if value is None else pytest.approx(value))
    (variant,) = session.endpoints.routes().endpoints["risk"].variants
    assert (variant.threshold, variant.threshold_number) == (None, 6)
    with pytest.raises(Conflict, match="that of the package again"):
        session.endpoints.roll_back_threshold("risk", "again")
    assert [t.how for t in session.endpoints.thresholds("risk")] == ["set"] * 3 + ["rolled_back"] * 3


def test_a_threshold_is_of_one_version(served: Session) -> None:
    served.endpoints.set_threshold("risk", 0.3, "for one")
    served.endpoints.set_threshold("risk", 0.7, "for two", version=2)
    served.rollouts.start("risk", "model:risk@2", PLAN)
    routed = {v.name: v for v in served.endpoints.routes().endpoints["risk"].variants}
    assert routed["champion"].threshold == pytest.approx(0.3)
    assert routed["challenger"].threshold == pytest.approx(0.7)
    with pytest.raises(Conflict, match="never changed"):
        served.endpoints.roll_back_threshold("risk", "no", version=3)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"value": 1.5, "reason": "x"}, "bad-threshold"), ({"value": 0.5, "reason": " "}, "no-reason"),
        ({"value": 0.5, "reason": "x", "version": 99}, "no-model-version"),
    ],
)  # fmt: skip
def test_a_threshold_that_is_none(served: Session, given: dict[str, Any], code: str) -> None:
    with pytest.raises(LooplineError) as told:
        served.endpoints.set_threshold("risk", **given)
    assert told.value.code == code
    assert served.endpoints.thresholds("risk") == ()


# Callers


def drafted(session: Session, folder: Path, version: int, **columns: Any) -> str:
    """A registered version of `risk` on these columns beside `x`; one with a None in it is taken missing."""
    n = 400
    rng = np.random.default_rng(version)
    frame = pl.DataFrame({"x": rng.normal(size=n), **{k: np.resize(np.array(v, float), n) for k, v in columns.items()}})
    frame = frame.with_columns(pl.all().fill_nan(None))
    x = frame["x"].to_numpy() + sum(frame[k].fill_null(0).to_numpy() for k in columns)
    frame = frame.with_columns(pl.Series("y", np.where(x + rng.normal(size=n) > 0, "yes", "no")))
    model = linear(Table(frame[:300], frame[300:], label="y"))
    example = {"x": 0.5, **dict.fromkeys(columns, 1.0)}
    write_bundle(
        model, folder / str(version), name="risk", version=version, example=example, validation_frame=frame[300:], created=0
    )  # fmt: skip
    made = session.models.draft("risk", Body(pack(folder / str(version)), name="bundle.tar"))
    return session.models.register("risk", made.version).ref


def test_a_challenger_that_needs_what_callers_do_not_send_is_refused_by_name(served: Session, tmp_path: Path) -> None:
    needs = drafted(served, tmp_path, 5, bmi=[1, 2, 3])
    with pytest.raises(Conflict) as told:
        served.rollouts.start("risk", needs, PLAN)
    assert told.value.code == "not-sent"
    assert "needs the column 'bmi' in each row; model:risk@1 does not read it" in told.value.message
    assert served.rollouts.list() == []


def test_a_challenger_that_takes_it_missing_is_rolled_out_and_callers_change_nothing(
    served: Session, tmp_path: Path, platform: Platform
) -> None:
    lenient = drafted(served, tmp_path, 5, bmi=[1, 2, np.nan])
    canary = Plan(stages=(Stage(kind="canary", percent=50),))
    rollout = served.rollouts.start("risk", lenient, canary).id

    def answers(row: dict[str, Any]) -> set[str]:
        """Which models answer the row, whatever its key."""
        live = prepare(ControlMessage(table=served.endpoints.routes()), {}, Opening()).endpoints["risk"]
        rows = live.contract.decode(json.dumps([row]).encode(), 10).rows
        found = {live.route(str(key)).model for key in range(50)}
        for variant in live.variants:
            picked = rows if variant.pick is None else [variant.pick(r) for r in rows]
            assert np.isfinite(variant.served.run(picked)).all()
        return found

    assert answers({"x": 1.0}) == answers({"x": 1.0, "bmi": 2.0}) == {"model:risk@1", lenient}
    served.rollouts.decide(rollout, "promote", "good")
    assert answers({"x": 1.0}) == answers({"x": 1.0, "bmi": 2.0}) == {lenient}
    # The way back to less: what is sent and read by nobody any more is taken on.
    again = served.rollouts.start("risk", "model:risk@2", canary).id
    served.rollouts.decide(again, "promote", "simpler")
    assert answers({"x": 1.0}) == answers({"x": 1.0, "bmi": 2.0}) == {"model:risk@2"}
    assert served.endpoints.show("risk").passthrough == ("bmi",)


def test_a_challenger_that_cannot_take_it_missing_where_callers_may_leave_it(served: Session, tmp_path: Path) -> None:
    lenient = drafted(served, tmp_path, 5, bmi=[1, 2, np.nan])
    served.rollouts.decide(served.rollouts.start("risk", lenient, PLAN).id, "promote", "good")
    with pytest.raises(Conflict, match="may leave it empty"):
        served.rollouts.start("risk", drafted(served, tmp_path, 6, bmi=[1, 2, 3]), PLAN)


# Rollouts


@pytest.fixture
def served(session: Session) -> Session:
    """An endpoint whose champion is version 1."""
    session.models.set_alias("risk", "champion", 1)
    session.endpoints.create("risk", "model:risk@1")
    return session


def test_a_rollout_moves_weight_stage_by_stage(served: Session, clock: FakeClock) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    assert (rollout.champion, rollout.challenger, rollout.status) == ("model:risk@1", "model:risk@2", "running")
    assert shares(served)["challenger"] == ("model:risk@2", 0, "shadow")
    clock.forward(seconds=5)
    moved = served.rollouts.decide(rollout.id, "advance", "held", {"challenger": {"rows": 10}})
    assert (moved.stage, moved.stage_since) == (1, clock.now())
    assert shares(served) == {
        "champion": ("model:risk@1", 9500, "live"),
        "challenger": ("model:risk@2", 500, "live"),
    }
    served.rollouts.decide(rollout.id, "advance", "held")
    assert shares(served)["challenger"][1] == 3300
    assert served.endpoints.show("risk").challenger_percent == 33
    with pytest.raises(Conflict, match="last stage"):
        served.rollouts.decide(rollout.id, "advance", "on")
    done = served.rollouts.decide(rollout.id, "promote", "not worse", {"comparison": {"value": 0.01}})
    assert (done.status, done.ended, done.reason) == ("promoted", clock.now(), "not worse")
    assert [s.decision for s in done.steps] == ["advance", "advance", "promote"]
    assert done.steps[0].measured == {"challenger": {"rows": 10}}
    assert shares(served) == {"champion": ("model:risk@2", BUCKETS, "live")}
    assert champion(served) == 2


@pytest.mark.parametrize(("decision", "status"), [("roll_back", "rolled_back"), ("keep", "kept")])
def test_a_challenger_that_does_not_make_it_gives_all_back(served: Session, decision: Any, status: str) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    served.rollouts.decide(rollout.id, "advance", "held")
    ended = served.rollouts.decide(rollout.id, decision, "errors")
    assert ended.status == status
    assert shares(served) == {"champion": ("model:risk@1", BUCKETS, "live")}
    assert champion(served) == 1
    assert served.endpoints.show("risk").challenger is None
    for late in ("advance", "promote", "keep", "roll_back"):
        with pytest.raises(Conflict, match="already"):
            served.rollouts.decide(rollout.id, late, "late")  # type: ignore[arg-type]
    assert served.rollouts.start("risk", "model:risk@3", PLAN).status == "running"


def test_one_rollout_at_a_time(served: Session) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    with pytest.raises(Conflict, match=rollout.id):
        served.rollouts.start("risk", "model:risk@3", PLAN)
    with pytest.raises(Conflict):
        served.endpoints.create("risk", "model:risk@3")
    with pytest.raises(Conflict):
        served.endpoints.remove("risk")
    assert [r.id for r in served.rollouts.list(status="running")] == [rollout.id]
    served.endpoints.create("other", "model:risk@1")
    assert served.rollouts.start("other", "model:risk@3", PLAN).endpoint == "other"


def test_what_cannot_be_rolled_out(served: Session) -> None:
    with pytest.raises(Conflict, match="draft"):
        served.rollouts.start("risk", "model:risk@4", PLAN)
    with pytest.raises(Conflict, match="champion of risk already"):
        served.rollouts.start("risk", "model:risk@1", PLAN)
    with pytest.raises(NotFound):
        served.rollouts.start("rusk", "model:risk@2", PLAN)
    with pytest.raises(Invalid):
        served.rollouts.decide(served.rollouts.start("risk", "model:risk@2", PLAN).id, "wait", "")
    with pytest.raises(NotFound):
        served.rollouts.show("gone")


@pytest.mark.parametrize(
    "plan",
    [
        Plan(stages=()),
        Plan(stages=(Stage(kind="canary", percent=0),)),
        Plan(stages=(Stage(kind="canary", percent=100),)),
        Plan(stages=(Stage(kind="canary", percent=150),)),
        Plan(stages=(Stage(kind="canary", percent=-5),)),
        Plan(stages=(Stage(kind="shadow", percent=50),)),
        Plan(stages=(Stage(kind="canary", percent=50), Stage(kind="canary", percent=5))),
        Plan(stages=(Stage(kind="shadow", rows=-1),)),
        Plan(stages=(Stage(kind="shadow", seconds=float("nan")),)),
        Plan(stages=(Stage(kind="shadow"),), margin=-0.1),
        Plan(stages=(Stage(kind="shadow"),), metric="roc"),
        Plan(stages=(Stage(kind="shadow"),), guards=Guards(errors=2)),
        Plan(stages=(Stage(kind="shadow"),), guards=Guards(latency=0)),
        Plan(stages=(Stage(kind="shadow"),), guards=Guards(rows=0)),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(served: Session, plan: Plan) -> None:
    with pytest.raises(Invalid):
        served.rollouts.start("risk", "model:risk@2", plan)
    assert served.rollouts.list() == []
    assert shares(served) == {"champion": ("model:risk@1", BUCKETS, "live")}


def test_promotion_moves_alias_and_endpoint_together_or_neither(served: Session) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    failpoints.arm("database.tx.before_commit=EIO")
    try:
        with pytest.raises(OSError, match="database"):
            served.rollouts.decide(rollout.id, "promote", "not worse")
    finally:
        failpoints.arm("")
    assert champion(served) == 1
    assert served.endpoints.show("risk").champion == "model:risk@1"
    assert served.rollouts.show(rollout.id).status == "running"
    served.rollouts.decide(rollout.id, "promote", "not worse")
    assert (champion(served), served.endpoints.show("risk").champion) == (2, "model:risk@2")
    assert served.ledger.verify().ok


def test_a_challenger_withdrawn_meanwhile_is_not_promoted(served: Session) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    served.models.withdraw("risk", 2, "leaks the label")
    with pytest.raises(Conflict):
        served.rollouts.decide(rollout.id, "promote", "not worse")
    assert (champion(served), served.endpoints.show("risk").champion) == (1, "model:risk@1")
    assert served.rollouts.decide(rollout.id, "roll_back", "withdrawn").status == "rolled_back"


def test_a_challenger_of_withdrawn_data_goes_back(served: Session, bundles: list[bytes], clock: FakeClock) -> None:
    served.datasets.add("rows", Body(b"x,y\n1,no\n2,yes\n", name="rows.csv"))
    learnt = served.models.draft("risk", Body(bundles[0], name="bundle.tar"), inputs=("data:rows@1",))
    served.models.register("risk", learnt.version)
    rollout = served.rollouts.start("risk", learnt.ref, PLAN)
    served.datasets.withdraw("rows", "1", "labels of another year")
    there = Standing(last=0, logged=0, monitored=False, asked=False, rolling=True, scheduled=False, expires=None)
    controller = Controller(
        served, clock, launch=_nothing, route=lambda: None, open_model=_nothing, standing=lambda: there
    )
    controller.tick()
    ended = served.rollouts.show(rollout.id)
    assert (ended.status, ended.reason) == ("rolled_back", f"{learnt.ref} learnt from data:rows@1, which is withdrawn")
    for refused in (
        lambda: served.rollouts.start("risk", learnt.ref, PLAN),
        lambda: served.models.set_alias("risk", "champion", learnt.version),
        lambda: served.endpoints.create("other", learnt.ref),
    ):
        with pytest.raises(Refused) as caught:
            refused()
        assert caught.value.code == "data-withdrawn"
    assert champion(served) == 1


def test_what_answers_still_and_rests_on_withdrawn_data_needs_a_person(served: Session, bundles: list[bytes]) -> None:
    served.datasets.add("rows", Body(b"x,y\n1,no\n2,yes\n", name="rows.csv"))
    run = served.runs.create("fit", inputs=("data:rows@1",))
    learnt = served.models.draft("risk", Body(bundles[0], name="bundle.tar"), run=run.id)
    served.models.register("risk", learnt.version)
    served.endpoints.create("other", learnt.ref)
    assert not summary(served).needs
    served.datasets.withdraw("rows", "1", "labels of another year")
    (need,) = summary(served).needs
    assert (need.kind, need.ref) == ("unsound", learnt.ref)
    assert need.text == f"other answers by {learnt.ref}, which learnt from data:rows@1: it is withdrawn"


def _nothing(*given: Any) -> Any:
    raise AssertionError("nothing is launched or opened")


def test_another_projects_things_are_not_found(served: Session, platform: Platform) -> None:
    served.projects.create("other")
    other = platform.session(project="other")
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    for call in (
        lambda: other.endpoints.show("risk"),
        lambda: other.endpoints.create("risk", "model:risk@1"),
        lambda: other.endpoints.create("risk", "model:default/risk@1"),
        lambda: other.rollouts.show(rollout.id),
        lambda: other.rollouts.decide(rollout.id, "promote", "mine"),
    ):
        with pytest.raises(NotFound):
            call()
    assert served.rollouts.show(rollout.id).status == "running"


def test_each_decision_is_on_the_ledger(served: Session) -> None:
    rollout = served.rollouts.start("risk", "model:risk@2", PLAN)
    served.rollouts.decide(rollout.id, "roll_back", "constant outputs: secret value 0.123")
    entries = served.ledger.entries(limit=1000)
    (decided,) = (e for e in entries if e.operation == "rollouts.decide")
    assert rollout.ref in decided.inputs
    assert "endpoint:risk" in decided.outputs
    assert "0.123" not in str(entries)


# Against a model


class Deployments(RuleBasedStateMachine):
    """Whatever is called in whatever order: weights are whole, the champion is one, epochs rise, refused calls change nothing."""

    prepared: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.prepared, self.folder / "p")
        self.clock = FakeClock(1_800_000_000_000)
        self.platform = Platform.open(
            workspace=self.folder / "p" / "w", checkpoints=str(self.folder / "p" / "copies"), clock=self.clock
        )
        self.session = self.platform.session()
        self.champion = 0
        self.running: dict[str, Any] | None = None
        self.epoch = 0

    @initialize()
    def begin(self) -> None:
        self.session.endpoints.create("risk", "model:risk@1")
        self.champion = 1

    def teardown(self) -> None:
        assert self.session.ledger.verify().ok
        self.platform.close()
        shutil.rmtree(self.folder)

    def attempt(self, allowed: bool, call: Any) -> Any:
        before = self.session.endpoints.routes()
        self.clock.forward(seconds=1)
        try:
            made = call()
        except LooplineError:
            assert not allowed
            assert self.session.endpoints.routes() == before
            return None
        assert allowed
        assert self.session.endpoints.routes().epoch > before.epoch
        return made

    @rule(version=st.integers(1, 4))
    def create(self, version: int) -> None:
        allowed = self.running is None and version != 4
        if self.attempt(allowed, lambda: self.session.endpoints.create("risk", f"model:risk@{version}")):
            self.champion = version

    @rule(version=st.integers(1, 4), percents=st.lists(st.integers(-1, 101), max_size=3), shadow=st.booleans())
    def start(self, version: int, percents: list[int], shadow: bool) -> None:
        stages = [Stage(kind="shadow")] * shadow + [Stage(kind="canary", percent=p) for p in percents]
        sound = stages and all(0 < p < 100 for p in percents) and sorted(percents) == percents
        allowed = bool(sound) and self.running is None and version not in (4, self.champion)
        made = self.attempt(
            allowed, lambda: self.session.rollouts.start("risk", f"model:risk@{version}", Plan(stages=tuple(stages)))
        )
        if made:
            self.running = {"id": made.id, "version": version, "stages": stages, "stage": 0}

    @rule(decision=st.sampled_from(["advance", "promote", "keep", "roll_back"]))
    def decide(self, decision: Any) -> None:
        if self.running is None:
            return
        last = self.running["stage"] + 1 == len(self.running["stages"])
        allowed = not (decision == "advance" and last)
        if not self.attempt(allowed, lambda: self.session.rollouts.decide(self.running["id"], decision, "so")):  # type: ignore[index]
            return
        if decision == "advance":
            self.running["stage"] += 1
            return
        if decision == "promote":
            self.champion = self.running["version"]
        self.running = None

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        if not self.champion:
            return
        routes = self.session.endpoints.routes()
        assert routes.epoch >= self.epoch
        self.epoch = routes.epoch
        variants = {v.name: v for v in routes.endpoints["risk"].variants}
        assert sum(v.weight for v in variants.values()) == BUCKETS
        assert all(0 <= v.weight <= BUCKETS for v in variants.values())
        assert variants["champion"].model == f"model:risk@{self.champion}"
        assert variants["champion"].mode == "live"
        assert self.session.models.show("risk", self.champion).status == "registered"
        if self.running is None:
            assert set(variants) == {"champion"}
            return
        stage = self.running["stages"][self.running["stage"]]
        assert variants["challenger"].model == f"model:risk@{self.running['version']}"
        assert variants["challenger"].weight == stage.percent * BUCKETS // 100
        assert variants["challenger"].mode == ("shadow" if stage.kind == "shadow" else "live")


def test_endpoints_and_rollouts_against_a_model(prepared: Path) -> None:
    folder = prepared

    class Here(Deployments):
        prepared = folder

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
