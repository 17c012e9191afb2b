"""A platform that answers MLflow's protocol, on SQLite and on PostgreSQL."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from contracts.contract import API

from loopline.api.server import ApiServer
from loopline.app import Platform


class Door:
    """A platform and its server; `post` and `get` give the status and the answer."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"), **settings)
        self.session = self.platform.session()
        self.server = ApiServer(self.platform).start()
        self.url = self.server.url

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=60)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return response.status, json.loads(content) if content[:1] == b"{" else content

    def post(self, path: str, given: Any, prefix: str = "", **headers: str) -> tuple[int, Any]:
        body = given if isinstance(given, bytes) else json.dumps(given).encode()
        return self.ask("POST", prefix + API + path, body, {"Content-Type": "application/json", **headers})

    def get(self, path: str, given: dict[str, Any] | None = None, prefix: str = "", **headers: str) -> tuple[int, Any]:
        query = "?" + urlencode(given, doseq=True) if given else ""
        return self.ask("GET", prefix + API + path + query, headers=headers)

    def run(self, **given: Any) -> str:
        """The id of a new run."""
        status, answer = self.post("runs/create", {"experiment_id": "0", "start_time": 1, **given})
        assert status == 200, answer
        return str(answer["run"]["info"]["run_id"])

    def close(self) -> None:
        self.server.stop()
        self.platform.close()


@pytest.fixture
def door(database_url: str, tmp_path: Path) -> Iterator[Door]:
    """A platform of its own, on SQLite and on PostgreSQL."""
    made = Door(tmp_path, database=database_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One platform for all tests of a file."""
    made = Door(tmp_path_factory.mktemp("mlflow"))
    yield made
    made.close()
