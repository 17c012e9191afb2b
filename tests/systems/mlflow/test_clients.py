"""Unmodified MLflow clients, as they come: what they see of Loopline is what they see of MLflow's own server."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import Any

import pytest
from mlflow_golden import server as own_server
from peers import MLFLOW, environment

from loopline.api.server import ApiServer
from loopline.app import Platform

from .conftest import seen

pytestmark = pytest.mark.systems

CLIENT = "client.py"


@functools.cache
def theirs(version: str) -> dict[str, Any]:
    """What a client sees of the newest of MLflow's own servers."""
    with own_server(MLFLOW[0]) as url:
        return seen(CLIENT, version, url)


@pytest.mark.parametrize("version", MLFLOW)
def test_a_client_sees_what_it_sees_of_mlflow_itself(platform: Platform, version: str) -> None:
    with ApiServer(platform) as server:
        ours = seen(CLIENT, version, server.url)
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
        ours = seen(CLIENT, MLFLOW[0], address, MLFLOW_TRACKING_USERNAME="ann", MLFLOW_TRACKING_PASSWORD=secret)
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
