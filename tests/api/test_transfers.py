"""Files of runs over HTTP: in constant memory, by ranges, known by their ETag; cut off, and with a full disk."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import loopline as ll
from loopline import failpoints
from loopline.client import channel, remote
from loopline.errors import Unavailable
from loopline.hashing import digest_bytes, digest_file
from loopline.operations import Body
from loopline.packaging.pulling import pull

DATA = bytes(range(256)) * (3 << 12)
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def place(served: Any) -> str:
    """The address of a file of a new run."""
    run = served.platform.session().runs.create("a").id
    return f"/api/v1/projects/default/runs/{run}/artifacts/file.bin"


def incoming(served: Any) -> list[Path]:
    return list((served.platform.settings.workspace / "incoming").iterdir())


def until(holds: Callable[[], bool]) -> None:
    while not holds():  # the test's own timeout ends it
        time.sleep(0.01)


def test_a_range_of_a_file_is_given(served: Any, place: str) -> None:
    data = bytes(range(256)) * 2000
    digest = served.ask("PUT", place, body=data, headers=RAW).json["digest"]
    whole = served.ask("GET", place)
    assert (whole.status, whole.content) == (200, data)
    assert whole.headers["ETag"] == f'"{digest}"' == f'"{digest_bytes(data)}"'
    assert "Last-Modified" not in whole.headers, "it would tell when somebody else put the same bytes"
    for asked, start, stop in (("100-299", 100, 300), ("511000-", 511000, 512000), ("-7", 511993, 512000)):
        part = served.ask("GET", place, headers={"Range": f"bytes={asked}"})
        assert (part.status, part.content) == (206, data[start:stop])
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    assert served.ask("GET", place, headers={"Range": "bytes=600000-"}).status == 416
    same = {"Range": "bytes=0-9", "If-Range": whole.headers["ETag"]}
    assert served.ask("GET", place, headers=same).status == 206
    for other in ('"another"', "Thu, 01 Jan 2026 00:00:00 GMT"):
        assert served.ask("GET", place, headers={"Range": "bytes=0-9", "If-Range": other}).status == 200


def test_a_file_that_is_known_is_not_sent_again(served: Any, place: str) -> None:
    tag = served.ask("PUT", place, body=b"one", headers=RAW).json["digest"]
    reply = served.ask("GET", place, headers={"If-None-Match": f'"x", W/"{tag}"'})
    assert (reply.status, reply.content, reply.headers["ETag"]) == (304, b"", f'"{tag}"')
    served.ask("PUT", place, body=b"two", headers=RAW)
    assert served.ask("GET", place, headers={"If-None-Match": f'"{tag}"'}).content == b"two"


def test_bytes_that_the_project_has_are_not_sent_again(served: Any, tmp_path: Path) -> None:
    trace, file = tmp_path / "trace", tmp_path / "file"
    file.write_bytes(b"0123456789abcdef" * 65_536)
    failpoints.arm(f"incoming.add.write=trace:{trace}")
    with ll.connect(served.url) as session:
        one, two = session.runs.create("a").id, session.runs.create("b").id
        first = session.runs.put_artifact(one, "file", Body(file))
        assert trace.exists(), "it came"
        trace.unlink()
        again = session.runs.put_artifact(two, "other", Body(file))
        assert not trace.exists()
        assert session.runs.artifact(two, "other").read() == file.read_bytes()
        session.runs.delete(two)
        assert session.runs.put_artifact(two, "late", Body(file)).digest == first.digest == again.digest


def test_a_file_too_large_for_one_body_goes_in_parts(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PARTED", 2 << 20)
    monkeypatch.setattr(remote, "PART", 1 << 20)
    monkeypatch.setattr(channel, "PAUSES", ())
    trace, file = tmp_path / "trace", tmp_path / "file"
    file.write_bytes(os.urandom((2 << 20) + 1))
    uploads = served.platform.settings.workspace / "uploads"
    with ll.connect(served.url) as session:
        run = session.runs.create("a").id
        failpoints.arm("store.put.before_sync=ENOSPC")
        with pytest.raises(Unavailable) as full:
            session.runs.put_artifact(run, "file", Body(file))
        assert full.value.code == "disk-full"
        assert list(uploads.iterdir()) == [], "an upload that failed is given up"
        assert session.runs.artifacts(run) == ()
        failpoints.arm(f"tracking.upload.before_rename=trace:{trace}")
        kept = session.runs.put_artifact(run, "deep/file", Body(file))
        assert len(trace.read_text().splitlines()) == 3
        assert (kept.path, kept.digest, kept.size) == ("deep/file", digest_file(file), (2 << 20) + 1)
        assert session.runs.artifact(run, "deep/file").read() == file.read_bytes()


def test_a_version_of_large_files_is_pulled(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "IN_MEMORY", 1000)
    with ll.connect(served.url) as session:
        run = session.runs.create("a").id
        session.runs.put_artifact(run, "model/weights.bin", Body(DATA[:500_000]))
        session.models.add("fraud", f"run:{run}", "model")
        pull(session.models, "fraud", 1, tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").read_bytes() == DATA[:500_000]


def test_an_upload_that_is_cut_off_leaves_nothing(served: Any, place: str) -> None:
    before = len(served.platform.session().ledger.entries())
    for chunked in (False, True):
        sent = "Transfer-Encoding: chunked" if chunked else "Content-Length: 900000"
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(
                f"PUT {place} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n{sent}\r\n\r\n".encode()
                + (b"7a120\r\n" if chunked else b"")
                + bytes(400_000)
            )
            until(lambda: incoming(served) != [])
        until(lambda: incoming(served) == [])
    assert served.ask("GET", place).code == "no-artifact"
    assert len(served.platform.session().ledger.entries()) == before


def test_a_body_is_what_comes_whatever_the_caller_says_of_a_file(served: Any, place: str) -> None:
    secret = served.platform.settings.workspace / "incoming" / "1-secret"
    secret.write_bytes(b"somebody else's")
    for kind in (RAW, {"Content-Type": "application/json"}):
        told = {**kind, "x-loopline-body": secret.name, "x-loopline-body-size": "15"}
        reply = served.ask("PUT", place, body=b"mine", headers=told)
        assert (reply.status, reply.json["digest"]) == (200, digest_bytes(b"mine"))
    assert secret.read_bytes() == b"somebody else's"
    secret.unlink()


def test_a_full_disk_is_told_and_leaves_nothing(served: Any, place: str) -> None:
    for name, sent in (("incoming.add.write", bytes(1 << 20)), ("store.take.before_sync", b"small")):
        failpoints.arm(f"{name}=ENOSPC")
        reply = served.ask("PUT", place, body=sent, headers=RAW)
        assert (reply.status, reply.code) == (503, "disk-full")
    failpoints.arm("")
    assert incoming(served) == []
    assert served.ask("GET", place).code == "no-artifact"


def memory(pid: int, kind: str) -> int:
    """The memory of a process in bytes: "VmRSS" what it has, "VmHWM" the most since `forget`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))


def forget(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def below(pid: int) -> list[int]:
    """A process and those that it started."""
    children = (child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split())
    return [pid, *(found for child in children for found in below(int(child)))]


@contextmanager
def up(folder: Path, **more: str) -> Iterator[tuple[str, int]]:
    """A workspace in service: its address and the number of its process."""
    own = {"LOOPLINE_WORKSPACE": str(folder / "w"), "LOOPLINE_PORT": "0", "XDG_STATE_HOME": str(folder)}
    env = {**os.environ, **own, **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "loopline", "up"], env=env, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert process.stdout is not None
        url = next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        yield url.rstrip(".,/"), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    """A server, and the folder of its workspace."""
    folder = tmp_path_factory.mktemp("up")
    with up(folder) as (url, pid):
        yield url, pid, folder / "w"


@pytest.fixture(scope="module")
def viewer(server: tuple[str, int, Path]) -> str:
    """The token of somebody who may only look."""
    with ll.connect(server[0]) as session:
        session.access.add_principal("viewer", kind="user")
        session.access.grant("viewer", "viewer")
        return session.access.create_token(principal="viewer").secret


@pytest.mark.parametrize("size", [200_000_000, pytest.param(1_000_000_000, marks=pytest.mark.soak)])
def test_a_large_file_goes_up_and_down_in_constant_memory(
    server: tuple[str, int, Path], size: int, tmp_path: Path
) -> None:
    url, pid, _ = server
    file = tmp_path / "file"
    with file.open("wb") as out:
        for number in range(size // 1_000_000):
            out.write(number.to_bytes(4, "big") * 250_000)
    processes = [os.getpid(), *below(pid)]
    assert len(processes) >= 3, "this one, the control process and a worker"
    with ll.connect(url) as session:
        run = session.runs.create("a").id
        session.runs.put_artifact(run, "warm", Body(DATA))
        before = {}
        for process in processes:
            forget(process)
            before[process] = memory(process, "VmRSS")
        kept = session.runs.put_artifact(run, "large/file.bin", Body(file))
        got = session.runs.artifact(run, "large/file.bin")
        grown = {process: memory(process, "VmHWM") - before[process] for process in processes}
        assert kept.size == size
        assert kept.digest == digest_file(file) == digest_file(Path(got.path))
    assert max(grown.values()) < 64_000_000, grown


def test_a_slow_reader_is_waited_for_and_not_read_ahead(server: tuple[str, int, Path], tmp_path: Path) -> None:
    url, pid, _ = server
    with ll.connect(url) as session:
        run = session.runs.create("a").id
        session.runs.put_artifact(run, "file", Body(bytes(100_000_000)))
    processes = below(pid)
    before = {}
    for process in processes:
        forget(process)
        before[process] = memory(process, "VmRSS")
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", f"/api/v1/projects/default/runs/{run}/artifacts/file")
    answer = connection.getresponse()
    assert answer.read(1 << 20) == bytes(1 << 20)
    with ll.connect(url) as session:  # the server is at work on others meanwhile
        for _ in range(50):
            session.runs.show(run)
    assert max(memory(process, "VmHWM") - before[process] for process in processes) < 64_000_000
    assert len(answer.read()) == 99_000_000 - 48_576
    connection.close()


def asked(url: str, method: str, target: str, body: bytes, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request(method, target, body, headers)
    return connection.getresponse()


def test_a_large_body_of_any_kind_comes_through_a_worker(server: tuple[str, int, Path]) -> None:
    url, _, workspace = server
    with ll.connect(url) as session:
        run = session.runs.create("a").id
        # The kind of a table is in its file's name, which goes with it.
        table = b"a,b\n" + b"1,2\n" * 400_000
        assert session.datasets.add("large", Body(table, name="large.csv")).rows == 400_000
        params = {f"p{n}": "x" * 30_000 for n in range(60)}
        kept = session.runs.params(run, params)
        assert kept.params == params
        proxied = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/file.json"
        for data in (DATA, os.urandom(1 << 20), os.urandom((9 << 20) + 1), b""):
            assert asked(url, "PUT", proxied, data, **{"Content-Type": "application/json"}).status == 200
            assert session.runs.artifact(run, "file.json").read() == data
    too_large = asked(url, "POST", "/api/2.0/mlflow/runs/log-batch", b" " * ((32 << 20) + 1))
    assert too_large.status == 413 or b"larger" in too_large.read()
    assert list((workspace / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "target", ["/api/v1/projects/default/runs/{}/artifacts/file", "/api/2.0/mlflow/runs/log-batch"]
)
def test_no_byte_is_taken_of_whom_may_not_send_it(server: tuple[str, int, Path], target: str) -> None:
    url, _, workspace = server
    host, _, port = url.removeprefix("http://").partition(":")
    with ll.connect(url) as session:
        path = target.format(session.runs.create("a").id)
    method = "PUT" if "artifacts" in path else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 10.0.0.9\r\nContent-Length: 9000000\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + bytes(100_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        assert list((workspace / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("operation", "target"),
    [
        ("runs.put_artifact", "/api/v1/projects/default/runs/{}/artifacts/file"),
        ("runs.put_artifact", "/api/2.0/mlflow-artifacts/artifacts/0/{}/artifacts/file"),
        ("runs.put_part", "/api/2.0/mlflow-artifacts/mpu/part/0/{}/artifacts/file?upload_id=x&part_number=1"),
    ],
)
@pytest.mark.parametrize("told", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
def test_nor_of_whom_lacks_the_role(
    server: tuple[str, int, Path], viewer: str, operation: str, target: str, told: str
) -> None:
    url, _, workspace = server
    host, _, port = url.removeprefix("http://").partition(":")
    with ll.connect(url) as session:
        path = target.format(session.runs.create("a").id)
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {viewer}\r\n{told}\r\n\r\n"
        before = len(session.ledger.entries(principal="viewer", limit=1000))
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 403")
            assert list((workspace / "incoming").iterdir()) == []
        found = session.ledger.entries(principal="viewer", limit=1000)
        assert (found[-1].operation, found[-1].record) == (operation, "denied")
        assert len(found) == before + 1


def test_an_upload_through_a_worker_that_is_cut_off_leaves_nothing(server: tuple[str, int, Path]) -> None:
    url, _, workspace = server
    host, _, port = url.removeprefix("http://").partition(":")
    with ll.connect(url) as session:
        run = session.runs.create("a").id
        path = f"/api/v1/projects/default/runs/{run}/artifacts/file"
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: x/y\r\nContent-Length: 9000000\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + bytes(4_000_000))
            until(lambda: list((workspace / "incoming").iterdir()) != [])
        until(lambda: list((workspace / "incoming").iterdir()) == [])
        assert session.runs.artifacts(run) == ()


def test_a_disk_that_is_full_for_a_worker_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path, LOOPLINE_FAILPOINTS="incoming.add.write=ENOSPC@2") as (url, _), ll.connect(url) as session:
        run = session.runs.create("a").id
        answer = asked(url, "PUT", f"/api/v1/projects/default/runs/{run}/artifacts/file", bytes(3 << 20), **RAW)
        assert (answer.status, b"disk-full" in answer.read()) == (503, True)
        assert session.runs.artifacts(run) == ()
        assert list((tmp_path / "w" / "incoming").iterdir()) == []
