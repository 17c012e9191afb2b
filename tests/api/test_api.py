"""The HTTP door: arguments, errors, limits, calls under a key, and the server."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from loopline.api.answers import refusal
from loopline.api.arguments import arguments
from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.errors import Conflict, Invalid, MissingExtra, NotFound, Refused, Unavailable
from loopline.operations import OPERATIONS, Body

WHO = "/api/v1/access/whoami"
PRINCIPALS = "/api/v1/access/principals"


# --- the shape of errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 404),
        (Invalid("x"), 400),
        (Refused("x"), 403),
        (Refused("x", code="unauthenticated"), 401),
        (Conflict("x"), 409),
        (Unavailable("x"), 503),
        (MissingExtra("x", extra="ray"), 501),
        (Invalid("x", code="too-large"), 413),
        (Invalid("x", code="bad-method", allowed=["GET"]), 405),
    ],
)
def test_each_branch_has_its_status(error: Any, status: int) -> None:
    response = refusal(error)
    assert response.status_code == status
    assert response.media_type == "application/json"
    assert ("www-authenticate" in response.headers) == (status == 401)


def test_the_one_shape_of_an_error(served: Any) -> None:
    reply = served.ask("GET", "/api/v1/ledger/entries?limit=0")
    assert reply.json == {
        "error": {
            "branch": "invalid",
            "code": "bad-limit",
            "message": "limit is 0.",
            "hint": "Ask for 1 to 10000 entries at once.",
            "details": {},
        }
    }


@pytest.mark.parametrize(("method", "target"), [("GET", "/%0d%0ax"), ("POST", "/api/v1/%0a"), ("OPTIONS", "*")])
def test_a_path_of_any_form_is_refused_in_the_one_shape(served: Any, method: str, target: str) -> None:
    reply = served.ask(method, target)
    assert (reply.status, reply.json["error"]["code"]) == (404, "no-route")


LISTS = sorted(name for name, op in OPERATIONS.items() if "limit" in op.args.__struct_fields__)


@pytest.mark.parametrize("name", LISTS)
def test_every_list_refuses_a_limit_that_is_none(served: Any, name: str) -> None:
    op = OPERATIONS[name]
    path = "/api/v1" + re.sub(r"{\w+}", "x", op.path.replace("{project}", "default"))
    for limit in (-5, -1, 0, 100_001, 2**63 - 1):
        assert served.ask("GET", f"{path}?limit={limit}").code == "bad-limit", limit
    assert served.ask("GET", f"{path}?limit=1").code in ("", "no-dataset", "no-endpoint")


NUMBERED = sorted(
    name for name, op in OPERATIONS.items() if "{version}" in op.path and op.method == "GET" and op.scope == "project"
)


@pytest.mark.parametrize("name", NUMBERED)
def test_digits_that_number_no_version_are_refused(served: Any, name: str) -> None:
    session = served.platform.session()
    if not any(dataset.name == "numbered" for dataset in session.datasets.list()):
        session.datasets.add("numbered", Body(b"a,b\n1,2\n3,4\n", name="x.csv"))
    path = (
        OPERATIONS[name].path.replace("{project}", "default").replace("{name}", "numbered").replace("{kind}", "parity")
    )
    for version in ("%D9%A1", "2147483648", "1" * 30, "9" * 5000):
        reply = served.ask("GET", "/api/v1" + path.replace("{version}", version))
        assert (reply.status, reply.code) == (400, "bad-version"), (version, reply.content)


def test_an_inner_failure_tells_nothing_but_its_number(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("secret inner thing")
    except KeyError as e:
        response = refusal(e)
    assert response.status_code == 500
    assert b"secret" not in response.body
    assert b"KeyError" not in response.body
    number = caplog.records[-1].args[0]  # type: ignore[index]
    assert str(number).encode() in response.body


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/api/v1/ledger/entries?limit=5&limit=6", "bad-arguments"),
        ("/api/v1/ledger/entries?limit=many", "bad-arguments"),
        ("/api/v1/ledger/entries?limit=99999999999999999999", "bad-arguments"),
        ("/api/v1/ledger/entries?limt=5", "bad-arguments"),
        ("/api/v1/ledger/entries?project=%FF", "bad-query"),
        ("/api/v1/ledger/entries?ref=a%00b", "bad-text"),
        ("/api/v1/projects/default?project=clinic", "bad-arguments"),
        ("/api/v1/projects/a%20b", "bad-name"),
        ("/api/v1/projects/%FF", "not-utf8"),
        ("/api/v1/projects/default%00", "bad-text"),
        ("/api/v1/projects/default%2F..%2Fclinic", "bad-name"),
        ("/api/v1/ledger/proofs/abc", "bad-arguments"),
        ("/api/v1/ledger/entries?" + "&".join(f"a{i}=1" for i in range(200)), "bad-query"),
    ],
)
def test_a_bad_address_is_refused(served: Any, target: str, code: str) -> None:
    reply = served.ask("GET", target)
    assert (reply.status, reply.code) == (400, code)


def test_path_and_query_are_read_laxly(served: Any) -> None:
    assert len(served.ask("GET", "/api/v1/ledger/entries?limit=1").json) == 1
    assert served.ask("GET", "/api/v1/ledger/proofs/0").json["seq"] == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"name": "ann", "name": "bob"}', "bad-json"),
        (b'{"name": "ann", "nmae": "bob"}', "bad-arguments"),
        (b'{"name": "ann", "project": "clinic"}', "bad-arguments"),
        (b'{"name": 7}', "bad-arguments"),
        (b'{"name": "ann", "kind": "emperor"}', "bad-arguments"),
        (b'{"name": "a\\u0000"}', "bad-json"),
        (b'{"name": "\\ud800"}', "bad-json"),
        (b'{"name": "\xff"}', "bad-json"),
        (b'{"name": NaN}', "bad-json"),
        (b'{"name": 1e999}', "bad-json"),
        (b'{"name": 123456789012345678901234567890123}', "bad-json"),
        (b'{"name": ' + b"9" * 10_000 + b"}", "bad-json"),
        (b"[" * 100_000, "bad-json"),
        (b'{"a":' * 50_000, "bad-json"),
        (b"[]", "bad-json"),
        (b'"ann"', "bad-json"),
        (b"null", "bad-json"),
        (b"{", "bad-json"),
        (b"", "bad-arguments"),
        (b"{}", "bad-arguments"),
    ],
)
def test_a_bad_body_is_refused(served: Any, content: bytes, code: str) -> None:
    reply = served.ask("POST", PRINCIPALS, body=content, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (400, code)


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_json_comes_under_its_own_name(served: Any, media: str) -> None:
    """The others are what a foreign page's form can send."""
    headers = {"Content-Type": media} if media else {}
    reply = served.ask("POST", PRINCIPALS, body=b'{"name": "mallory"}', headers=headers)
    assert (reply.status, reply.code) == (400, "bad-media-type")


def test_mutating_calls_take_nothing_from_the_query(served: Any) -> None:
    assert served.ask("POST", PRINCIPALS + "?kind=service", json={"name": "ann"}).code == "bad-arguments"


class Bounds(msgspec.Struct):
    low: int
    names: list[str] = []


def _declared(kind: Any) -> Any:
    args = msgspec.defstruct("args", [("value", kind)], kw_only=True)
    return msgspec.structs.replace(OPERATIONS["access.tokens"], args=args)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "[1]", "[1]"),
        (str | None, "null", "null"),
        (int | None, "null", None),
        (int, "-5", -5),
        (float, "0.5", 0.5),
        (bool, "true", True),
        (list[int], "[1,2]", [1, 2]),
        (list[str], '["a"]', ["a"]),
        (Bounds, '{"low":1,"names":["x"]}', Bounds(1, ["x"])),
    ],
)
def test_a_value_in_the_query(kind: Any, text: str, value: Any) -> None:
    assert arguments(_declared(kind), {}, urlencode({"value": text}).encode(), b"") == {"value": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "1.5"),
        (int, str(1 << 63)),
        (list[int], "1,2"),
        (list[int], f"[{1 << 70}]"),
        (list[str], '["\\u0000"]'),
        (Bounds, '{"low":1,"low":2}'),
        (Bounds, "{"),
        (bool, "maybe"),
        (list[int], "[" * 100_000),
    ],
)
def test_a_value_in_the_query_that_cannot_be(kind: Any, text: str) -> None:
    with pytest.raises(Invalid) as e:
        arguments(_declared(kind), {}, urlencode({"value": text}).encode(), b"")
    assert e.value.code == "bad-arguments"


def test_what_is_not_there_and_what_is_not_taken(served: Any) -> None:
    assert (served.ask("GET", "/api/v1/nothing").status, served.ask("GET", "/nothing").status) == (404, 404)
    reply = served.ask("PUT", "/api/v1/projects")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_json_body_over_the_limit_is_refused(served: Any) -> None:
    content = b'{"name": "' + b"a" * (1 << 20) + b'"}'
    reply = served.ask("POST", PRINCIPALS, body=content, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (413, "too-large")


@pytest.mark.parametrize(
    ("deep", "code"), [(63, "bad-arguments"), (64, "bad-json"), (900, "bad-json"), (99_999, "bad-json")]
)
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_nested_without_end_is_refused(served: Any, deep: int, code: str, pair: tuple[bytes, bytes]) -> None:
    content = b'{"name": ' + pair[0] * deep + b"1" + pair[1] * deep + b"}"
    reply = served.ask("POST", PRINCIPALS, body=content, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (400, code)


def _with_body() -> str:
    op = next(op for op in OPERATIONS.values() if op.body and op.scope == "project" and len(op.placed) == 1)
    return "/api/v1" + op.path.replace("{project}", "default").replace("{%s}" % op.placed[0], "absent")  # noqa: UP031


@pytest.mark.parametrize("chunked", [False, True])
def test_a_raw_body_over_the_limit_is_refused_and_leaves_nothing(served: Any, chunked: bool) -> None:
    pieces = (bytes(1 << 16) for _ in range(24))
    headers = {"Content-Type": "application/octet-stream"}
    connection = served.connection()
    op = next(op for op in OPERATIONS.values() if op.body and op.scope == "project" and len(op.placed) == 1)
    if not chunked:
        headers["Content-Length"] = str(24 << 16)
    connection.request(op.method, _with_body(), pieces, headers, encode_chunked=chunked)
    response = connection.getresponse()
    assert response.status == 413, response.read()
    response.read()
    connection.close()
    assert list((served.platform.settings.workspace / "incoming").iterdir()) == []


def test_what_a_killed_server_left_is_swept(tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "out"))
    incoming = tmp_path / "w" / "incoming"
    incoming.mkdir(exist_ok=True)
    gone = 2**22 + 1  # above the largest process number of Linux
    (incoming / f"{gone}-aa.csv").write_bytes(b"x")
    (incoming / f"{os.getpid()}-bb.csv").write_bytes(b"x")
    with ApiServer(platform):
        assert [p.name for p in incoming.iterdir()] == [f"{os.getpid()}-bb.csv"]
    platform.close()


def test_a_call_is_dropped_when_its_sender_is(served: Any) -> None:
    before = len(served.platform.session().ledger.entries())
    connection = socket.create_connection(("127.0.0.1", served.port))
    connection.sendall(
        f"POST {PRINCIPALS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n".encode()
        + b'{"name"'
    )
    connection.close()
    assert served.ask("GET", WHO).status == 200
    assert len(served.platform.session().ledger.entries()) == before


# --- calls under a key -----------------------------------------------------------------------------------------------


def test_a_call_repeated_under_its_key_is_done_once(served: Any) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = served.ask("POST", "/api/v1/projects", json={"name": "once"}, headers=key)
    again = served.ask("POST", "/api/v1/projects", json={"name": "once"}, headers=key)
    assert first.status == again.status == 200
    assert first.content == again.content
    other = served.ask("POST", "/api/v1/projects", json={"name": "twice"}, headers=key)
    assert (other.status, other.code) == (409, "key-reused")
    assert served.ask("POST", "/api/v1/projects", json={"name": "once"}).status == 409


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ä"])
def test_a_key_that_cannot_be_read_is_refused(served: Any, key: str) -> None:
    sent = {"Idempotency-Key": key.encode("latin-1").decode("latin-1")}
    assert served.ask("POST", "/api/v1/projects", json={"name": "x"}, headers=sent).code == "bad-key"


def test_an_answer_with_a_secret_is_kept_nowhere(served: Any) -> None:
    reply = served.ask("POST", "/api/v1/access/tokens", json={}, headers={"Idempotency-Key": "k-2"})
    assert (reply.status, reply.code) == (400, "bad-key")


# --- the server ------------------------------------------------------------------------------------------------------


def test_a_taken_address_is_said(served: Any, controlled: Any) -> None:
    with pytest.raises(Conflict, match="cannot be had"):
        ApiServer(served.platform, port=served.port)
    with pytest.raises(Conflict, match="Another server"):
        ApiServer(controlled.platform, control=controlled.control)


def test_a_socket_left_by_a_killed_server_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "out"))
    with ApiServer(platform, control=path):
        assert path.exists()
    assert not path.exists()
    platform.close()


def test_calls_run_side_by_side(served: Any) -> None:
    statuses: list[int] = []

    def work() -> None:
        connection = served.connection()
        for _ in range(5):
            connection.request("GET", WHO)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60
