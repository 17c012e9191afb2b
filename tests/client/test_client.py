"""The remote client against real servers: ours, and sockets that behave badly on purpose."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import loopline.client
from loopline.client import channel, remote
from loopline.client.wire import request
from loopline.errors import Invalid, LooplineError, NotFound, Unavailable
from loopline.operations import OPERATIONS, Body, Bytes

IDENTITY = b'{"name":"ann","kind":"user","token":"","projects":{},"instance":[]}'


def answer(content: bytes = IDENTITY, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


class Scripted:
    """A server that does with its connections, in their order, what the script says of each.

    That is a list of answers, one a request; None ends the connection (as the first: once it was asked).
    """

    def __init__(self, script: list[list[bytes | None]]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._script = script
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for answers in self._script:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, answers), daemon=True).start()

    def _serve(self, connection: socket.socket, answers: list[bytes | None]) -> None:
        with connection, contextlib.suppress(OSError):
            for number, sent in enumerate(answers):
                if (sent is None and number) or not self._read(connection) or sent is None:
                    return
                connection.sendall(sent)
            connection.recv(1)

    def _read(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(1 << 16)
            if not piece:
                return False
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        length = next(
            (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0
        )
        while len(rest) < length:
            piece = connection.recv(1 << 16)
            if not piece:
                return False
            rest += piece
        self.requests.append(data[: len(head) + 4] + rest)
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[list[bytes | None]]], Scripted]]:
    monkeypatch.setattr(channel, "PAUSES", (0.01, 0.01, 0.01))
    made: list[Scripted] = []

    def make(script: list[list[bytes | None]]) -> Scripted:
        made.append(Scripted(script))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_importing_the_client_loads_nothing_heavy() -> None:
    program = (
        "import sys, loopline.client; light = len(sys.modules); assert 'msgspec' not in sys.modules\n"
        "loopline.client.connect('http://127.0.0.1:1')\n"
        "heavy = {'numpy', 'polars', 'sqlalchemy', 'starlette', 'httpx', 'sklearn', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    "url", ["", "localhost:8400", "ftp://x", "http://", "http://x:port", "http://u:p@x", "http://x?y", "http://["]
)
def test_a_bad_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(Invalid) as e:
        loopline.client.connect(url)
    assert e.value.code == "bad-url"


def test_a_server_that_is_away_is_named_with_the_way_out(scripted: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with loopline.client.connect(url) as session, pytest.raises(Unavailable) as e:
        session.access.whoami()
    assert e.value.code == "server-away"
    assert url in str(e.value)
    assert "loopline up" in str(e.value)


def test_one_connection_serves_many_calls(scripted: Any) -> None:
    server = scripted([[answer()] * 3])
    with loopline.client.connect(server.url, token="ll_x") as session:
        assert [session.access.whoami().name for _ in range(3)] == ["ann"] * 3
    assert server.connections == 1
    assert all(b"Authorization: Bearer ll_x\r\n" in r for r in server.requests)


def test_each_thread_has_its_own_connection(scripted: Any) -> None:
    server = scripted([[answer()] * 2, [answer()] * 2])
    names: list[str] = []
    with loopline.client.connect(server.url) as session:
        session.access.whoami()
        thread = threading.Thread(target=lambda: names.extend(session.access.whoami().name for _ in range(2)))
        thread.start()
        thread.join()
        session.access.whoami()
    assert (names, server.connections) == (["ann", "ann"], 2)


def test_a_kept_connection_that_the_server_ended_is_replaced(scripted: Any) -> None:
    server = scripted([[answer(), None], [answer()]])
    with loopline.client.connect(server.url) as session:
        session.access.whoami()
        assert session.access.whoami().name == "ann"


def test_a_mutating_call_is_repeated_under_the_same_key(scripted: Any) -> None:
    project = b'{"name":"x","created":1,"created_by":"ann","roles":[]}'
    server = scripted([[None], [answer(b"{}", "503 Unavailable", "Connection: close\r\n")], [answer(project)]])
    with loopline.client.connect(server.url) as session:
        assert session.projects.create("x").name == "x"
    keys = {line for r in server.requests for line in r.split(b"\r\n") if line.startswith(b"Idempotency-Key")}
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_two_calls_have_two_keys(scripted: Any) -> None:
    project = b'{"name":"x","created":1,"created_by":"ann","roles":[]}'
    server = scripted([[answer(project)] * 2])
    with loopline.client.connect(server.url) as session:
        session.projects.create("x")
        session.projects.create("x")
    keys = {line for r in server.requests for line in r.split(b"\r\n") if line.startswith(b"Idempotency-Key")}
    assert len(keys) == 2


def test_a_call_whose_answer_holds_a_secret_is_sent_once(scripted: Any) -> None:
    server = scripted([[None], [answer()]])
    with loopline.client.connect(server.url) as session, pytest.raises(Unavailable):
        session.access.create_token()
    assert len(server.requests) == 1
    assert b"Idempotency-Key" not in server.requests[0]


def test_a_stream_is_sent_once_and_a_file_again(scripted: Any, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,2\n")
    op, args = _taking_a_body()
    for body, sent in ((Body((tmp_path / "x.csv").open("rb")), 1), (Body(tmp_path / "x.csv"), 4), (Body(b"abc"), 4)):
        server = scripted([[None], [None], [None], [None]])
        session = loopline.client.connect(server.url)
        with session, pytest.raises(Unavailable):
            getattr(getattr(session, op.group), op.verb)(**args, **{op.body: body})
        assert server.connections == sent


def _taking_a_body() -> tuple[Any, dict[str, Any]]:
    op = OPERATIONS["runs.upload"] if "runs.upload" in OPERATIONS else next(o for o in OPERATIONS.values() if o.body)
    return op, {f.name: "x" for f in msgspec.structs.fields(op.args) if f.required}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (answer(b"nonsense"), "foreign-answer"),
        (answer(b'{"name":1}'), "foreign-answer"),
        (answer(b"<html>", "502 Bad Gateway"), "foreign-answer"),
        (answer(b"", "302 Found", "Location: http://evil.org/\r\n"), "foreign-answer"),
        (answer(b"{}", "404 Not Found"), "foreign-answer"),
        (answer(b"[]", "400 Bad"), "foreign-answer"),
        (answer()[:-10], "server-away"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "server-away"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "server-away"),
    ],
)
def test_an_answer_that_is_none_of_ours_is_said(scripted: Any, sent: bytes, code: str) -> None:
    server = scripted([[sent, None]] * 4)
    with loopline.client.connect(server.url) as session, pytest.raises(LooplineError) as e:
        session.access.whoami()
    assert e.value.code == code


def test_silence_ends_and_is_not_repeated(scripted: Any) -> None:
    server = scripted([[b""]])
    with loopline.client.connect(server.url, timeout=0.2) as session, pytest.raises(Unavailable) as e:
        session.access.whoami()
    assert e.value.code == "server-silent"
    assert len(server.requests) == 1


def test_a_closed_session_answers_nothing(scripted: Any) -> None:
    session = loopline.client.connect(scripted([]).url)
    session.close()
    with pytest.raises(Invalid, match="closed"):
        session.access.whoami()


def test_errors_come_back_as_what_they_were(scripted: Any) -> None:
    given = NotFound("No such thing.", code="no-thing", hint="Look.", name="x")
    server = scripted([[answer(msgspec.json.encode(given.to_dict()), "404 Not Found")]])
    with loopline.client.connect(server.url) as session, pytest.raises(NotFound) as e:
        session.access.whoami()
    assert e.value.to_dict() == given.to_dict()


def test_the_token_is_the_given_one_or_the_environments(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPLINE_TOKEN", "ll_environment")
    server = scripted([[answer()], [answer()], [answer()]])
    for given, header in ((None, b"Bearer ll_environment"), ("ll_given", b"Bearer ll_given"), ("", None)):
        with loopline.client.connect(server.url, token=given) as session:
            session.access.whoami()
        assert (b"Authorization: " in server.requests[-1]) == (header is not None)
        assert header is None or header in server.requests[-1]


def test_the_local_token_goes_to_no_other_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPLINE_TOKEN", raising=False)
    monkeypatch.setenv("LOOPLINE_WORKSPACE", str(tmp_path))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "local.token").write_text("ll_local")
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:8400"}')
    assert remote._token("http://127.0.0.1:8400", None) == "ll_local"
    for url in ("http://127.0.0.1:8401", "http://10.0.0.1:8400", "http://ml.example.org:8400"):
        assert remote._token(url, None) == ""


# --- the request -----------------------------------------------------------------------------------------------------


def test_names_are_quoted_into_the_path() -> None:
    made = request(OPERATIONS["access.revoke_token"], {"id": "a/b ?#%ä"}, None, "default")
    assert made.target == "/api/v1/access/tokens/a%2Fb%20%3F%23%25%C3%A4"


def test_what_is_not_in_the_path_is_in_query_or_body() -> None:
    made = request(OPERATIONS["ledger.entries"], {"limit": 5, "ref": None}, None, "default")
    assert (made.target, made.body) == ("/api/v1/ledger/entries?limit=5", None)
    made = request(OPERATIONS["access.grant"], {"principal": "ann", "role": "viewer"}, None, "clinic")
    assert (made.target, made.body) == (
        "/api/v1/projects/clinic/access/grants",
        b'{"principal":"ann","role":"viewer"}',
    )


def test_an_argument_of_the_path_has_its_declared_default() -> None:
    made = request(OPERATIONS["datasets.show"], {"name": "visits"}, None, "default")
    assert made.target == "/api/v1/projects/default/datasets/visits/versions/latest"
    made = request(OPERATIONS["datasets.show"], {"name": "visits", "version": "3"}, None, "default")
    assert made.target.endswith("/versions/3")


def test_an_argument_that_is_no_value_is_refused() -> None:
    with pytest.raises(Invalid):
        request(OPERATIONS["access.grant"], {"principal": object(), "role": "viewer"}, None, "default")
    with pytest.raises(Invalid):
        request(OPERATIONS["ledger.entries"], {"ref": object()}, None, "default")
    with pytest.raises(Invalid):
        request(OPERATIONS["access.revoke_token"], {}, None, "default")


# --- bytes, in constant memory ---------------------------------------------------------------------------------------

_PROGRAM = """
import resource, sys
import loopline.client
from loopline.operations import Body, OPERATIONS
class Zeros:
    left = int(sys.argv[2])
    def read(self, size):
        taken = min(size, self.left); self.left -= taken
        return bytes(taken)
session = loopline.client.connect(sys.argv[1])
session.access.whoami()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    op = OPERATIONS[sys.argv[3]]
    from msgspec.structs import fields
    getattr(getattr(session, op.group), op.verb)(**{f.name: "x" for f in fields(op.args) if f.required}, **{op.body: Body(Zeros())})
except Exception as e:
    print(e.code)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_body_is_streamed_in_constant_memory(tmp_path: Path) -> None:
    from loopline.api.server import ApiServer
    from loopline.app import Platform

    op, _ = _taking_a_body()
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "out"), body_limit=1 << 20)
    with ApiServer(platform) as server:
        size = 100 << 20
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, server.url, str(size), op.name],
            capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "LOOPLINE_TOKEN": ""},
        )  # fmt: skip
    platform.close()
    code, grown = done.stdout.split()
    assert code == "too-large"
    assert int(grown) * 1024 < size // 4, done.stdout


def test_large_answers_go_to_a_file_that_ends_with_the_session(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "IN_MEMORY", 10)
    server = scripted([[answer(b"x" * 5), answer(b"y" * 50), answer(b"z" * 50)[:-1]], [None], [None]])
    session = loopline.client.connect(server.url)
    small, large = session.ledger.export(), session.ledger.export()
    assert isinstance(small, Bytes)
    assert (small.read(), small.path) == (b"x" * 5, "")
    assert (large.read(), large.data) == (b"y" * 50, b"")
    session.close()
    assert not Path(large.path).exists()


def test_a_large_answer_cut_short_is_no_answer(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "IN_MEMORY", 10)
    server = scripted([[answer(b"y" * 50)[:-1], None]])
    with loopline.client.connect(server.url, timeout=2) as session, pytest.raises(Unavailable):
        session.ledger.export()
