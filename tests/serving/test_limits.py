"""What bounds callers: how often each may ask, and until when an answer is wanted."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.serving import limits
from loopline.serving.limits import Buckets, Counts, share
from loopline.serving.log import read_segment, segments
from loopline.serving.problems import Problem
from loopline.serving.records import KNOWN, ControlMessage, Policy, WorkerSettings
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, live, table
from .test_packaged import children, packaged, trained  # noqa: F401 - a fixture

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]


def test_a_bucket_fills_as_time_goes_by() -> None:
    buckets = Buckets(2.0, 3, Counts())
    for _ in range(3):
        buckets.take("ann", 10.0)
    with pytest.raises(Problem) as found:
        buckets.take("ann", 10.0)
    assert (found.value.status, dict(found.value.headers)) == (429, {b"retry-after": b"1"})
    buckets.take("ben", 10.0)  # has a bucket of his own
    with pytest.raises(Problem):
        buckets.take("ann", 10.4)
    buckets.take("ann", 10.9)
    for _ in range(3):
        buckets.take("ann", 1000.0)  # it holds no more than the burst
    with pytest.raises(Problem):
        buckets.take("ann", 1000.0)
    slow = Buckets(0.1, 0, Counts())
    slow.take("ann", 0.0)
    with pytest.raises(Problem) as found:
        slow.take("ann", 0.0)
    assert dict(found.value.headers) == {b"retry-after": b"10"}


class Bucket:
    """One token bucket as it is written in every book."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst, self.left, self.at = rate, burst, float(burst), 0.0

    def take(self, now: float) -> bool:
        self.left, self.at = min(self.burst, self.left + (now - self.at) * self.rate), now
        self.left -= (taken := self.left > 1 - 5e-4)
        return taken


def taken(buckets: Buckets, caller: str, now: float) -> bool:
    try:
        buckets.take(caller, now)
    except Problem:
        return False
    return True


@given(
    st.sampled_from([0.5, 2.0, 8.0, 1000.0]),
    st.integers(1, 5),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["ann", "ben"]), st.sampled_from([0, 0, 0, 1, 2, 5, 40, 900])),
        max_size=80,
    ),
)
def test_the_workers_of_a_port_have_one_bucket_for_a_caller(
    tmp_path_factory: pytest.TempPathFactory, rate: float, burst: int, asked: list[tuple[int, str, int]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "counts"
    share(file, 3)
    workers = [Buckets(rate, burst, Counts(file, n)) for n in range(3)]
    plain = {name: Bucket(rate, burst) for name in ("ann", "ben")}
    now = 5000.0
    for worker, caller, later in asked:
        now += later / 8 / rate
        assert taken(workers[worker], caller, now) == plain[caller].take(now)


HAMMER = """
import sys, time
from pathlib import Path
from loopline.serving.limits import Buckets, Counts
from loopline.serving.problems import Problem

buckets = Buckets(2000.0, 20, Counts(Path(sys.argv[1]), int(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
count, begun = 0, time.monotonic()
for _ in range(20_000):
    try:
        buckets.take("ann", time.monotonic())
        count += 1
    except Problem:
        pass
print(count, begun, time.monotonic())
"""


def test_workers_that_count_at_once_lose_no_count(tmp_path: Path) -> None:
    share(tmp_path / "counts", 3)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, tmp_path / "counts", str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=60)[0].split() for worker in workers]
    seconds = max(float(ended) for *_, ended in said) - min(float(begun) for _, begun, _ in said)
    assert 20 < sum(int(count) for count, *_ in said) <= 20 + 2000 * seconds + 2


def test_where_very_many_ask_a_new_caller_takes_the_place_of_the_idlest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CALLERS", 3)
    share(tmp_path / "counts", 2)
    one, other = (Buckets(1.0, 2, Counts(tmp_path / "counts", n)) for n in range(2))
    for caller in ("ann", "ann", "ben", "cem", "cem"):
        one.take(caller, 100.0)
    other.take("eva", 103.0)  # all are idle by now; she has ann's place
    other.take("eva", 103.0)
    assert not taken(one, "eva", 103.0)
    assert taken(one, "ben", 103.0)
    assert taken(one, "cem", 103.0)
    assert taken(one, "ann", 103.0)  # in the place of another that is less busy than eva
    assert not taken(other, "eva", 103.0)


def test_all_workers_together_let_a_caller_ask_so_often(serve: Serve, bundle: Bundle) -> None:
    limited = table(1, live(bundle()), policy=Policy(rate=0.001, burst=30))
    server = serve(limited, workers=2)
    body = json.dumps([EXAMPLE])
    held: list[http.client.HTTPConnection] = []
    workers: set[str] = set()

    def ask(connection: http.client.HTTPConnection) -> tuple[int, Any]:
        connection.request("POST", "/predict/risk", body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    for pid in server.pids:  # a connection to each worker: the other one is stopped meanwhile
        (other,) = {*server.pids} - {pid}
        os.kill(other, signal.SIGSTOP)
        held.append(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20))
        status, found = ask(held[-1])
        os.kill(other, signal.SIGCONT)
        assert status == 200, found
        workers.add(found["predictions"][0]["id"][11:13])
    assert workers == {"00", "01"}
    assert [ask(held[n % 2])[0] for n in range(40)] == [200] * 28 + [429] * 12
    for connection in held:
        connection.close()
    before = server.pids
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while len(set(server.pids) - set(before)) < 1 or not all(w.ready.is_set() for w in server._workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {call(server.port, "POST", "/predict/risk", [EXAMPLE]).status for _ in range(8)} == {429}


@pytest.mark.parametrize("path", ["/predict/risk", "/predict/risk?x=1", "/v2/models/risk/infer"])
def test_each_caller_has_a_rate_of_its_own(serve: Serve, bundle: Bundle, folder: Path, path: str) -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ann", "ben")}
    tokens = {"risk": tuple(digests.values()), KNOWN: tuple(digests.values())}
    made = bundle()
    limited = table(1, live(made), policy=Policy(rate=0.001, burst=2))
    server = serve(limited, tokens)
    bearer = {name: {"Via": "1.1 elsewhere", "Authorization": f"Bearer {name}"} for name in digests}

    def ask(name: str) -> Any:
        return call(server.port, "POST", path, [EXAMPLE], bearer[name])

    assert 429 not in {ask("ann").status for _ in range(2)}
    refused = ask("ann")
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) > 60
    server.push(table(2, live(made), policy=Policy(rate=0.001, burst=2)), tokens)
    assert ask("ann").status == 429  # a new table gives nothing back
    assert ask("ben").status != 429
    assert call(server.port, "POST", path, [EXAMPLE]).status != 429  # this user
    server.push(table(3, live(made)), tokens)
    assert ask("ann").status != 429
    server.stop()
    logged = [r for s in segments(folder / "log") for r in read_segment(s)[0]]
    assert [r.error for r in logged if r.status == 429] == ["rate-limit"] * 2
    assert {r.caller for r in logged} == {"", digests["ann"][:16], digests["ben"][:16]}


@pytest.mark.parametrize("path", ["/predict/risk", "/predict/risk?x=1"])
def test_a_deadline_is_honoured_before_work_is_done(serve: Serve, bundle: Bundle, path: str) -> None:
    server = serve(table(1, live(bundle())))
    assert call(server.port, "POST", path, [EXAMPLE], {"x-loopline-deadline-ms": "20000"}).status == 200
    late = call(server.port, "POST", path, [EXAMPLE], {"x-loopline-deadline-ms": "0"})
    assert (late.status, late.error["code"], late.headers["retry-after"]) == (503, "deadline-passed", "1")
    for wrong in ("-1", "soon", "1e3", "", "9" * 20):
        answer = call(server.port, "POST", path, [EXAMPLE], {"x-loopline-deadline-ms": wrong})
        assert (answer.status, answer.error["code"]) == (400, "bad-header")
    text = call(server.port, "GET", "/metrics").body.decode()
    assert 'loopline_rows_total{endpoint="risk",variant="champion",version="1"} 1' in text


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_who_waits_for_a_slow_model_is_told_and_the_model_is_not_asked(
    serve: Serve,
    trained: tuple[Any, pl.DataFrame],  # noqa: F811
    tmp_path: Path,
) -> None:
    packed, rows = packaged(trained, tmp_path / "b", "native")
    server = serve(table(1, live(packed)))
    assert call(server.port, "POST", "/predict/risk", rows[:1]).status == 200
    (child,) = children(server.pids[0])
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, server.port, "POST", "/predict/risk", rows[:1])
        time.sleep(0.3)  # it is with the model by now
        second = pool.submit(call, server.port, "POST", "/predict/risk", rows[:2], {"x-loopline-deadline-ms": "300"})
        time.sleep(0.6)
        os.kill(child, signal.SIGCONT)
        assert first.result().status == 200
        assert (second.result().status, second.result().error["code"]) == (503, "deadline-passed")
    stats = call(server.port, "GET", "/v2/models/risk/stats").json["model_stats"][0]
    assert (stats["execution_count"], stats["inference_count"]) == (2, 2)


def test_a_draining_worker_is_live_and_not_ready(folder: Path, bundle: Bundle) -> None:
    settings = WorkerSettings(state=str(folder / "r.json"), log=str(folder / "log"))
    Path(settings.state).write_bytes(msgspec.json.encode(ControlMessage(table=table(1, live(bundle())))))
    (folder / "w.json").write_bytes(msgspec.json.encode(settings))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    worker = subprocess.Popen(
        [sys.executable, "-m", "loopline.serving.worker", str(folder / "w.json"), "--listen", f"127.0.0.1:{port}"]
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert call(port, "GET", "/v2/health/ready").status == 200
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        body = json.dumps([EXAMPLE]).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
            sock.sendall(body[:5])
            assert call(port, "GET", "/v2/health/live").status == 200  # by now the head above was read
            worker.terminate()
            while (answer := call(port, "GET", "/v2/health/ready")).status == 200:
                assert time.monotonic() < deadline
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert call(port, "GET", "/health").error["code"] == "draining"
            assert call(port, "GET", "/v2/health/live").json == {"live": True}
            assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200  # nobody is sent away
            sock.sendall(body[5:])
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        assert worker.wait(timeout=30) == 0
    finally:
        worker.kill()
        worker.wait()
