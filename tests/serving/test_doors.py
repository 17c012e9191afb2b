"""Who may call, what is forwarded and how, what the worker says of itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopline.hashing import digest_bytes
from loopline.serving.access import Gate, peer_uid
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem
from loopline.serving.records import KNOWN
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Load, call, live, raw, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]


class _Control(BaseHTTPRequestHandler):
    """Stands for the control process: a real HTTP server on a Unix socket that tells what reached it."""

    protocol_version = "HTTP/1.1"
    seen: list[Any] = []  # noqa: RUF012
    connections: list[socket.socket] = []  # noqa: RUF012

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.connection)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_expect_100(self) -> bool:
        return self.path == "/early" or super().handle_expect_100()

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _tell(self) -> None:
        if self.path == "/hang-up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.path == "/more":
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale"
            )
            return
        if self.path.startswith("/file"):
            self.send_response(200)
            self.send_header("content-length", "0")
            self.send_header("x-loopline-file", self.path.removeprefix("/file"))
            self.send_header("x-loopline-file-size", "1000000")
            self.send_header("content-type", "text/x-mine")
            self.end_headers()
            return
        if self.path == "/early":
            self.send_response(413)
            self.send_header("content-length", "5")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"early")
            return
        body = self._body()
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for n in range(10_000):
                    self.wfile.write(b"5\r\n%05d\r\n" % n)
                    self.wfile.flush()
                    if n > 2:
                        time.sleep(0.02)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.seen.append("client went")
            self.close_connection = True
            return
        answer = json.dumps(
            {"method": self.command, "path": self.path, "headers": list(self.headers.items()), "size": len(body),
             "digest": hashlib.sha256(body).hexdigest()}
        ).encode()  # fmt: skip
        self.send_response(201 if self.command == "PUT" else 200)
        self.send_header("content-length", str(len(answer)))
        self.send_header("x-one", "1")
        self.send_header("x-one", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _tell


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def control(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    path = str(folder / "c.sock")
    _Control.seen, _Control.connections = [], []
    server = _Server(path, _Control)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def down() -> None:
        server.shutdown()
        server.server_close()
        for connection in _Control.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        Path(path).unlink(missing_ok=True)

    yield path, down
    if Path(path).exists():
        down()
    thread.join()


def test_other_routes_reach_the_control_process(
    serve: Serve, bundle: Bundle, control: tuple[str, Callable[[], None]]
) -> None:
    path, down = control
    server = serve(table(1, live(bundle())), control=path, forward_limit=20_000_000)
    port = server.port
    assert call(port, "GET", "/health").json == {"status": "ready", "epoch": 1}
    sent = {"x-loopline-peer": "1.2.3.4:5", "X-Loopline-Peer-Uid": "0", "x_loopline_peer_uid": "0", "x-mine": "kept"}
    answer = call(port, "PUT", "/api/models/m%2Fn?x=1&y=%20", b"some bytes", sent)
    assert answer.status == 201
    assert answer.headers["x-one"] in ("2", "1, 2")
    said = answer.json
    headers = {k.lower(): v for k, v in said["headers"]}
    assert (said["method"], said["path"], said["size"]) == ("PUT", "/api/models/m%2Fn?x=1&y=%20", 10)
    assert headers["x-loopline-peer"].startswith("127.0.0.1:")
    assert headers["x-loopline-peer-uid"] == str(os.geteuid())
    assert headers["x-mine"] == "kept"
    assert sum("peer" in k.lower() for k, _ in said["headers"]) == 2
    proxied = {k.lower(): v for k, v in call(port, "GET", "/x", headers={"X-Forwarded-For": "8.8.8.8"}).json["headers"]}
    assert proxied["x-loopline-peer-uid"] == "-1"
    assert ["x-loopline-peer-uid", "-1"] in call(port, "GET", "/x", headers={"Via": "1.1 proxy"}).json["headers"]
    # Naming a header in Connection cannot take away what says who asks, nor how much is sent.
    named = b"close, host, authorization, origin, content-length, via, x-mine"
    kept = {b"host": b"localhost", b"authorization": b"Bearer wrong", b"origin": b"http://localhost", b"via": b"1.1 p"}
    lines = b"".join(b"%s: %s\r\n" % pair for pair in kept.items())
    found = raw(
        port,
        b"POST /x HTTP/1.1\r\n" + lines + b"X-Mine: 1\r\nConnection: " + named + b"\r\nContent-Length: 3\r\n\r\nabc",
    )
    said = json.loads(found.partition(b"\r\n\r\n")[2])
    headers = {k.lower(): v for k, v in said["headers"]}
    assert {k.decode(): v.decode() for k, v in kept.items()}.items() <= headers.items()
    assert (said["size"], headers["content-length"], "x-mine" in headers) == (3, "3", False)
    big = os.urandom(1 << 20) * 8
    said = call(port, "POST", "/upload", big).json
    assert (said["size"], said["digest"]) == (len(big), hashlib.sha256(big).hexdigest())
    head = b"POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    found = raw(port, head + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert json.loads(found.partition(b"\r\n\r\n")[2])["size"] == 7
    assert raw(port, b"HEAD /h HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert call(port, "POST", "/early", b"x").status == 413
    assert call(port, "POST", "/upload", b"x" * 20_000_001).status == 413
    broken = call(port, "GET", "/hang-up")
    assert (broken.status, broken.error["branch"], broken.error["code"]) == (503, "unavailable", "control-unavailable")
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = b""
        while b"00003" not in found:
            found += sock.recv(65536)
    deadline = time.monotonic() + 20
    while "client went" not in _Control.seen:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    down()
    answer = call(port, "GET", "/api/models")
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "control-unavailable", "1")
    assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    time.sleep(1.1)  # the control process's last good answer counts for a second
    assert call(port, "GET", "/health").status == 503
    assert call(port, "GET", "/v2/health/live").status == 200
    assert call(port, "GET", "/v2/health/ready").status == 200


def test_small_requests_share_a_connection_that_is_as_it_should_be(
    serve: Serve, bundle: Bundle, control: tuple[str, Callable[[], None]]
) -> None:
    port = serve(table(1, live(bundle())), control=control[0]).port
    before = len(_Control.connections)
    for n in range(5):
        said = call(port, "POST", f"/x/{n}", b"x" * n).json
        assert (said["path"], said["size"]) == (f"/x/{n}", n)
    assert len(_Control.connections) == before + 1
    # What comes without being asked for is nobody's answer.
    assert call(port, "GET", "/more").body == b"{}"
    assert call(port, "GET", "/x/6").json["path"] == "/x/6"
    assert len(_Control.connections) == before + 2
    # A body within a body is a body: two requests never come of one.
    inner = b"GET /secret HTTP/1.1\r\nHost: localhost\r\nx-loopline-peer-uid: 0\r\n\r\n"
    assert call(port, "POST", "/x/7", inner).json["size"] == len(inner)
    assert call(port, "GET", "/x/8").json["path"] == "/x/8"
    _Control.connections[-1].shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    assert call(port, "GET", "/x/9").json["path"] == "/x/9"


def test_a_file_that_the_control_process_names_is_the_body(
    serve: Serve, bundle: Bundle, control: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    port = serve(table(1, live(bundle())), control=control[0]).port
    file = tmp_path / "kept"
    file.write_bytes(os.urandom(1_000_000))
    for _ in range(2):
        answer = call(port, "GET", f"/file{file}")
        assert (answer.status, answer.body) == (200, file.read_bytes())
        assert (answer.headers["content-type"], answer.headers["content-length"]) == ("text/x-mine", "1000000")
        assert not any("loopline" in name for name in answer.headers)
    file.unlink()
    gone = call(port, "GET", f"/file{file}")
    assert (gone.status, gone.error["code"]) == (503, "control-unavailable")
    assert str(file) not in str(gone.body)


def test_a_large_body_becomes_a_file_once_the_control_process_wants_it(
    serve: Serve, bundle: Bundle, control: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    folder = tmp_path / "incoming"
    port = serve(table(1, live(bundle())), control=control[0], incoming=str(folder), forward_limit=3_000_000).port
    body = os.urandom(2_500_000)
    sent = {"x-loopline-body": "../secret", "X_Loopline_Body_Size": "1", "expect": "100-continue"}
    said = call(port, "PUT", "/upload", body, sent).json
    headers = {k.lower(): v for k, v in said["headers"] if "loopline-body" in k.lower().replace("_", "-")}
    name = headers.pop("x-loopline-body")
    assert headers == {"x-loopline-body-size": "2500000"}
    assert Path(name).name == name
    digest = digest_bytes(body)
    assert (said["size"], said["digest"]) == (len(digest), hashlib.sha256(digest.encode()).hexdigest())
    while (
        list(folder.iterdir()) != []
    ):  # the control process did not take it, and nobody else will; the timeout ends this
        time.sleep(0.01)
    # What is refused by its head is not taken at all: no file is made before the control process has said that it goes on.
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413")
        assert list(folder.iterdir()) == []
    assert call(port, "POST", "/upload", bytes(3_000_001)).status == 413
    broken = call(port, "PUT", "/hang-up", body)
    assert (broken.status, broken.error["code"]) == (503, "control-unavailable")
    while list(folder.iterdir()) != []:
        time.sleep(0.01)


def test_a_file_that_a_killed_worker_left_is_gone_with_its_successor(
    serve: Serve, bundle: Bundle, control: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    folder = tmp_path / "incoming"
    server = serve(table(1, live(bundle())), control=control[0], incoming=str(folder))
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_500_000))
        while list(folder.iterdir()) == []:  # the test's own timeout ends it
            time.sleep(0.01)
        os.kill(server.pids[0], signal.SIGKILL)
        while list(folder.iterdir()) != []:
            time.sleep(0.01)


def test_not_ready_before_a_table(serve: Serve) -> None:
    server = serve()
    assert call(server.port, "GET", "/health").status == 503
    assert call(server.port, "GET", "/v2/health/ready").status == 503
    assert call(server.port, "GET", "/v2/health/live").status == 200
    assert call(server.port, "GET", "/nothing").status == 404
    assert call(server.port, "GET", "/v2").json["name"] == "loopline"


PREDICT = b"POST /predict/risk HTTP/1.1\r\n%sContent-Length: 2\r\nConnection: close\r\n\r\n[]"


@pytest.mark.parametrize("path", [b"POST /predict/risk", b"GET /v2/health/live", b"GET /metrics", b"GET /api/x"])
def test_foreign_names_are_refused_everywhere(serve: Serve, bundle: Bundle, path: bytes) -> None:
    server = serve(table(1, live(bundle())))
    host = b"127.0.0.1:%d" % server.port

    def ask(*lines: bytes) -> bytes:
        head = b"\r\n".join([path + b" HTTP/1.1", *lines, b"Content-Length: 0", b"Connection: close"])
        return raw(server.port, head + b"\r\n\r\n").split(b" ")[1]

    assert ask(b"Host: evil.example") == b"421"
    assert ask(b"Host: 127.0.0.1.evil.example") == b"421"
    assert ask(b"Host: ") == b"421"
    assert ask(b"Host: " + host, b"Host: evil.example") == b"400"
    assert ask(b"Host: " + host, b"Origin: http://evil.example") == b"403"
    assert ask(b"Host: " + host, b"Origin: null") == b"403"
    # Another port of this machine may be another user's server, and its page not ours.
    for page in (
        b"http://127.0.0.1:1",
        b"http://localhost:1",
        b"http://[::1]:1",
        b"http://0.0.0.0:1",
        b"http://127.9.9.9",
    ):
        assert ask(b"Host: " + host, b"Origin: " + page) == b"403"
    for good in (host, b"localhost", b"LOCALHOST:1", b"[::1]:8400"):
        assert ask(b"Host: " + good) in (b"200", b"400", b"404")
    assert ask(b"Host: " + host, b"Origin: http://" + host) in (b"200", b"400", b"404")


def test_tokens_for_those_who_are_not_this_user(serve: Serve, bundle: Bundle) -> None:
    def digest(token: str) -> tuple[str, ...]:
        return (hashlib.sha256(token.encode()).hexdigest(),)

    made = bundle()
    server = serve(table(1, live(made)), {"risk": digest("good"), "other": digest("else"), KNOWN: digest("idle")})
    elsewhere = {"X-Forwarded-For": "10.0.0.9"}  # a proxy of this user on this machine: the caller is not this user

    def ask(path: str, **headers: str) -> Any:
        method, body = ("POST", [EXAMPLE]) if "predict" in path or "infer" in path else ("GET", None)
        return call(server.port, method, path, body, headers)

    assert ask("/predict/risk").status == 200
    refused = ask("/predict/risk", **elsewhere)
    assert (refused.status, refused.headers["www-authenticate"], refused.error["code"]) == (401, "Bearer", "no-token")
    for path in ("/v2/models/risk/infer", "/v2/models/risk", "/metrics", "/predict/unknown"):
        assert ask(path, **elsewhere).status == 401, path
    assert ask("/predict/risk", **elsewhere, Authorization="Bearer good").status == 200
    assert ask("/predict/risk", **elsewhere, Authorization="Bearer else").status == 403
    for path in ("/predict/risk", "/v2/models/risk", "/metrics", "/predict/unknown"):
        assert ask(path, **elsewhere, Authorization="Bearer idle").status == 403, path
    assert ask("/predict/risk", **elsewhere, Authorization="Bearer bad").status == 401
    assert ask("/predict/risk", **elsewhere, Authorization="Basic good").status == 401
    assert ask("/predict/risk", Authorization="Bearer bad").status == 401  # a wrong token is wrong for anybody
    assert ask("/v2/models/risk", **elsewhere, Authorization="Bearer good").status == 200
    assert ask("/metrics", **elsewhere, Authorization="Bearer else").status == 200
    server.push(table(2, live(made)), {"*": digest("new")})
    assert ask("/predict/risk", **elsewhere, Authorization="Bearer good").status == 401
    assert ask("/predict/risk", **elsewhere, Authorization="Bearer new").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can act as another user")
def test_another_user_of_this_machine_needs_a_token(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())))
    program = """
import os, socket, sys
os.setuid(65534)
with socket.socket() as sock:
    sock.connect((b"127.0.0.1", int(sys.argv[1])))
    sock.sendall(b"POST /predict/risk HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 2\\r\\n\\r\\n[]")
    print(sock.recv(1000).split()[1].decode())
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(server.port)], capture_output=True, text=True, check=True, cwd="/"
    )
    assert found.stdout.strip() == "401"


def test_who_is_local() -> None:
    assert Peer(("127.0.0.1", 5), ("127.0.0.1", 6)).local
    assert Peer(("::ffff:127.0.0.1", 5), ("::1", 6)).local
    assert not Peer(("10.0.0.1", 5), ("127.0.0.1", 6)).local
    assert Peer(None, None).uid == -1
    assert peer_uid({b"x-real-ip": b"1"}, Peer(("127.0.0.1", 5), ("127.0.0.1", 6))) == -1
    far = Peer(("10.0.0.1", 5), ("10.0.0.2", 6))
    Gate().check_host({b"host": b"any.example"}, far)
    with pytest.raises(Problem):
        Gate(["ours.example"]).check_host({b"host": b"any.example"}, far)
    Gate(["ours.example"]).check_host({b"host": b"ours.example:8400", b"origin": b"https://ours.example"}, far)
    here = Gate(["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
    for page in (b"http://127.0.0.1:1", b"http://localhost:1", b"http://[::1]:1", b"http://0.0.0.0:1"):
        with pytest.raises(Problem):
            here.check_host({b"host": b"127.0.0.1:8400", b"origin": page}, Peer(("127.0.0.1", 5), ("127.0.0.1", 6)))


def test_metrics_are_read_by_prometheus_own_parser(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())), workers=2)
    for n in range(10):
        call(server.port, "POST", "/predict/risk", [EXAMPLE] * (n + 1))
    call(server.port, "POST", "/predict/risk", [])
    for n in range(5):
        call(server.port, "POST", f"/predict/made-up-{n}", [])
    deadline = time.monotonic() + 20
    while True:
        text = call(server.port, "GET", "/metrics").body.decode()
        families = {f.name: f for f in text_string_to_metric_families(text)}
        found = {
            (s.labels["endpoint"], s.labels["status"]): s.value
            for s in families["loopline_requests"].samples
            if s.name == "loopline_requests_total"
        }
        if found == {("risk", "200"): 10, ("risk", "400"): 1, ("", "404"): 5}:
            break
        assert time.monotonic() < deadline, found  # the other worker shows its counters once a second
        time.sleep(0.1)
    assert families["loopline_request_seconds"].type == "histogram"
    assert sum(s.value for s in families["loopline_rows"].samples) == 55
    counts = [s.value for s in families["loopline_request_seconds"].samples if s.name.endswith("_count")]
    assert sum(counts) == 16
    assert families["loopline_workers"].samples[0].value == 2
    errors = {(s.labels["endpoint"], s.labels["code"]): s.value for s in families["loopline_errors"].samples if s.value}
    assert errors == {("risk", "no-rows"): 1, ("", "no-endpoint"): 5}
    batches = families["loopline_batch_rows"]
    assert batches.type == "histogram"
    sizes = {s.labels["le"]: s.value for s in batches.samples if s.name.endswith("_bucket")}
    assert [sizes[le] for le in ("1", "2", "4", "8", "16", "+Inf")] == [1, 2, 4, 8, 10, 10]
    assert sum(s.value for s in batches.samples if s.name.endswith("_sum")) == 55
    assert families["loopline_waiting_batches"].samples[0].value == 0


def test_in_flight_limit(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())), in_flight_limit=0)
    answer = call(server.port, "POST", "/predict/risk", [EXAMPLE])
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "busy", "1")


def test_a_worker_imports_nothing_heavy(bundle: Bundle, folder: Path) -> None:
    program = """
import asyncio, json, sys
from pathlib import Path
import loopline.serving.worker as worker
from loopline.serving import live
from loopline.serving.records import ControlMessage, Endpoint, RouteTable, Variant, WorkerSettings
from loopline.serving.engine import Engine
async def main():
    settings = WorkerSettings(state="", log=sys.argv[2])
    engine = Engine(settings, worker.open_log(settings))
    variant = Variant(name="v", bundle=sys.argv[1], model="model:risk@1", weight=10_000)
    table = RouteTable(epoch=1, endpoints={"risk": Endpoint(name="risk", variants=(variant,))})
    engine.swap(live.prepare(ControlMessage(table=table), {}, settings.opening))
    engine.close()
asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(bundle()), str(folder / "log")], capture_output=True, text=True, check=True
    )
    modules = {name.partition(".")[0] for name in json.loads(found.stdout)}
    assert "onnxruntime" in modules
    assert not modules & {
        "sqlalchemy",
        "polars",
        "pandas",
        "sklearn",
        "starlette",
        "pyarrow",
        "lightgbm",
        "scipy",
        "onnx",
    }


def test_one_client_s_broken_connection_harms_nobody(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())))
    with Load(server.port, clients=2) as load:
        for n in range(100):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall((PREDICT % b"Host: localhost\r\n")[: 20 + n])
        load.wait(50)
    assert {status for status, _ in load.answers} == {200}
