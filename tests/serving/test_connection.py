"""What a connection may send, and for how long it may send nothing: over a bound it is answered, and ends."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from loopline.serving.records import ControlMessage, WorkerSettings
from loopline.serving.supervisor import Supervisor, listen

from .conftest import EXAMPLE, call, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]

BODY = json.dumps([EXAMPLE]).encode()
ONE = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
PATHS = [b"POST /predict/risk", b"POST /v2/models/risk/infer", b"GET /metrics", b"PUT /api/x"]
"""On the short way, both; answered by the worker's app; nobody's."""


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def rest(sock: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    found = b""
    while part := sock.recv(65536):
        found += part
    return found


def said(port: int, data: bytes) -> bytes:
    """What is answered to these bytes before the server, not the client, ends the connection."""
    with connect(port) as sock:
        sock.sendall(data)
        return rest(sock)


def statuses(found: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", found)]


def code(found: bytes) -> str:
    """The code of the platform's error that an answer ends with."""
    error = json.loads(found.rpartition(b"\r\n\r\n")[2])["error"]
    return str(error["code"])


@pytest.mark.parametrize("path", PATHS)
def test_a_head_is_bounded(serve: Serve, bundle: Bundle, path: bytes) -> None:
    port = serve(table(1, live(bundle()))).port
    begun = path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
    for many in (
        b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n",
        b"X-A: " + b"a" * (2 << 20),  # without an end
        b"".join(b"X-%d: a\r\n" % n for n in range(50_000)) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(129)) + b"\r\n",
        b"X-A: " + b"a" * 65_000 + b"\r\nX-B: " + b"b" * 600 + b"\r\n\r\n",
    ):
        found = said(port, begun + many)
        assert statuses(found) == [431], found[:200]
        assert b"connection: close" in found
    method = path.partition(b" ")[0]
    for target in (b"/" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", b"/" + b"a" * (1 << 20)):
        found = said(port, method + b" " + target)
        assert (statuses(found), code(found)) == ([414], "target-too-long")
    large = b"X-A: " + b"a" * 60_000 + b"\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(100))
    assert statuses(said(port, begun + large + b"Connection: close\r\n\r\n"))[0] in (200, 400, 404)


def test_an_endless_header_keeps_nobody_else_waiting(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle()))).port
    with connect(port) as flood:
        flood.sendall(b"GET /health HTTP/1.1\r\nHost: evil.example\r\nX-A: " + b"a" * (1 << 20))
        assert statuses(rest(flood)) == [431]
        for _ in range(16):  # it is answered and goes on all the same
            flood.sendall(b"a" * (1 << 20))
        assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200
        with pytest.raises(OSError):  # noqa: PT012
            for _ in range(4096):
                flood.sendall(b"a" * (1 << 20))
            raise AssertionError("it was never cut off")
    assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200


@pytest.mark.parametrize("path", [b"POST /predict/risk", b"PUT /api/x"])
def test_what_comes_between_the_pieces_of_a_body_is_bounded(serve: Serve, bundle: Bundle, path: bytes) -> None:
    port = serve(table(1, live(bundle()))).port
    begun = path + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    if b"api" not in path:  # there is nothing at the other path: it is answered before
        assert statuses(said(port, begun + b"2\r\n[]\r\n0\r\nX-T: " + b"a" * (1 << 20))) == [431]
        assert statuses(said(port, begun + b"2;x=" + b"a" * (1 << 20))) == [431]
    else:
        assert statuses(said(port, begun + b"2\r\n[]\r\n0\r\nX-T: " + b"a" * (1 << 20))) == [404]


def test_a_refusal_comes_after_the_answers_that_are_due(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle()))).port
    for bad, status in (
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 200_000, 431),
        (ONE.replace(b"Content-Length", b"Transfer-Encoding: gzip, chunked\r\nX"), 501),
    ):
        for before in (1, 3):
            found = said(port, ONE * before + bad)
            assert statuses(found) == [200] * before + [status], found
            assert found.count(b'"predictions"') == before
    found = said(port, b"GARBAGE\r\n\r\n")
    assert (statuses(found), code(found)) == ([400], "bad-http")


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])  # on the short way and on the ordinary one
def test_what_is_refused_by_its_head_is_answered_before_its_body(serve: Serve, bundle: Bundle, expect: bytes) -> None:
    port = serve(table(1, live(bundle())), body_limit=4096).port
    for path, lines, status in (
        (b"/predict/risk", b"Content-Length: 99999999999", 413),
        (b"/v2/models/risk/infer", b"Content-Length: 99999999999", 413),
        (b"/predict/rusk", b"Content-Length: 99999999999", 404),
        (b"/api/x", b"Content-Length: 99999999999", 404),
        (b"/predict/risk", b"Content-Length: 100\r\nAuthorization: Bearer wrong", 401),
        (b"/predict/risk", b"Content-Length: 100\r\nContent-Encoding: gzip", 415),
        (b"/predict/risk", b"Content-Length: 100\r\nHost: evil.example", 400),
        (b"/predict/risk", b"Content-Length: 100\r\nOrigin: http://evil.example", 403),
        (b"/predict/risk", b"Transfer-Encoding: gzip, chunked", 501),
    ):
        found = said(port, b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n\r\n{" % (path, expect, lines))
        assert statuses(found) == [status], found
        assert b"connection: close" in found
    chunked = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n" % expect
    found = said(port, chunked + b"1388\r\n" + b" " * 5000)
    assert [s for s in statuses(found) if s != 100] == [413]
    assert code(found) == "body-too-large"


def test_a_refused_request_that_is_there_whole_keeps_its_connection(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle()))).port
    refused = ONE.replace(b"Host", b"Content-Encoding: gzip\r\nHost")
    last = ONE.replace(b"Host", b"Connection: close\r\nHost")
    assert statuses(said(port, refused + last)) == [415, 200]


def test_a_large_body_that_is_refused_is_read_so_that_the_answer_arrives(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle())), body_limit=4096).port
    assert call(port, "POST", "/predict/risk", b"x" * (32 << 20)).status == 413
    assert call(port, "POST", "/predict/rusk", b"x" * (32 << 20)).status == 404


def test_trailers_count_for_nothing(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle())), {"risk": ("0" * 64,)}).port
    for way in (b"", b"Expect: 100-continue\r\n"):
        head = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + way
        chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
        for trailer in (b"Authorization: Bearer wrong\r\n", b"Content-Encoding: gzip\r\n", b"Host: evil.example\r\n"):
            assert statuses(said(port, head + chunks + trailer + b"\r\n"))[-1] == 200
            assert statuses(said(port, head + trailer + chunks + b"\r\n"))[-1] in (400, 401, 415)


@pytest.fixture
def hasty(folder: Path, bundle: Bundle) -> Iterator[int]:
    """The port of a worker that waits a second or two for anything, and holds eight connections."""
    settings = WorkerSettings(state=str(folder / "r.json"), log=str(folder / "log"))
    Path(settings.state).write_bytes(msgspec.json.encode(ControlMessage(table=table(1, live(bundle())))))
    (folder / "hasty.json").write_bytes(msgspec.json.encode(settings))
    sock = listen("127.0.0.1", 0)
    program = Path(__file__).with_name("hasty_worker.py")
    child = subprocess.Popen(
        [sys.executable, str(program), str(folder / "hasty.json"), "--fd", str(sock.fileno())],
        pass_fds=[sock.fileno()],
    )
    port = sock.getsockname()[1]
    sock.close()
    yield port
    child.terminate()
    child.wait()


def test_a_request_that_stops_half_way_ends(hasty: int) -> None:
    heads = (b"GET /hea", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-", ONE + ONE[:20])
    bodies = (ONE[: ONE.index(b"[")], ONE[:-1], ONE.replace(b"Host", b"Expect: 100-continue\r\nHost")[:-1])
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(connect(hasty)) for _ in (*heads, *bodies, ONE, b"")]
        for sock, sent in zip(sockets, (*heads, *bodies, ONE, b""), strict=True):
            sock.sendall(sent)
        *half, answered, empty = (rest(sock) for sock in sockets)
    for found in half:
        assert (statuses(found)[-1], code(found)) == (408, "too-slow")
    assert statuses(answered) == [200]
    assert empty == b""


def test_a_head_that_drips_ends(hasty: int) -> None:
    with connect(hasty) as slow, contextlib.suppress(OSError):
        slow.sendall(b"GET /health HTTP/1.1\r\nX-A: ")
        slow.settimeout(0.1)
        found = b""
        while not found:
            slow.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                found = slow.recv(65536)
        assert statuses(found) == [408]


def test_a_connection_too_many_is_refused(hasty: int) -> None:
    with contextlib.ExitStack() as opened:
        held = [opened.enter_context(connect(hasty)) for _ in range(8)]
        for sock in held:
            sock.sendall(ONE)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        found = said(hasty, b"")
        assert (statuses(found), code(found)) == ([503], "too-many-connections")
        held[0].sendall(ONE)
        assert held[0].recv(65536).startswith(b"HTTP/1.1 200")
