"""Unmodified MLflow clients and models: what they find in Loopline is what they find in MLflow's own server."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_golden import server as own_server
from peers import MLFLOW, environment

from loopline.api.server import ApiServer
from loopline.app import Platform

pytestmark = pytest.mark.systems

CLIENT = Path(__file__).parent / "registry_client.py"


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"), database=database_url)
    yield platform
    platform.close()


@functools.cache
def theirs(version: str) -> dict[str, Any]:
    """What a client finds in a server of MLflow's own, of its own version."""
    with own_server(version) as url:
        return seen(version, url)


def seen(version: str, url: str) -> dict[str, Any]:
    """What a client finds, with nothing set but the address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
    done = subprocess.run(
        [environment(version), "-W", "ignore", CLIENT],
        env={**env, "MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("version", MLFLOW)
def test_a_client_finds_its_models_as_in_mlflow_itself(platform: Platform, version: str) -> None:
    with ApiServer(platform) as server:
        ours = seen(version, server.url)
    assert ours.keys() == theirs(version).keys()
    for what, expected in theirs(version).items():
        assert ours[what] == expected, what
    session = platform.session()
    kept = session.models.show("fraud", 2)
    assert (kept.status, kept.servable, session.models.verify("fraud", 2).ok) == ("registered", False, True)
    moves = session.models.alias_history("fraud", "champion")
    assert [move.version for move in moves] == [1, 2, None], "also of what MLflow has forgotten"
    assert session.models.as_of("fraud", "champion", moves[0].at).version == 1
    assert session.ledger.verify().ok
