"""The prediction log: frames survive, torn tails go, nothing that was answered is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline import failpoints
from loopline.errors import Invalid, NotFound
from loopline.serving.log import (
    Frame,
    Part,
    PredictionLog,
    encode,
    is_open,
    read_frames,
    read_segment,
    recover,
    segments,
)
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Load, call, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]


def frame(n: int = 0, text: bytes = b'[{"a":1}]') -> Frame:
    return Frame(
        time_ms=n, request=f"r{n}", endpoint="e", parts=[Part("model:m@1", "v", "live", 0.5)], status=200, latency_us=7,
        form="list", sent=text, answered=b'[{"id":"p","value":2}]', route_keys="k",
    )  # fmt: skip


def opened(folder: Path, now: int = 1000, worker: int = 0, size: int = 1 << 20) -> PredictionLog:
    return PredictionLog(folder, worker, segment_bytes=size, segment_age_ms=60_000, now=now)


@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), max_size=5), st.integers(1, 200))
def test_what_is_appended_is_read_and_any_cut_is_survived(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[bytes]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = opened(folder)
    frames = []
    for texts in writes:
        made = [frame(len(frames) + n, text) for n, text in enumerate(texts)]
        log.append([encode(f) for f in made], 1000)
        frames += made
    path = log.path
    log.close()
    assert segments(folder) == ([path] if frames else [])
    if not frames:
        return
    assert read_frames(path)[0] == frames
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    found, offset = read_frames(path)
    assert found == frames[: len(found)]
    assert len(found) < len(frames)
    recover(folder)
    assert path.exists() == bool(found)
    if found:
        assert path.stat().st_size == offset
        assert read_frames(path, offset) == ([], offset)


def test_a_reader_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert read_segment(log.path) == ([], 0)
    log.append([encode(frame(1))], 1000)
    first, offset = read_segment(log.path)
    assert [(r.id, r.row, r.output, r.propensity, r.route_key) for r in first] == [
        ("p", {"a": 1}, {"value": 2}, 0.5, "k")
    ]
    log.append([encode(frame(2)), encode(frame(3))], 1000)
    assert [r.time_ms for r in read_segment(log.path, offset)[0]] == [2, 3]
    few, middle = read_frames(log.path, 0, limit=len(encode(frame(1))) + 10)
    assert [f.time_ms for f in few + read_frames(log.path, middle)[0]] == [1, 2, 3]
    log.close()
    with pytest.raises(NotFound):
        read_segment(tmp_path / "nothing.segment")
    (tmp_path / "other.segment").write_text("something else altogether")
    with pytest.raises(Invalid):
        read_segment(tmp_path / "other.segment")


def test_segments_rotate_by_size_and_age(tmp_path: Path) -> None:
    log = opened(tmp_path, now=1000, size=100)
    paths = [log.path]
    for now in (1000, 2000, 3000):
        log.append([encode(frame(now))], now)
        paths.append(log.path)
    assert len(set(paths)) == 3
    assert not log.due(3000)
    assert log.due(3000 + 60_000)
    log.rotate(70_000)
    log.append([encode(frame(9))], 70_000)
    assert segments(tmp_path)[:1] == paths[:1]
    assert len(segments(tmp_path)) == 4
    assert is_open(log.path)
    assert not is_open(paths[0])
    log.close()


def test_a_living_writer_s_tail_is_left_alone(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([encode(frame(1))], 1000)
    with log.path.open("ab") as file:
        file.write(b"half a fra")
    assert recover(tmp_path) == []
    size = log.path.stat().st_size
    log.close()
    assert recover(tmp_path) == [log.path]
    assert log.path.stat().st_size == size - 10


def test_a_full_disk_keeps_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    log.append([encode(frame(1))], 1000)
    write, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) == 1:
            return write(fd, data[:10])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        log.append([encode(frame(2))], 1000)
    monkeypatch.undo()
    log.append([encode(frame(3))], 1000)
    assert [f.time_ms for f in read_frames(log.path)[0]] == [1, 3]
    log.close()


@pytest.mark.parametrize(("policy", "status"), [("answer", 200), ("refuse", 503)])
def test_disk_full_by_policy(
    serve: Serve, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, policy: str, status: int
) -> None:
    monkeypatch.setenv("LOOPLINE_FAILPOINTS", "serving.log.before_write=ENOSPC@2")
    server = serve(table(1, live(bundle())), disk_full=policy)
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    answer = call(server.port, "POST", "/predict/risk", [EXAMPLE])
    assert answer.status == status
    if status == 503:
        assert (answer.error["code"], answer.headers["retry-after"]) == ("log-full", "1")
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    assert "loopline_log_errors_total 1" in call(server.port, "GET", "/metrics").body.decode()


@pytest.mark.parametrize("sync", ["off", "always"])
def test_kill_9_under_load_loses_nothing_that_was_answered(
    serve: Serve, bundle: Bundle, folder: Path, sync: str
) -> None:
    server = serve(table(1, live(bundle())), sync=sync)
    answered: set[str] = set()
    for _ in range(2):
        with Load(server.port, clients=6) as load:
            load.wait(200)
            os.kill(server.pids[0], signal.SIGKILL)
        answered |= {said for status, said in load.answers if status == 200}
        deadline = time.monotonic() + 30
        while not server.pids or call_quietly(server.port) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    server.stop()
    logged = [r.id for path in segments(folder / "log") for r in read_segment(path)[0] if r.status == 200]
    assert len(logged) == len(set(logged))
    assert len(answered) >= 400
    assert answered <= set(logged)
    assert recover(folder / "log") == []


def call_quietly(port: int) -> int:
    try:
        return call(port, "GET", "/v2/health/ready").status
    except OSError:
        return 0


def test_a_request_that_cannot_be_read_hides_none_after_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([encode(frame(n, text)) for n, text in enumerate((b"[1e400]", b"[" * 5000, b'[{"a":1}]'))], 1000)
    log.close()
    found, _ = read_segment(log.path)
    assert [(r.request, r.row, r.output) for r in found] == [
        ("r0", None, {"value": 2}), ("r1", None, {"value": 2}), ("r2", {"a": 1}, {"value": 2}),
    ]  # fmt: skip


def test_errors_are_logged_without_rows(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle())))
    call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "age": "secret"}])
    call(server.port, "POST", "/predict/nobody", [EXAMPLE])
    call(server.port, "POST", "/predict/risk", [EXAMPLE], {"x-loopline-route-key": "anna"})
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [(r.status, r.error, r.endpoint) for r in records] == [
        (400, "wrong-type", "risk"), (404, "no-endpoint", ""), (200, "", "risk"),
    ]  # fmt: skip
    assert records[0].row is None
    assert records[2].row == EXAMPLE
    assert records[2].route_key == "anna"
    assert records[2].latency_us > 0
    assert b"secret" not in json.dumps([repr(r) for r in records]).encode()


def test_failpoints_of_the_log_can_be_passed(tmp_path: Path) -> None:
    failpoints.arm("serving.log.before_rotate=EIO")
    try:
        log = opened(tmp_path, size=10)
        log.append([encode(frame(1))], 1000)
        with pytest.raises(OSError, match="Input/output"):
            log.append([encode(frame(2))], 1000)
        log.append([encode(frame(3))], 1000)
        log.close()
    finally:
        failpoints.arm("")
    assert [f.time_ms for path in segments(tmp_path) for f in read_frames(path)[0]] == [1, 3]
