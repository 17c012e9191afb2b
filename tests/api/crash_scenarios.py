"""Servers that are killed: the file that says who serves a workspace names one whole, or none; an upload is whole, or not there."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path

from loopline.api.server import ApiServer
from loopline.api.up import Address, address_of, note
from loopline.app import Platform
from loopline.hashing import digest_bytes
from loopline.store.service import Store

SENT = bytes(range(256)) * (3 << 12)


def work(folder: Path) -> None:
    """Two servers after each other."""
    for number in range(2):
        note(folder, Address(url=f"http://127.0.0.1:{8400 + number}", pid=os.getppid(), started=number))


def check(folder: Path, finished: bool) -> None:
    """What can be read names a server; after a whole run, the last."""
    found = address_of(folder)
    assert found is None or found.url in ("http://127.0.0.1:8400", "http://127.0.0.1:8401")
    if finished:
        assert found is not None
        assert found.started == 1


def _open(folder: Path) -> Platform:
    return Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"))


def upload(folder: Path) -> None:
    """A file of 3 MB for a run, over HTTP."""
    platform = _open(folder)
    run = platform.session().runs.create("a").id
    with ApiServer(platform) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("PUT", f"/api/v1/projects/default/runs/{run}/artifacts/file", SENT, headers)
        assert connection.getresponse().status == 200
        connection.close()
    platform.close()


def relayed_upload(folder: Path) -> None:
    """The same as a worker sends it, which has it in a file."""
    platform = _open(folder)
    run = platform.session().runs.create("a").id
    control = folder / "c.sock"
    with ApiServer(platform, control=control), socket.socket(socket.AF_UNIX) as worker:
        file = folder / "w" / "incoming" / f"{os.getpid()}-0"
        told = f"x-loopline-peer: 127.0.0.1:1\r\nx-loopline-peer-uid: {os.getuid()}\r\nx-loopline-body: {file.name}"
        worker.connect(str(control))
        worker.sendall(
            f"PUT /api/v1/projects/default/runs/{run}/artifacts/file HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
            f"content-type: application/octet-stream\r\ncontent-length: 71\r\n{told}\r\n\r\n".encode()
        )
        assert worker.recv(65536).startswith(b"HTTP/1.1 100")
        file.write_bytes(SENT)
        worker.sendall(digest_bytes(SENT).encode())
        assert worker.recv(65536).startswith(b"HTTP/1.1 200")
    platform.close()


def check_upload(folder: Path, finished: bool) -> None:
    """The file is whole or not there, and the next server sweeps what was coming in."""
    if not (folder / "w" / "loopline.db").exists():
        assert not finished
        return
    platform = _open(folder)
    with contextlib.closing(platform), ApiServer(platform):
        runs = platform.session().runs
        found = [(run.id, file) for run in runs.list().runs for file in runs.artifacts(run.id)]
        assert all(runs.artifact(run, file.path).read() == SENT for run, file in found)
        assert found or not finished
        assert list((folder / "w" / "incoming").iterdir()) == []
        with platform.database.begin(lazy=True) as tx:
            assert Store(tx, platform.blobs).damages() == []


SCENARIOS = {
    "server file": (work, check),
    "upload": (upload, check_upload),
    "relayed upload": (relayed_upload, check_upload),
}
ROOMS = {"upload": ("api", "incoming", "store"), "relayed upload": ("api", "store")}
