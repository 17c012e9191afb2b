"""What clients send by mistake or on purpose: never a 500 for it, never a dead server, and those beside them are answered."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Load, call, live, raw, table
from .test_oip import GOOD, column

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]
PLAIN, TENSORS = "/predict/risk", "/v2/models/risk/infer"


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Iterator[Supervisor]:
    started = serve(table(1, live(bundle()), passthrough=("patient",)))
    (worker,) = started.pids
    yield started
    assert started.pids == [worker], "the worker died"
    assert started.restarts == 0
    assert call(started.port, "POST", PLAIN, [EXAMPLE]).status == 200


def refused(port: int, path: str, body: Any, headers: dict[str, str] | None = None, *, status: int = 400) -> Any:
    answer = call(port, "POST", path, body, headers)
    assert answer.status == status, (path, answer.status, answer.body[:300])
    return answer


def test_numbers_that_are_none(server: Supervisor) -> None:
    for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "1_0", "+1", ".5", "1e", "--1"):
        body = json.dumps([{**EXAMPLE, "age": "?"}]).replace('"?"', text).encode()
        refused(server.port, PLAIN, body)
        body = json.dumps({"inputs": [*GOOD.values()]}).replace("1.5", text).encode()
        refused(server.port, TENSORS, body)
    for value in (float("inf"), float("-inf")):
        tensor = column("age", [0], "FP64", binary_data_size=8)
        head = json.dumps({"inputs": [*({**GOOD, "age": tensor}).values()]}).encode()
        binary = {"Inference-Header-Content-Length": str(len(head))}
        refused(server.port, TENSORS, head + struct.pack("<d", value), binary)


@pytest.mark.parametrize(
    "row",
    [
        {"age": "x"}, {"age": [1]}, {"age": {"a": 1}}, {"visits": 1.5}, {"visits": None}, {"visits": True}, {"visits": "2"},
        {"visits": 10**30}, {"insured": "yes"}, {"insured": 2}, {"admitted": "31.5.2024"}, {"admitted": 5},
        {"admitted": "2024-02-30"}, {"ward": 5}, {"ward": ["north"]}, {"age": 1e300}, {"age": -1e39},
    ],
)  # fmt: skip
def test_values_of_a_wrong_type_are_named(server: Supervisor, row: dict[str, Any]) -> None:
    error = refused(server.port, PLAIN, [EXAMPLE, {**EXAMPLE, **row}]).error
    details = error["details"]
    assert details["field"] in row
    assert details["row"] == 1
    assert details["expected"]
    assert "got" in details


def test_shapes_that_cannot_be(server: Supervisor) -> None:
    for shape in (
        [-1],
        [-(2**63)],
        [0],
        [1, 0],
        [1, 1, 1],
        [1, -1],
        [2],
        [1, 2],
        [],
        [2**31, 2**31],
        [10**9],
        [2**63 - 1],
    ):
        answer = call(
            server.port, "POST", TENSORS, {"inputs": [*{**GOOD, "age": column("age", [1.5], "FP64", shape)}.values()]}
        )
        assert answer.status in (400, 413), (shape, answer.body)
        tensor = column("age", [0], "FP64", shape, binary_data_size=8)
        head = json.dumps({"inputs": [tensor]}).encode()
        answer = call(
            server.port, "POST", TENSORS, head + b"12345678", {"Inference-Header-Content-Length": str(len(head))}
        )
        assert answer.status in (400, 413), (shape, answer.body)
    refused(server.port, TENSORS, {"inputs": [{**GOOD["age"], "shape": [1.5]}]})
    refused(server.port, TENSORS, {"inputs": [{**GOOD["age"], "shape": [10**30]}]}, status=413)
    refused(server.port, TENSORS, {"inputs": [GOOD["age"], column("visits", [1, 2], "INT64")]})  # ragged
    refused(server.port, TENSORS, {"inputs": [column("age", [[1.5], [1.5, 2]], "FP64", [2, 1])]})
    refused(server.port, TENSORS, {"inputs": [column("age", [[[1.5]]], "FP64", [1, 1])]})


def test_truncated_and_lying_binary_tensors(server: Supervisor) -> None:
    tensor = column("ward", [0], "BYTES", [2], binary_data_size=18)
    head = json.dumps({"inputs": [tensor]}).encode()
    whole = struct.pack("<I5sI5s", 5, b"north", 5, b"south")
    length = {"Inference-Header-Content-Length": str(len(head))}
    for end in range(len(whole)):
        refused(server.port, TENSORS, head + whole[:end], length)
    for size in (2**31, 2**32 - 1, 6):
        refused(server.port, TENSORS, head + struct.pack("<I", size) + whole[4:], length)
    for lie in ("0", str(len(head) - 1), str(len(head) + 1), str(10**12), "-1", "x", ""):
        refused(server.port, TENSORS, head + whole, {"Inference-Header-Content-Length": lie})


def test_bombs_are_not_opened(server: Supervisor) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    for path in (PLAIN, TENSORS, PLAIN + "?x=1"):
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
            refused(server.port, path, bomb, {"Content-Encoding": coding}, status=415)
        refused(server.port, path, bomb)  # and said to be nothing of the sort


def test_deep_wide_and_doubled_json(server: Supervisor) -> None:
    for path in (PLAIN, TENSORS, "/v2/repository/index"):
        for body in (
            b"[" * 200_000, b'{"a":' * 100_000, b"[" * 200_000 + b"]" * 200_000, b"", b"null", b"true", b"0", b'"x"', b"{}",
            b"\xff\xfe[\x00", b"\xef\xbb\xbf[]", b'[{"age":"\xc3\x28"}]', b'[{"a\\ud800":1}]', b"\x00" * 1000, b"[1e400]",
        ):  # fmt: skip
            answer = call(server.port, "POST", path, body)
            assert answer.status in ((200, 400, 413) if "index" in path else (400,)), (
                path,
                body[:20],
                answer.body[:200],
            )
    million = json.dumps([{**EXAMPLE, **{f"k{n}": n for n in range(100_000)}}]).encode()
    refused(server.port, PLAIN, million)
    refused(server.port, PLAIN, b'[{"age":1,"age":2,"visits":1,"insured":true,"admitted":null,"ward":"x"}]')
    refused(server.port, PLAIN, [EXAMPLE] * 10_001, status=413)


NESTED = (
    ("/predict/risk", b"%s", b"["), ("/predict/risk", b'[{"age":%s}]', b'{"a":'), ("/predict/risk", b"%s", b'{"a":'),
    ("/v2/models/risk/infer", b'{"inputs":%s}', b"["), ("/v2/models/risk/infer", b'{"parameters":%s,"inputs":[]}', b'{"a":'),
    ("/invocations", b'{"instances":%s}', b"["), ("/invocations", b'{"inputs":{"age":%s}}', b"["),
    ("/invocations", b'{"dataframe_split":{"columns":%s,"data":[[1]]}}', b"["),
    ("/invocations", b'{"params":%s,"inputs":1}', b'{"a":'),
    ("/v1/models/risk:predict", b'{"instances":%s}', b"["), ("/v1/models/risk:predict", b'{"inputs":{"age":%s}}', b'{"a":'),
    ("/v1/models/risk:predict", b'{"signature_name":%s}', b"["), ("/v1/models/risk:classify", b'{"context":{"a":%s}}', b"["),
    ("/predictions/risk", b"%s", b'{"a":'), ("/predictions/risk", b'{"instances":%s}', b"["),
    ("/score", b'{"input_data":%s}', b"["), ("/score", b'{"Inputs":{"data":%s}}', b'{"a":'), ("/score", b'{"data":%s}', b"["),
    ("/events/risk", b'{"specversion":"1.0","id":"7","source":"/a","type":"t","data":%s}', b"["),
    ("/events/risk", b'{"specversion":%s,"id":"7"}', b'{"a":'),
)  # fmt: skip


def test_nesting_that_is_no_row_is_refused_at_any_depth(server: Supervisor) -> None:
    """As deep as the parser of JSON just takes, and what comes after it would not."""
    for path, form, opening in NESTED:
        kind = "application/cloudevents+json" if "events" in path else "application/json"
        closing = b"]" if opening == b"[" else b"}"
        for depth in (50, 101, 300, 500, 700, 900, 950, 980):
            deep = opening * depth + (b"" if opening == b"[" else b"1") + closing * depth
            refused(server.port, path, form % deep, {"Content-Type": kind})


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (__import__("os").system, ("touch /tmp/loopline-was-owned",))


def test_pickles_are_bytes_like_any_others(server: Supervisor) -> None:
    """Attack 14."""
    import cloudpickle  # type: ignore[import-untyped]
    import joblib
    import numpy as np

    buffer = io.BytesIO()
    joblib.dump(Evil(), buffer)
    array = io.BytesIO()
    np.save(array, np.array([Evil()], dtype=object), allow_pickle=True)
    for data in (
        *(pickle.dumps(Evil(), n) for n in range(6)),
        buffer.getvalue(),
        cloudpickle.dumps(Evil()),
        array.getvalue(),
    ):
        for kind in (
            "application/json", "application/octet-stream", "application/vnd.bentoml+pickle", "application/x-pickle",
            "application/python-pickle", "application/x-npy", "multipart/form-data; boundary=x", "text/csv", "",
        ):  # fmt: skip
            headers = {"Content-Type": kind, "Payload-Container": "pickle"}
            refused(server.port, PLAIN, data, headers)
            refused(server.port, TENSORS, data, headers)
    assert not Path("/tmp/loopline-was-owned").exists()


def test_who_is_not_there(server: Supervisor) -> None:
    for path in (
        "/predict/rusk", "/predict/", "/v2/models/rusk/infer", "/v2/models/risk/versions/9/infer", "/v2/models//infer",
        "/v2/models/risk/versions/1/2/infer", "/predict/%2e%2e/risk", "/predict/risk%00", "/predict/risk/..",
    ):  # fmt: skip
        answer = call(server.port, "POST", path, [EXAMPLE])
        assert answer.status in (404, 405), (path, answer.status, answer.body[:200])


SMUGGLED = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nX: "
BODY = json.dumps([EXAMPLE]).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


@pytest.mark.parametrize(
    "head",
    [
        LENGTH + b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n" + LENGTH,
        LENGTH + b"Content-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b" Content-Length: 5\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n",
        b"Transfer-encoding: chunked\r\nTransfer-encoding: identity\r\n",
        b"X: a\r\n\tContent-Length: 5\r\n",
        b"X: \x00\r\n",
        b"X\x00: a\r\n",
    ],
)
def test_no_second_request_is_smuggled(server: Supervisor, head: bytes) -> None:
    """Whatever the framing says, what was sent as a body is not answered as a request of its own."""
    inner = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n0\r\n\r\n" + inner
    found = raw(server.port, sent, seconds=1.5)
    assert b"loopline_requests_total" not in found, found[:500]
    for line in (line for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.1")):
        assert line.split()[1] in (b"400", b"413", b"501"), found[:500]


def test_pipelined_garbage(server: Supervisor) -> None:
    good = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + BODY
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for garbage in (b"\x00" * 5000, b"\x16\x03\x01\x02\x00\x01\x00", http2, b"GET\r\n\r\n", b"\r\n" * 9 + b"?"):
        found = raw(server.port, good + good + garbage, seconds=3)
        assert found.count(b"HTTP/1.1 200") == 2, found[:300]
        assert b"HTTP/1.1 5" not in found


def test_huge_heads(server: Supervisor) -> None:
    start = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\n"
    for head, status in (
        (start + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n", b"431"),
        (start + b"".join(b"X%d: a\r\n" % n for n in range(5000)) + b"\r\n", b"431"),
        (b"POST /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n", b"414"),
    ):
        assert raw(server.port, head, until=b"\r\n").split()[1] == status


def test_two_thousand_connections_at_once(server: Supervisor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    request = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + BODY
    open_ones = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(2000)]
    try:
        for sock in open_ones:
            sock.sendall(request)
        statuses = []
        for sock in open_ones:
            found = b""
            while b"\r\n" not in found:
                part = sock.recv(65536)
                assert part, "it was hung up on"
                found += part
            statuses.append(found.split()[1])
        assert set(statuses) <= {b"200", b"503"}
        assert statuses.count(b"200") >= 1000
    finally:
        for sock in open_ones:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_slow_hold_up_nobody(server: Supervisor) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(300)]
    try:
        for n, sock in enumerate(slow):
            sock.sendall(b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nX: "[: 5 + n % 50])
        with Load(server.port, clients=2) as load:
            for turn in range(3):
                for sock in slow:
                    sock.sendall(b"a")
                load.wait(20)
                time.sleep(0.1 * turn)
        assert {status for status, _ in load.answers} == {200}
    finally:
        for sock in slow:
            sock.close()
