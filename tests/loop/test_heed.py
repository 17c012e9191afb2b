"""From an alert to a run: each alert asks once, with a cool-down, whoever is killed in between."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

import loopline as ll
from loopline.app import Platform
from loopline.errors import Conflict, NotFound
from loopline.loop.controller import Controller
from loopline.loop.records import LoopRequest
from loopline.loop.standing import Standing, standing
from loopline.operations import Body
from loopline.serving.log import Frame, Part, PredictionLog, encode, segments
from loopline.testing.clock import FakeClock

DAY = 86_400_000


def rows(count: int, shift: float, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, count)
    return pl.DataFrame({"x": x, "y": np.where(x + rng.normal(size=count) > 0, "yes", "no")})


class Place:
    """A watched endpoint and the loop behind it; `drift` makes its next look raise an alert."""

    def __init__(self, folder: Path, *, retrain: Any = None) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.open()
        buffer = io.BytesIO()
        rows(3000, 0, 1).write_parquet(buffer)
        self.session.datasets.add("risk", Body(buffer.getvalue(), name="risk.parquet"))
        self.log = PredictionLog(
            self.platform.settings.workspace / "serving" / "log",
            0,
            segment_bytes=1 << 30,
            segment_age_ms=1 << 40,
            now=self.clock.now(),
        )
        rule = ll.retrain(on=["drift"], cool_down="2d", at_least=0) if retrain is None else retrain
        declaration = {
            "data": {"label": "y", "group": None, "time": None},
            "retrain": msgspec.to_builtins(rule) if rule else None,
        }
        self.session.loops.declare("risk", "risk.py", declaration)
        self.watch()

    def open(self) -> None:
        self.platform = Platform.open(
            workspace=self.folder / "w", checkpoints=str(self.folder / "copies"), clock=self.clock
        )
        self.session = self.platform.session()

    def watch(self) -> None:
        self.session.monitors.declare("risk", "data:risk@1", "y", "binary", look=1000, rows=400)

    def answer(self, shift: float, count: int = 1000) -> None:
        self.clock.forward(seconds=10)
        sent = rows(count, shift, self.clock.now() % 1000).drop("y").to_dicts()
        mark = f"r{self.clock.now()}"
        frame = Frame(
            time_ms=self.clock.now(), request=mark, endpoint="risk", parts=[Part("model:risk@1", "champion", "live", 1.0)],
            status=200, latency_us=10, form="list", sent=msgspec.json.encode(sent),
            answered=msgspec.json.encode([{"id": f"{mark}-{n}", "probability": 0.5, "label": "no"} for n in range(count)]),
        )  # fmt: skip
        self.log.append([encode(frame)], self.clock.now())
        self.session.predictions.collect()

    def drift(self) -> str:
        """A fresh watch finds drift; gives the alert."""
        self.watch()
        self.answer(3.0)
        found = self.session.monitors.look("risk")
        assert found.alert is not None, found
        return found.alert

    def asked(self) -> list[str]:
        return [request.alert for request in reversed(self.session.loops.requests())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.platform.close()


def test_an_alert_asks_for_one_run(place: Place) -> None:
    assert place.session.loops.heed().asked == ()
    alert = place.drift()
    heeded = place.session.loops.heed()
    (request,) = heeded.asked
    assert (request.alert, request.loop, request.status) == (alert, "risk", "asked")
    assert "x" in request.reason
    assert place.session.loops.heed().asked == ()
    assert place.asked() == [alert]


def test_an_asked_run_is_on_the_ledger_and_heeding_nothing_is_not(place: Place) -> None:
    alert = place.drift()
    place.session.loops.heed()
    for _ in range(3):
        place.session.loops.heed()
    entries = [e for e in place.session.ledger.entries(limit=1000) if e.operation == "loops.heed"]
    assert [set(e.inputs) for e in entries] == [{alert, "loop:risk"}]


def test_a_second_controller_asks_nothing_more(place: Place) -> None:
    alert = place.drift()
    other = Platform.open(workspace=place.folder / "w", checkpoints=str(place.folder / "copies"), clock=place.clock)
    both = [place.session.loops.heed(), other.session().loops.heed()]
    other.close()
    assert sorted(len(h.asked) for h in both) == [0, 1]
    assert place.asked() == [alert]


def test_an_alert_during_a_run_waits_for_its_end_and_the_cool_down(place: Place) -> None:
    first = place.drift()
    (request,) = place.session.loops.heed().asked
    place.session.loops.settle(request.id, "running")
    second = place.drift()
    heeded = place.session.loops.heed()
    assert heeded.asked == ()
    assert any("under way" in why and second in why for why in heeded.passed_over)
    place.session.loops.settle(request.id, "refused", "by a gate")
    assert place.session.loops.heed().asked == ()  # it cools down
    place.clock.forward(milliseconds=2 * DAY)
    (again,) = place.session.loops.heed().asked
    assert again.alert == second
    assert place.asked() == [first, second]


def test_an_alert_that_somebody_closed_asks_no_more(place: Place) -> None:
    place.drift()
    (request,) = place.session.loops.heed().asked
    second = place.drift()
    place.session.loops.heed()
    place.session.alerts.change(second.partition(":")[2], "closed", "the sensor was repaired")
    place.session.loops.settle(request.id, "refused")
    place.clock.forward(milliseconds=3 * DAY)
    assert place.session.loops.heed().asked == ()


def test_what_was_seen_before_a_crash_asks_after_it(place: Place) -> None:
    """The look was committed, its controller ended before it heeded it."""
    alert = place.drift()
    place.platform.close()
    place.open()
    (request,) = place.session.loops.heed().asked
    assert request.alert == alert
    place.platform.close()
    place.open()
    assert place.session.loops.heed().asked == ()


@pytest.mark.parametrize("rule", [False, ll.retrain(on=["quality"])])
def test_a_loop_that_does_not_retrain_on_it_is_left_alone(rule: Any, tmp_path: Path) -> None:
    place = Place(tmp_path, retrain=rule)
    alert = place.drift()
    heeded = place.session.loops.heed()
    assert heeded.asked == ()
    assert [why for why in heeded.passed_over if alert in why]
    place.platform.close()


def test_a_person_asks_once_at_a_time(place: Place) -> None:
    request = place.session.loops.request("risk", "new labels")
    with pytest.raises(Conflict, match="waits for its turn") as caught:
        place.session.loops.request("risk")
    assert "loopline run risk --cancel" in caught.value.hint
    place.session.loops.settle(request.id, "running")
    with pytest.raises(Conflict, match="is under way"):
        place.session.loops.request("risk")
    place.session.loops.settle(request.id, "challenging", "its rollout has begun")
    assert place.session.loops.request("risk").id != request.id
    with pytest.raises(NotFound) as caught:
        place.session.loops.request("rsk")
    assert "risk" in caught.value.hint


# The controller, without workers


class Ran:
    """Stands for a run's process; `code` is None while it runs."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


def controller(place: Place, launched: dict[str, Ran]) -> Controller:
    def launch(request: LoopRequest) -> Ran:
        assert request.id not in launched
        launched[request.id] = Ran()
        return launched[request.id]

    def there() -> Standing:
        logged = sum(path.stat().st_size for path in segments(place.platform.settings.workspace / "serving" / "log"))
        with place.platform.database.begin(lazy=True) as tx:
            return standing(tx, logged)

    return Controller(
        place.session,
        place.clock,
        launch=launch,
        route=lambda: None,
        open_model=place.platform.open_model,
        standing=there,
    )


def test_a_turn_looks_asks_and_launches(place: Place) -> None:
    launched: dict[str, Ran] = {}
    control = controller(place, launched)
    control.tick()
    assert launched == {}
    place.answer(3.0)
    control.tick()
    (request,) = place.session.loops.requests()
    assert (request.status, list(launched)) == ("running", [request.id])
    control.tick()
    launched[request.id].code = 1
    control.tick()
    assert place.session.loops.requests()[0].status == "failed"
    assert "exit code 1" in place.session.loops.requests()[0].message


def test_a_controller_that_comes_after_another_takes_its_runs_up(place: Place) -> None:
    before: dict[str, Ran] = {}
    place.answer(3.0)
    controller(place, before).tick()
    after: dict[str, Ran] = {}
    controller(place, after).tick()
    assert list(after) == list(before)


def test_a_run_that_settled_itself_is_left_as_it_is(place: Place) -> None:
    launched: dict[str, Ran] = {}
    control = controller(place, launched)
    place.answer(3.0)
    control.tick()
    (request,) = place.session.loops.requests()
    place.session.loops.settle(request.id, "refused", "by a gate")
    launched[request.id].code = 3
    control.tick()
    assert place.session.loops.requests()[0].status == "refused"


def test_a_waiting_run_goes_on_once_nobody_is_asked(place: Place) -> None:
    launched: dict[str, Ran] = {}
    control = controller(place, launched)
    request = place.session.loops.request("risk")
    place.session.loops.settle(request.id, "waiting", "too few to tell")
    control.tick()
    assert place.session.loops.requests()[0].status == "running"
    assert list(launched) == [request.id]


def test_enough_labels_are_waited_for(tmp_path: Path) -> None:
    place = Place(tmp_path, retrain=ll.retrain(on=["drift"], at_least=300))
    launched: dict[str, Ran] = {}
    control = controller(place, launched)
    place.answer(3.0)
    control.tick()
    assert [r.status for r in place.session.loops.requests()] == ["asked"]
    found = place.session.predictions.list("risk", limit=400)
    from loopline.outcomes.records import Label

    place.session.labels.add("risk", [Label(prediction=p.id, value="yes") for p in found[:299]])
    control.tick()
    assert launched == {}
    place.session.labels.add("risk", [Label(prediction=p.id, value="yes") for p in found[299:]])
    control.tick()
    assert [r.status for r in place.session.loops.requests()] == ["running"]
    place.platform.close()


def test_what_waits_says_why_and_gives_way_to_a_person(tmp_path: Path) -> None:
    place = Place(tmp_path, retrain=ll.retrain(on=["drift"], at_least=1200))
    launched: dict[str, Ran] = {}
    control = controller(place, launched)
    place.answer(3.0)
    control.tick()
    (waits,) = place.session.loops.requests()
    assert (waits.status, waits.message) == ("asked", "1,200 answered rows must have their label")
    entries = place.session.ledger.verify().size
    control.tick()
    assert place.session.ledger.verify().size == entries  # said once
    mine = place.session.loops.request("risk", "at once")
    control.tick()
    assert {r.id: r.status for r in place.session.loops.requests()} == {waits.id: "withdrawn", mine.id: "running"}
    assert list(launched) == [mine.id]
    place.platform.close()


def test_a_run_that_waits_is_withdrawn_by_hand_or_with_its_alert(tmp_path: Path) -> None:
    place = Place(tmp_path, retrain=ll.retrain(on=["drift"], cool_down="1h", at_least=5000))
    control = controller(place, launched := {})
    place.answer(3.0)
    control.tick()
    (first,) = place.session.loops.requests("asked")
    place.session.alerts.change(first.alert.partition(":")[2], "closed")
    control.tick()
    assert [(r.status, r.message) for r in place.session.loops.requests()] == [
        ("withdrawn", f"{first.alert} was closed")
    ]
    place.clock.forward(milliseconds=DAY)
    place.drift()
    control.tick()
    (second,) = place.session.loops.requests("asked")
    place.session.loops.settle(second.id, "withdrawn", "not now")
    control.tick()
    with pytest.raises(Conflict) as caught:
        place.session.loops.settle(second.id, "running")
    assert caught.value.code == "request-ended"
    assert place.session.loops.requests("asked") == ()
    assert launched == {}
    running = place.session.loops.request("risk")
    place.session.loops.settle(running.id, "running")
    with pytest.raises(Conflict, match="is running"):
        place.session.loops.settle(running.id, "withdrawn")
    place.platform.close()
