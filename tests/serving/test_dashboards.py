"""Dashboard and alerts ask for what is told at /metrics; the dashboard's file is what Grafana's own SDK builds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from loopline.serving.metrics import Counters, text

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = DEPLOY / "grafana" / "loopline.json"
NAME = re.compile(r"\bloopline_[a-z_]+")


def names() -> set[str]:
    """Every name that samples have."""
    counters = Counters()
    who = ("risk", "champion", "3")
    counters.answered(who, 200, 0.01, 4, 1)
    counters.ran(who, 0.001, 4)
    counters.refused("risk", "no-rows")
    counters.unknown["risk", "ward"] = 1
    counters.shadow["risk", "next", "failed"] = 1
    counters.invalid[who] = 1
    return {s.name for f in text_string_to_metric_families(text(counters).decode()) for s in f.samples}


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/loopline.json"])
def test_only_what_is_told_is_asked_for(file: str) -> None:
    asked = set(NAME.findall((DEPLOY / file).read_text()))
    assert len(asked) > 5
    assert asked <= names()


def test_the_dashboard_is_what_its_program_builds() -> None:
    built = subprocess.run(
        [sys.executable, "-W", "ignore", DEPLOY / "grafana" / "dashboard.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(BOARD.read_text()) == json.loads(built)
    board = Dashboard.from_json(json.loads(built))
    panels = [panel for panel in board.panels or [] if getattr(panel, "targets", None)]
    assert len(panels) == 17
    assert all(panel.datasource.uid == "${source}" for panel in panels)
