"""Unmodified MLflow clients and models: what they find in Loopline is what they find in MLflow's own server."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from mlflow_golden import server as own_server
from peers import MLFLOW

from loopline.api.server import ApiServer
from loopline.app import Platform

from .conftest import seen

pytestmark = pytest.mark.systems

CLIENT = "registry_client.py"


@functools.cache
def theirs(version: str) -> dict[str, Any]:
    """What a client finds in a server of MLflow's own, of its own version."""
    with own_server(version) as url:
        return seen(CLIENT, version, url)


@pytest.mark.parametrize("version", MLFLOW)
def test_a_client_finds_its_models_as_in_mlflow_itself(platform: Platform, version: str) -> None:
    with ApiServer(platform) as server:
        ours = seen(CLIENT, version, server.url)
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
