"""What there is to look after, at a glance; a server that has nothing to do does nothing, and is small."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loopline as ll
from loopline.app import Platform
from loopline.errors import Unavailable
from loopline.loop.controller import Controller
from loopline.loop.standing import Standing, standing
from loopline.operations import Body
from loopline.testing.clock import FakeClock


@pytest.fixture
def platform(tmp_path: Path, database_url: str) -> Iterator[Platform]:
    opened = Platform.open(
        workspace=tmp_path / "w", database=database_url, checkpoints=str(tmp_path / "copies"), clock=FakeClock()
    )
    yield opened
    opened.close()


def found(platform: Platform) -> Standing:
    with platform.database.begin(lazy=True) as tx:
        return standing(tx, 7)


def test_what_there_is_of_every_project(platform: Platform, tmp_path: Path) -> None:
    session = platform.session()
    first = found(platform)
    assert (first.logged, first.moves, first.scheduled, first.expires) == (7, False, False, None)
    assert found(platform) == first
    session.projects.create("clinic")
    later = found(platform)
    assert (later != first, later.moves) == (True, False)
    clinic = platform.session(project="clinic")
    clinic.loops.declare("risk", "risk.py", {})
    clinic.loops.request("risk", "by hand")
    assert (found(platform).asked, found(platform).moves) == (True, True)
    clinic.datasets.add("risk", Body(b"x,y\n1,no\n2,yes\n", name="risk.csv"))
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic" / "0.csv").write_text("id\n0\n")
    clinic.sources.collect("visits", [{"address": str(tmp_path / "clinic")}])
    clinic.sources.schedule("visits", every="1h")
    assert found(platform).scheduled
    token = session.access.create_token(days=1).token
    assert found(platform).expires == token.expires
    assert isinstance(platform.clock, FakeClock)
    platform.clock.forward(seconds=86_400)
    assert found(platform).expires is None


def test_a_turn_is_due_when_something_changed_or_failed_or_time_moves_it(platform: Platform) -> None:
    session = platform.session()
    troubles: list[Exception] = []

    def route() -> None:
        if troubles:
            raise troubles.pop()

    controller = Controller(
        session, platform.clock, launch=_nothing, route=route, open_model=_nothing, standing=lambda: found(platform)
    )
    assert controller.due(), "the first"
    controller.tick()
    assert not controller.due()
    session.projects.create("clinic")
    assert controller.due()
    troubles.append(Unavailable("Not now.", code="away"))
    controller.tick()
    assert controller.due(), "what failed is tried again"
    controller.tick()
    assert not controller.due()
    session.loops.declare("risk", "risk.py", {})
    session.loops.request("risk", "by hand")
    session.loops.settle(session.loops.requests("asked")[0].id, "waiting")
    controller.tick()
    assert controller.due(), "it waits, and time may end that"


def test_a_turn_is_taken_where_it_cannot_be_told_whether_it_is_due(platform: Platform) -> None:
    looks: list[str] = []

    def gone() -> Standing:
        raise OSError("the database is away")

    class House:
        def __getattr__(self, group: str) -> Any:
            looks.append(group)
            raise AttributeError(group)

    house: Any = House()
    controller = Controller(
        house, platform.clock, launch=_nothing, route=lambda: None, open_model=_nothing, standing=gone
    )
    assert controller.due()
    with pytest.raises(AttributeError):
        controller.tick()
    assert looks == ["predictions"]


def _nothing(*given: Any) -> Any:
    raise AssertionError("nothing is launched or opened")


HEAVY = ("polars", "pyarrow", "arrow.so", "deltalake", "scipy/", "sklearn", "onnx", "pandas", "lightgbm")
"""In the names of the files that such a package maps into a process."""


@pytest.mark.skipif(sys.platform != "linux", reason="the files that a process has mapped are told by Linux")
def test_an_idle_server_has_loaded_nothing_of_what_it_does_not_do(tmp_path: Path) -> None:
    own = {"LOOPLINE_WORKSPACE": str(tmp_path / "w"), "LOOPLINE_PORT": "0", "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "loopline", "up"], env={**os.environ, **own}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = next(word for line in process.stdout for word in line.split() if word.startswith("http://")).rstrip(".,/")

        def asked(method: str, path: str, given: Any = None) -> Any:
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            connection.request(
                method, path, None if given is None else json.dumps(given), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            return json.loads(content)

        def loaded() -> list[str]:
            mapped = Path(f"/proc/{process.pid}/maps").read_text()
            return [name for name in HEAVY if re.search(rf"site-packages/\S*{re.escape(name)}", mapped)]

        # By now it has had its first turn, or has it before it answers the last of these.
        for _ in range(20):
            run = asked("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
            batch = {"run_id": run, "metrics": [{"key": "a", "value": 1.0, "timestamp": 1, "step": 0}]}
            asked("POST", "/api/2.0/mlflow/runs/log-batch", batch)
        asked("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"], "filter": "metrics.a > 0"})
        assert loaded() == []
        with ll.connect(url) as session:
            session.datasets.add("rows", Body(b"x,y\n1,no\n2,yes\n", name="rows.csv"))
        assert "polars" in loaded(), "what it does need comes when it is needed"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
