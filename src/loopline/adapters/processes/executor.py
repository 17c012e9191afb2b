"""Workers in processes of this machine: each has a thread here that hands it pieces, and a successor when it is lost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from loopline.adapters.processes.worker import read, write
from loopline.ports.executor import LOST, heard, lost


class Processes:
    """A `loopline.ports.executor.Executor`: `width` processes."""

    def __init__(self, width: int) -> None:
        self.width = width

    def start(self, task: str, given: bytes, files: Path) -> ProcessWorkers:
        """Workers that start with their first pieces."""
        return ProcessWorkers(msgspec.msgpack.encode((task, given, str(files.absolute()))), self.width)


class ProcessWorkers:
    """The processes of one task."""

    def __init__(self, opening: bytes, width: int) -> None:
        self.width = width
        self._opening = opening
        self._threads = ThreadPoolExecutor(width, "work")
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._living: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, piece: bytes) -> Future[bytes]:
        """Has a piece done by the next process that has nothing to do."""
        return self._threads.submit(self._do, piece)

    def close(self) -> None:
        """Ends the processes, and waits until they have ended."""
        with self._lock:
            self._closed = True
            for child in self._living:
                child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in self._living:
            self._end(child)

    def _do(self, piece: bytes) -> bytes:
        for _ in range(LOST):
            child = getattr(self._mine, "child", None) or self._begin()
            try:
                assert child.stdin is not None
                assert child.stdout is not None
                write(child.stdin, piece)
                answer = read(child.stdout)
            except (OSError, EOFError):
                self._mine.child = None
                with self._lock:
                    self._living.discard(child)
                self._end(child)
                continue
            return heard(answer)
        raise lost()

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise lost()
            child = subprocess.Popen(
                [sys.executable, "-m", "loopline.adapters.processes.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._living.add(child)
        self._mine.child = child
        assert child.stdin is not None
        with contextlib.suppress(OSError):  # it ended at once, which its first piece will tell
            write(child.stdin, self._opening)
        return child

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):  # what was not written yet cannot be any more
                if pipe is not None:
                    pipe.close()
