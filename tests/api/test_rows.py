"""Rows posted over HTTP: a NiFi processor's requests byte by byte, bodies that lie or never end, and a server that is killed.

The requests are what NiFi's InvokeHTTP writes through OkHttp 4: the processor's own headers in their order (Authorization,
Content-Encoding, User-Agent even where it is empty, Date, the dynamic properties, the attributes), then OkHttp's.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.api.up import Service
from loopline.app import Platform
from loopline.operations import Body
from loopline.settings import load

PATH = "/api/v1/projects/default/datasets/visits/rows"
LIMIT = 1 << 20
RULES = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}


class Up:
    """A workspace in service on one port, with a dataset and a token of somebody who may send rows to it."""

    def __init__(self, folder: Path) -> None:
        settings = load(workspace=folder / "w", checkpoints=str(folder / "copies"), port=0, body_limit=LIMIT)
        self.platform = Platform.open(settings)
        session = self.platform.session()
        session.datasets.add("visits", Body(b"id,days,ward\n0,1,north\n", name="visits.csv"), contract=RULES)
        session.access.add_principal("nifi", kind="service")
        for role in ("sender", "viewer"):
            session.access.grant("nifi", role)  # type: ignore[arg-type]
        self.token = session.access.create_token(principal="nifi", roles=("sender",)).secret
        self.viewer = session.access.create_token(principal="nifi", roles=("viewer",)).secret
        self.service = Service(settings).start()
        self.port = int(self.service.url.rpartition(":")[2])

    def rows(self) -> list[int]:
        """The ids in the newest version, once all that waits is taken."""
        datasets = self.platform.session().datasets
        self.platform.session().inbox.take("visits")
        ids: list[int] = pl.read_ipc_stream(io.BytesIO(datasets.read("visits").read()))["id"].to_list()
        return ids

    def waiting(self) -> int:
        return self.platform.session().inbox.waiting("visits").rows

    @contextlib.contextmanager
    def socket(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as opened:
            yield opened

    def close(self) -> None:
        self.service.stop()
        self.platform.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up"))
    yield up
    up.close()


def nifi(
    up: Up,
    content: bytes,
    *,
    key: str,
    chunked: bool = False,
    coded: str = "",
    media: str = "application/octet-stream",
    basic: bool = True,
    attributes: dict[str, str] | None = None,
    expect: bool = False,
) -> bytes:
    """What the processor writes for one flowfile."""
    secret = base64.b64encode(f"nifi:{up.token}".encode()).decode()
    own = [("Authorization", f"Basic {secret}" if basic else f"Bearer {up.token}")]
    own += [("Content-Encoding", coded)] if coded else []
    own += [("User-Agent", ""), ("Date", "Sat, 28 Nov 2026 07:00:00 GMT"), ("Idempotency-Key", key)]
    own += [("Expect", "100-continue")] if expect else []
    own += list((attributes or {}).items())
    sized = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(content)))
    theirs = [("Content-Type", media), sized, ("Host", f"127.0.0.1:{up.port}"), ("Connection", "Keep-Alive")]
    theirs += [("Accept-Encoding", "gzip")]
    head = f"POST {PATH} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in own + theirs) + "\r\n"
    if not chunked:
        return head.encode() + content
    parts = [content[at : at + 8192] for at in range(0, len(content), 8192)]
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def answer(opened: socket.socket) -> tuple[int, Any]:
    """The next answer on a connection."""
    response = http.client.HTTPResponse(opened)
    response.begin()
    content = response.read()
    return response.status, json.loads(content) if content else None


def csv(*ids: int, days: Any = 3) -> bytes:
    return b"id,days,ward\n" + "".join(f"{n},{days},north\n" for n in ids).encode()


ATTRIBUTES = {
    "filename": "visits-2026-11-28.csv", "path": "./", "uuid": "b1b0a1de-6a1c-4b8f-a6ad-0d4f9c1c0b5e", "mime.type": "text/csv",
    "fragment.index": "3", "s3.bucket": "clinic",
}  # fmt: skip


def test_flowfiles_one_after_the_other_on_one_connection(up: Up) -> None:
    with up.socket() as opened:
        for n, how in enumerate(
            [
                {},
                {"chunked": True},
                {"basic": False},
                {"media": "text/csv"},
                {"media": "text/plain"},
                {"media": "text/csv;charset=UTF-8", "attributes": ATTRIBUTES},
                {"chunked": True, "attributes": ATTRIBUTES, "expect": False},
            ]
        ):
            opened.sendall(nifi(up, csv(100 + n), key=f"kept-{n}", **how))  # type: ignore[arg-type]
            status, said = answer(opened)
            assert (status, said["rows"]) == (200, 1)
    assert set(range(100, 107)) <= set(up.rows())


def test_content_packed_by_nifi(up: Up) -> None:
    packed = gzip.compress(csv(*range(200, 260)))
    ways: list[dict[str, Any]] = [
        {"coded": "gzip", "chunked": True},  # Request Content-Encoding GZIP sends no length
        {"coded": "gzip", "chunked": True, "media": "text/csv"},
        {"media": "application/gzip"},  # CompressContent before it
    ]
    with up.socket() as opened:
        for n, how in enumerate(ways):
            opened.sendall(nifi(up, packed, key=f"packed-{n}", **how))
            status, said = answer(opened)
            assert (status, said["rows"]) == (200, 60)
    assert [up.rows().count(n) for n in (200, 259)] == [3, 3]


@pytest.mark.parametrize("form", ["avro", "parquet", "ndjson"])
def test_records_written_by_nifi(up: Up, form: str) -> None:
    first = {"avro": 300, "parquet": 310, "ndjson": 320}[form]
    out = io.BytesIO()
    getattr(pl.DataFrame({"id": [first], "days": [2], "ward": ["south"]}), f"write_{form}")(out)
    media = {"avro": "application/avro-binary", "parquet": "application/parquet", "ndjson": "application/json"}[form]
    with up.socket() as opened:
        opened.sendall(nifi(up, out.getvalue(), key=f"record-{form}", media=media, chunked=True))
        assert answer(opened)[0] == 200
    assert first in up.rows()


def test_a_retry_of_the_same_flowfile_is_one_post(up: Up) -> None:
    with up.socket() as opened:
        opened.sendall(nifi(up, csv(400, 401), key=ATTRIBUTES["uuid"])[:-7])
        # The connection is lost before the last byte, and before an answer.
    for _ in range(3):
        with up.socket() as opened:
            opened.sendall(nifi(up, csv(400, 401), key=ATTRIBUTES["uuid"]))
            assert answer(opened)[0] == 200
    with up.socket() as opened:
        opened.sendall(nifi(up, csv(402), key=ATTRIBUTES["uuid"]))
        status, said = answer(opened)
        assert (status, said["error"]["code"]) == (409, "key-reused")
    assert [up.rows().count(n) for n in (400, 401, 402)] == [1, 1, 0]


def test_expect_100_continue(up: Up) -> None:
    whole = nifi(up, csv(450), key="expects", expect=True)
    head, _, content = whole.partition(b"\r\n\r\n")
    with up.socket() as opened:
        opened.sendall(head + b"\r\n\r\n")
        assert opened.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(content)
        assert answer(opened)[0] == 200
    assert 450 in up.rows()


def test_what_breaks_the_contract_or_no_column_is_said_in_the_answer(up: Up) -> None:
    up.platform.session().inbox.take("visits")
    with up.socket() as opened:
        opened.sendall(nifi(up, csv(500, days=99), key="broken"))
        assert answer(opened)[0] == 200
        up.rows()
        version = up.platform.session().datasets.show("visits")
        assert (version.quarantined, version.broken) == (1, {"days.between(0, 31)": 1})
        opened.sendall(nifi(up, csv(501, days="soon"), key="unfit"))
        status, said = answer(opened)
        assert (status, said["error"]["code"]) == (400, "schema-change")
        opened.sendall(nifi(up, b"ward\nx\n", key="lacking"))
        assert answer(opened)[0] == 400


@pytest.mark.parametrize(
    ("content", "how", "status", "code"),
    [
        (b"\x89PNG\r\n", {"media": "image/png"}, 400, "bad-media-type"),
        (csv(600), {"media": "application/x-www-form-urlencoded"}, 400, "bad-media-type"),
        (csv(600), {"media": "multipart/form-data; boundary=x"}, 400, "bad-media-type"),
        (csv(600), {"media": "avro/binary"}, 400, "bad-media-type"),
        (csv(600), {"coded": "gzip"}, 400, "bad-encoding"),
        (gzip.compress(csv(600))[:-9], {"coded": "gzip"}, 400, "table-damaged"),
        (csv(600), {"coded": "br"}, 400, "bad-encoding"),
        (b"id,days,ward\n1,2\n", {}, 400, "ragged-lines"),
        (b"", {}, 400, "table-empty"),
        (b"", {"chunked": True}, 400, "table-empty"),
        (b"id,days,ward\n" + b"1,2,x\n" * (LIMIT // 6), {}, 413, "body-too-large"),
        (b"id,days,ward\n" + b"1,2,x\n" * (LIMIT // 6), {"chunked": True}, 413, "body-too-large"),
        (gzip.compress(b"id,days,ward\n" + b"1,2,x\n" * (30 << 20)), {"coded": "gzip"}, 400, "table-large"),
        (csv(600), {"key": "a b"}, 400, "bad-key"),
        (csv(600), {"key": "k" * 200}, 400, "bad-key"),
    ],
)
def test_what_is_no_post_is_refused_and_nothing_kept(
    up: Up, content: bytes, how: dict[str, Any], status: int, code: str, request: pytest.FixtureRequest
) -> None:
    before = up.waiting()
    with up.socket() as opened:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            opened.sendall(nifi(up, content, **{"key": "refused", **how}))
        got, said = answer(opened)
    assert (got, said["error"]["code"]) == (status, code)
    assert said["error"]["hint"]
    assert up.waiting() == before


def test_a_body_that_never_ends_is_cut_off(up: Up) -> None:
    head = nifi(up, b"", key="endless", chunked=True).removesuffix(b"0\r\n\r\n")
    with up.socket() as opened:
        opened.sendall(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(64):  # 64 MiB, if nobody minds
                opened.sendall(b"100000\r\n" + b"1,2,x\n" * 174762 + b"1,2," + b"\r\n")
        status, said = answer(opened)
    assert (status, said["error"]["code"]) == (413, "body-too-large")


def test_a_length_that_lies(up: Up) -> None:
    before = up.waiting()
    whole = nifi(up, csv(700), key="lies")
    length = b"Content-Length: %d\r\n" % len(csv(700))
    with up.socket() as opened:  # more than comes
        opened.sendall(whole.replace(length, b"Content-Length: 900000\r\n"))
        opened.shutdown(socket.SHUT_WR)
        first = opened.recv(1 << 16)
    assert not first.startswith(b"HTTP/1.1 2")
    with up.socket() as opened:  # less than comes: the rest is the next request, which is none
        opened.sendall(whole.replace(length, b"Content-Length: 13\r\n"))
        status, said = answer(opened)
        assert (status, said["error"]["code"]) == (400, "table-empty")
    for wrong in (b"Content-Length: -1\r\n", b"Content-Length: x\r\n", length + b"Transfer-Encoding: chunked\r\n"):
        with up.socket() as opened:
            opened.sendall(whole.replace(length, wrong))
            assert opened.recv(12)[:10] == b"HTTP/1.1 4"
    assert up.waiting() == before


def test_who_may_send(up: Up) -> None:
    whole = nifi(up, csv(800), key="who", basic=False)
    for token, status in ((up.viewer, 403), ("ll_wrong", 401)):
        with up.socket() as opened:
            opened.sendall(whole.replace(up.token.encode(), token.encode()))
            assert answer(opened)[0] == status
    with up.socket() as opened:
        opened.sendall(whole.replace(b"datasets/visits/", b"datasets/nowhere/"))
        status, said = answer(opened)
        assert (status, said["error"]["code"]) == (404, "no-dataset")
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=60)
    for target in ("/rows", "/versions", "/versions/1", "/versions/1/rows", "/versions/1/profile"):
        path = PATH.removesuffix("/rows") + target
        connection.request("GET", path, headers={"Authorization": f"Bearer {up.token}"})
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())["error"]["code"]) == (403, "forbidden"), target
    connection.close()


SERVER = """
import sys
from pathlib import Path
from loopline.api.server import ApiServer
from loopline.app import Platform
platform = Platform.open(workspace=Path(sys.argv[1]) / "w", checkpoints=sys.argv[1] + "/copies")
server = ApiServer(platform).start()
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("place", ["database.tx.before_commit", "database.tx.after_commit"])
def test_killed_around_the_commit_and_sent_again_is_once(tmp_path: Path, place: str) -> None:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"))
    platform.session().datasets.add("visits", Body(csv(0), name="visits.csv"))
    platform.close()
    for armed in (f"{place}=kill", ""):
        program = [sys.executable, "-c", SERVER, str(tmp_path)]
        environment = {**os.environ, "LOOPLINE_FAILPOINTS": armed}
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
            assert server.stdout is not None
            address = server.stdout.readline().decode().strip().removeprefix("http://")
            connection = http.client.HTTPConnection(address, timeout=60)
            headers = {"Content-Type": "text/csv", "Idempotency-Key": "once"}
            if armed:
                connection.request("POST", PATH, csv(1, 2), headers)
                with pytest.raises((http.client.HTTPException, OSError)):
                    connection.getresponse()
                assert server.wait() == -signal.SIGKILL
                continue
            connection.request("POST", PATH, csv(1, 2), headers)
            reply = connection.getresponse()
            assert (reply.status, json.loads(reply.read())["rows"]) == (200, 2)
            connection.close()
            assert server.stdin is not None
            server.stdin.close()
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"))
    platform.session().inbox.take("visits")
    frame = pl.read_ipc_stream(io.BytesIO(platform.session().datasets.read("visits").read()))
    assert frame["id"].to_list() == [0, 1, 2]
    platform.close()
