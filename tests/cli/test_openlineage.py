"""`loopline lineage REF --openlineage`: into a file, and to a catalog that takes events by HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.cli.conftest import Shell


class _Catalog(BaseHTTPRequestHandler):
    """Takes events, or answers as it is told to."""

    taken: ClassVar[list[tuple[str, str | None, dict[str, Any]]]] = []
    status = 201

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.taken.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(_Catalog, "taken", [])
    monkeypatch.setattr(_Catalog, "status", 201)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Catalog) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_events_go_into_a_file_and_to_a_catalog(
    shell: Shell, catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = "data:visits@1"
    shell("lineage", ref, "--openlineage", str(tmp_path / "events.ndjson"))
    written = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    assert [event["eventType"] for event in written][:2] == ["START", "COMPLETE"]
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "key-of-tests")
    shell("lineage", ref, "--openlineage", f"{catalog}/")
    assert _Catalog.taken == [("/api/v1/lineage", "Bearer key-of-tests", event) for event in written]
    assert "way back" in shell("lineage", ref, "--forward", "--openlineage", "x", code=2).err


@pytest.mark.parametrize(
    ("status", "code", "said"), [(401, 3, "foreign-refusal"), (302, 3, "foreign-refusal"), (503, 4, "source-away")]
)
def test_a_catalog_that_takes_nothing_is_told(
    shell: Shell, catalog: str, monkeypatch: pytest.MonkeyPatch, status: int, code: int, said: str
) -> None:
    monkeypatch.setattr(_Catalog, "status", status)
    assert said in shell("lineage", "data:visits@1", "--openlineage", catalog, code=code).err
    assert len(_Catalog.taken) == 1, "the key goes nowhere else, and nothing is sent behind a refusal"


def test_a_catalog_that_is_not_there_is_told(shell: Shell) -> None:
    assert "source-away" in shell("lineage", "data:visits@1", "--openlineage", "http://127.0.0.1:1", code=4).err
