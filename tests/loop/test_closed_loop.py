"""A workspace in service: traffic, labels, a retraining in a process of its own, a rollout to its end, and a broken challenger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import polars as pl
import pytest

from loopline.agents.replay import Replay
from loopline.api.up import Service, address_of
from loopline.catalog import Session
from loopline.deployment.records import Plan, Stage
from loopline.errors import Conflict
from loopline.loop.broken import register_constant
from loopline.loop.lease import held

from .conftest import PASSING, Place

_PATIENCE = 180


class Life:
    """A place in service with its traffic."""

    def __init__(self, place: Place, service: Service, replay: Replay) -> None:
        self.place = place
        self.service = service
        self.replay = replay

    @property
    def session(self) -> Session:
        return self.service.platform.session()

    def live(self, rows: int) -> None:
        """Some traffic, and its labels."""
        self.replay.send(rows, single=rows // 4)
        self.replay.send_labels(self.session, self.replay.sent)

    def until(self, what: str, found: Callable[[], Any], meanwhile: int = 0) -> Any:
        """Waits for something, with traffic meanwhile: more comes once what came is collected, so that rows last on any machine."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if got := found():
                return got
            if meanwhile and self.replay.left and _live_rows(self.session) == self.replay.sent:
                self.live(meanwhile)
            time.sleep(0.2)
        raise AssertionError(f"{what} did not happen: {self.session.loops.requests()} {self.session.rollouts.list()}")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, patients: pl.DataFrame) -> Iterator[Life]:
    """The first version was promoted on the first half; the second half is traffic."""
    place = Place(tmp_path_factory.mktemp("life"), patients.head(3000))
    place.declare(PASSING, **{"rows=100),": 'rows=60).judged("roc_auc", margin=0.3),'})
    assert place.run().outcome == "promoted"
    settings = place.platform.settings
    place.close()
    # A value that training never missed is refused where it is missing; that is another test's matter.
    whole = [name for name in patients.columns if not patients.head(3000)[name].null_count()]
    later = patients.tail(3000).drop_nulls(whole)
    with Service(settings, turn=0.2) as service:
        rows = later.drop("readmitted").to_dicts()
        yield Life(
            place, service, Replay(service.url, "readmission", rows, later["readmitted"].to_list(), connections=2)
        )


def test_the_loop_closes(life: Life) -> None:
    session = life.session
    life.live(1200)

    def labelled() -> int:
        champion = session.predictions.traffic("readmission").variants.get("champion")
        return champion.labelled if champion else 0  # nothing is collected yet

    life.until("collection", lambda: labelled() >= 1100)
    quality = session.monitors.quality("readmission")
    assert quality.labelled >= 1100
    assert {"new", "returning"} == {g.name for g in quality.groups}
    assert sum(g.rows for g in quality.groups) == quality.rows

    # Drift may ask at any moment, before a person does or after. A person's wish replaces an alert's that waits, and is
    # refused beside one that runs; what an alert asks while the rollout is under way waits, and its end answers it.
    with suppress(Conflict):
        session.loops.request("readmission", "a test asks")
    done = life.until(
        "the retraining",
        lambda: next((r for r in session.loops.requests() if r.status not in ("asked", "running", "withdrawn")), None),
    )
    assert done.status == "challenging", done
    assert {r.status for r in session.loops.requests() if r.id != done.id} <= {"withdrawn", "asked"}
    trained = session.datasets.show("readmission", "2")
    assert trained.inputs == ("data:readmission@1",)
    assert trained.rows + trained.quarantined >= 3000 + 1100 - 30
    assert session.datasets.show("readmission.test", "2").looks == 1

    ended = life.until(
        "the rollout", lambda: next((r for r in session.rollouts.list() if r.status != "running"), None), meanwhile=150
    )
    assert ended.status == "promoted", ended
    assert [s.decision for s in ended.steps] == ["advance", "advance", "promote"]
    assert session.models.show("readmission", "champion").version == 2
    assert session.endpoints.show("readmission").champion == "model:readmission@2"
    (monitor,) = session.monitors.list()
    assert monitor.reference == session.models.show("readmission", 2).inputs[0] == "data:readmission.train@2"
    life.until("the new champion's answers", lambda: _model_of_answers(life) == "model:readmission@2")
    assert session.ledger.verify().ok


def _model_of_answers(life: Life) -> str:
    life.live(4)
    time.sleep(0.5)
    return life.session.predictions.list("readmission", limit=1)[0].model


def test_a_broken_challenger_is_rolled_back_by_itself(life: Life) -> None:
    session = life.session
    champion = session.models.show("readmission", "champion").version
    ref = register_constant(session, "readmission", life.place.workspace / "scratch", label="readmitted")
    plan = Plan(stages=(Stage(kind="shadow", rows=2000), Stage(kind="canary", percent=20, rows=2000)))
    rollout = session.rollouts.start("readmission", ref, plan)
    ended = life.until(
        "the guard",
        lambda: (r := session.rollouts.show(rollout.id)).status != "running" and r,
        meanwhile=100,
    )
    assert ended.status == "rolled_back"
    assert "constant outputs" in ended.reason
    assert session.models.show("readmission", "champion").version == champion
    assert {v.name for v in session.endpoints.routes().endpoints["readmission"].variants} == {"champion"}
    assert session.ledger.verify().ok


def test_a_second_controller_is_refused(life: Life) -> None:
    with pytest.raises(Conflict) as caught, held(life.place.workspace, "another"):
        raise AssertionError("two hold the lease")
    assert caught.value.code == "controller-running"
    with pytest.raises(Conflict):
        Service(life.place.platform.settings).start()
    found = address_of(life.place.workspace)
    assert found is not None
    assert found.url == life.service.url


def test_every_answer_is_on_record_once(life: Life) -> None:
    session = life.session
    sent = life.replay.sent
    life.until("collection", lambda: _live_rows(session) == sent)
    assert _live_rows(session) == sent


def _live_rows(session: Session) -> int:
    variants = session.predictions.traffic("readmission").variants
    return sum(side.rows for name, side in variants.items() if not name.endswith(":shadow"))
