"""A platform behind a real socket, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.api.server import ApiServer
from loopline.app import Platform


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.content = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The code of the error, "" where it is none."""
        if self.status < 400:
            return ""
        return str(self.json["error"]["code"])


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Served:
    """A platform and its server; `ask` sends one request as it is."""

    def __init__(self, folder: Path, *, control: bool = False, **settings: Any) -> None:
        self.platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "outside"), **settings)
        self.control = folder / "control.sock" if control else None
        self.server = ApiServer(self.platform, control=self.control).start()
        self.url = self.server.url
        self.port = 0 if control else int(self.url.rpartition(":")[2])
        self._kept: http.client.HTTPConnection | None = None

    def connection(self) -> http.client.HTTPConnection:
        if self.control:
            return UnixConnection(self.control)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, method: str, target: str, *, json: Any = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        sent = dict(headers or {})
        if json is not None:
            body = __import__("json").dumps(json).encode()
            sent.setdefault("Content-Type", "application/json")
        if self._kept is None:
            self._kept = self.connection()
        try:
            self._kept.request(method, target, body, sent)
            reply = Reply(self._kept.getresponse())
        except BaseException:
            self._kept.close()
            self._kept = None
            raise
        return reply

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self.server.stop()
        self.platform.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A platform on a TCP port, with limits that a test can reach."""
    served = Served(
        tmp_path_factory.mktemp("served"), body_limit=1 << 20, allowed_hosts="ml.example.org, other.example"
    )
    yield served
    served.close()


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A platform behind the control socket, where the forwarder's headers say who the peer is."""
    served = Served(tmp_path_factory.mktemp("controlled"), control=True)
    yield served
    served.close()
