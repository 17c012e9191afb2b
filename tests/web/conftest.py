"""A small workspace with names that are HTML, its server, and a browser."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from loopline.app import Platform
from loopline.data.synthetic import synthetic_readmission
from loopline.loop.again import first

NASTY = "<script>document.title='owned'</script>"
"""What must be shown as text, wherever it stands."""

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

LOOP = f"""
import loopline as ll

NASTY = {NASTY!r}


@ll.step
def fit(train: ll.Table, *, leaves: int = 8) -> ll.Model:
    return ll.boosted(train, learning_rate=0.1, leaves=leaves, min_rows=50)


loop = ll.Loop(
    "readmission",
    purpose="Find patients early. " + NASTY,
    data=ll.source("history.parquet", label="readmitted", time="encounter_id", group="patient_nbr", protected=["gender"]),
    contract=ll.contract(ll.unique("encounter_id"), ll.column("gender").one_of("Female", "Male")),
    train=fit,
    tune=ll.tune(leaves=(4, 16), trials=2, seed=7),
    gates=[ll.gate.at_least("roc_auc", 0.5), ll.gate.latency(p99="500ms")],
    rollout=ll.rollout.shadow(rows=200).canary(50, rows=100),
    monitor=ll.monitor(false_alarms="1/quarter", look="1s", rows=200),
)
"""


@pytest.fixture(scope="session")
def rows() -> pl.DataFrame:
    """Synthetic visits: the first 3,000 are history, the others live; the column whose name is HTML changes in between."""
    frame = synthetic_readmission(rows=6000)
    plain = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("north")).otherwise(pl.lit("south"))
    return frame.with_columns(
        pl.when(pl.int_range(pl.len()) < 3000).then(plain).otherwise(pl.lit(NASTY)).alias("<b>ward</b>")
    )


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, rows: pl.DataFrame) -> Path:
    """A workspace in which the loop ran once, to be copied."""
    folder = tmp_path_factory.mktemp("web") / "w"
    (folder / "loops").mkdir(parents=True)
    rows.head(3000).write_parquet(folder / "loops" / "history.parquet")
    file = folder / "loops" / "readmission.py"
    file.write_text(LOOP)
    platform = Platform.open(workspace=str(folder), checkpoints=str(folder.parent / "outside"))
    try:
        result = first(platform.session(), str(file), folder, facts={"data": "synthetic", "note": NASTY})
    finally:
        platform.close()
    assert result.outcome == "promoted", result.reason
    return folder


class Served:
    """A running `loopline up`: its address, and plain requests to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(
        self, target: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, target, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, target: str, method: str = "GET", given: Any = None) -> Any:
        """The JSON that a call of the API gives."""
        body = None if given is None else json.dumps(given).encode()
        status, _, content = self.ask(f"/api/v1{target}", method, body, Content_Type="application/json")
        assert status < 300, content
        return json.loads(content)


@pytest.fixture(scope="session")
def served(workspace: Path, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A copy of the workspace in service, with drift in what it answered and an alert raised for it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(workspace, folder / "w")
    command = [sys.executable, "-m", "loopline", "--workspace", str(folder / "w"), "up", "--port", "0"]
    environment = {**os.environ, "LOOPLINE_CHECKPOINTS": str(folder / "outside")}
    with (folder / "up.log").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        note = folder / "w" / "server.json"
        wait(lambda: note.exists() or process.poll() is not None, "it begins to serve")
        assert process.poll() is None, (folder / "up.log").read_text()
        found = Served(json.loads(note.read_bytes())["url"])
        live = rows.tail(600).drop("readmitted").to_dicts()
        for start in range(0, len(live), 100):
            sent = json.dumps({"rows": live[start : start + 100]}).encode()
            status, _, content = found.ask("/predict/readmission", "POST", sent, Content_Type="application/json")
            assert status == 200, content
        wait(lambda: found.json("/projects/default/alerts"), "an alert is raised for the drift")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait(until: Callable[[], Any], what: str, seconds: float = 90) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not on PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()
