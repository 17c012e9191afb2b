"""The alert rules and the scraping, by Prometheus' own programs."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import debian

from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, live, table

pytestmark = pytest.mark.systems
DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def programs() -> Path:
    return debian("prometheus")


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")],
)
def test_promtool_finds_nothing_amiss(programs: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([programs / "promtool", *words], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_never_fires_is_found(programs: Path, tmp_path: Path) -> None:
    for file in DEPLOY.iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("> 0.01", "> 0.9"))
    done = subprocess.run(
        [programs / "promtool", "test", "rules", "alerts.test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "LooplineFailing" in done.stdout + done.stderr) == (1, True)


def test_a_prometheus_scrapes_and_an_alert_fires(
    programs: Path, serve: Callable[..., Supervisor], bundle: Callable[..., Path], tmp_path: Path
) -> None:
    server = serve(table(1, live(bundle(version=3), 3)))
    config = (
        (DEPLOY / "prometheus.yml")
        .read_text()
        .replace("15s", "1s")
        .replace("global:", "global:\n  scrape_timeout: 1s")
        .replace(":8400", f":{server.port}")
    )
    (tmp_path / "prometheus.yml").write_text(config)
    # As they are, but for a range and a time that a test can wait for.
    rules = (DEPLOY / "alerts.yml").read_text().replace("[15m]", "[10s]").replace("for: 15m", "for: 0s")
    (tmp_path / "alerts.yml").write_text(rules)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = ("--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=data")
    child = subprocess.Popen([programs / "prometheus", *options], cwd=tmp_path, stderr=subprocess.DEVNULL)

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(text: str) -> dict[str, float]:
        found = ask(f"query?query={urllib.parse.quote(text)}")["result"]
        return {s["metric"].get("version", ""): float(s["value"][1]) for s in found}

    try:
        deadline = time.monotonic() + 90
        while True:
            call(server.port, "POST", "/predict/risk", [EXAMPLE] * 4)
            call(server.port, "POST", "/predict/risk", [])
            try:
                firing = {a["labels"]["alertname"] for a in ask("alerts")["alerts"] if a["state"] == "firing"}
                if firing and query('up{job="loopline"}') == {"": 1.0} and query("loopline_rows_total > 0"):
                    break
            except (OSError, urllib.error.URLError):
                pass
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.2)
        assert firing == {"LooplineRefusing"}
        assert query("loopline_rows_total > 0")["3"] % 4 == 0
        assert query("histogram_quantile(0.5, sum by (le) (loopline_batch_rows_bucket))")[""] <= 4
        assert query('count(loopline_errors_total{code="no-rows"})') == {"": 1.0}
    finally:
        child.terminate()
        child.wait()
