"""Workers that are actors of a Ray cluster, where this Loopline is installed on each node; Ray starts a lost one again.

https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html
"""

from __future__ import annotations

import contextlib
import io
import socket
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from loopline.errors import Unavailable
from loopline.ports.executor import LOST, Work, heard, lost, opened, said


def _ray() -> Any:
    try:
        import ray
    except ImportError as e:
        raise Unavailable(
            "Ray is not installed.", code="no-extra", hint="Install it: pip install 'loopline[ray]'"
        ) from e
    return ray


class RayCluster:
    """A `loopline.ports.executor.Executor`. `address` is a cluster's, as `ray.init` takes it; empty: one of this machine's own."""

    def __init__(self, address: str = "") -> None:
        self.address = address

    def start(self, task: str, given: bytes, files: Path) -> RayWorkers:
        """An actor for each processor of the cluster. Raises `Unavailable` where no cluster answers."""
        ray = _ray()
        if not ray.is_initialized():
            try:
                self._reach(ray)
                ray.init(
                    address=self.address or "local",  # else Ray looks for one that may have ended
                    log_to_driver=False,
                    logging_level="error",
                    **({} if self.address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}),
                )
            except (OSError, ValueError, RuntimeError) as e:
                raise Unavailable(
                    f"No Ray cluster answers at {self.address or 'this machine'}: {e}",
                    code="no-cluster",
                    hint="`ray status` says whether it runs; the setting `executor` names it.",
                ) from e
        width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        return RayWorkers(ray, width, task, given, packed(files))

    def _reach(self, ray: Any) -> None:
        """Raises OSError where nobody listens: Ray itself would try for minutes."""
        host, _, port = self.address.rpartition("://")[2].rpartition(":")
        if port.isdigit():
            if host in ("127.0.0.1", "localhost"):  # by which Ray means the machine's address in its network
                host = ray.util.get_node_ip_address()
            socket.create_connection((host, int(port)), timeout=10).close()


class RayWorkers:
    """The actors of one task."""

    def __init__(self, ray: Any, width: int, task: str, given: bytes, content: bytes) -> None:
        self.width = width
        self._ray = ray
        self._next = 0
        kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=LOST - 1)(Actor)
        self._content = ray.put(content)  # once for all actors, and for those that are started again
        self._actors = [kind.remote(task, given, [self._content]) for _ in range(width)]

    def submit(self, piece: bytes) -> RayHandle:
        """Has a piece done by the actor whose turn it is."""
        actor = self._actors[self._next % len(self._actors)]
        self._next += 1
        return RayHandle(self._ray, actor.do.remote(piece))

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._actors:
            with contextlib.suppress(Exception):  # it is gone already
                self._ray.kill(actor)


class RayHandle:
    """A piece that an actor does."""

    def __init__(self, ray: Any, place: Any) -> None:
        self._ray = ray
        self._place = place

    def result(self) -> bytes:
        """Waits for what came of it."""
        try:
            answer = self._ray.get(self._place)
        except self._ray.exceptions.RayError as e:
            raise lost() from e
        return heard(answer)


class Actor:
    """What runs in the cluster: a task, opened with its first piece."""

    def __init__(self, task: str, given: bytes, content: list[Any]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loopline-")
        with tarfile.open(fileobj=io.BytesIO(_ray().get(content[0]))) as tar:
            tar.extractall(self._folder.name, filter="data")
        self._open = partial(opened, task, given, Path(self._folder.name))
        self._work: Work | None = None

    def do(self, piece: bytes) -> bytes:
        """What came of a piece, as `heard` reads it."""
        return said(partial(self._done, piece))

    def _done(self, piece: bytes) -> bytes:
        if self._work is None:
            self._work = self._open()
        return self._work(piece)


def packed(folder: Path) -> bytes:
    """A folder's content as an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()
