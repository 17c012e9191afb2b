"""Unmodified MLflow clients, as they come: what they see of Loopline is what they see of MLflow's own server."""

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

CLIENT = Path(__file__).parent / "client.py"


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"), database=database_url)
    yield platform
    platform.close()


@functools.cache
def theirs(version: str) -> dict[str, Any]:
    """What a client sees of the newest of MLflow's own servers."""
    with own_server(MLFLOW[0]) as url:
        return seen(version, url)


def seen(version: str, url: str, **more: str) -> dict[str, Any]:
    """What a client sees of a server, with nothing set but the address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
    done = subprocess.run(
        [environment(version), "-W", "ignore", CLIENT], env={**env, "MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet", **more},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("version", MLFLOW)
def test_a_client_sees_what_it_sees_of_mlflow_itself(platform: Platform, version: str) -> None:
    with ApiServer(platform) as server:
        ours = seen(version, server.url)
    assert ours.keys() == theirs(version).keys()
    for what, expected in theirs(version).items():
        assert ours[what] == expected, what


def test_a_remote_address_with_a_token_and_a_project(platform: Platform) -> None:
    """As DagsHub's users write it: OWNER/PROJECT.mlflow, any user name, the token as the password."""
    session = platform.session()
    session.projects.create("clinic")
    secret = session.access.create_token(project="clinic", roles=["data_scientist"]).secret
    with ApiServer(platform) as server:
        address = f"{server.url}/team/clinic.mlflow"
        ours = seen(MLFLOW[0], address, MLFLOW_TRACKING_USERNAME="ann", MLFLOW_TRACKING_PASSWORD=secret)
        assert ours["thousand"] == 1000
        again = subprocess.run(
            [environment(MLFLOW[1]), "-c", "import mlflow; print(len(mlflow.MlflowClient().search_runs(['1'])))"],
            env={**os.environ, "MLFLOW_TRACKING_URI": address, "MLFLOW_TRACKING_TOKEN": secret}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(again.stdout.split()[-1]) == 5
        for more in ({"MLFLOW_TRACKING_TOKEN": "ll_wrong"}, {}):
            refused = subprocess.run(
                [environment(MLFLOW[0]), "-c", "import mlflow; mlflow.MlflowClient().search_runs(['1'])"],
                env={**os.environ, "MLFLOW_TRACKING_URI": f"{server.url}/team/other.mlflow", **more}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ("UNAUTHENTICATED" if more else "RESOURCE_DOES_NOT_EXIST") in refused.stderr
    assert session.runs.list().runs == ()
    there = platform.session(project="clinic")
    assert {run.name for run in there.runs.search("params.lr = '0.1'").runs} == {"outer"}
