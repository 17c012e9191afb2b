"""Models in child processes: what may hold the interpreter, leak, never return or crash does so there, and alone.

The child imports what the worker must not (scikit-learn, LightGBM, a user's own code). It gets no secret of the environment, and
bounds: a batch that takes longer than `timeout` ends it, and it cannot have more memory than `memory`. When it ends, its
successor is started at once; one that ends again and again is started ever more rarely. One frame each way over its pipes: length
(u32, little-endian) and msgpack; its first one says that the model is loaded, or why not. Its program is `packaging.scoring`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loopline.errors import LooplineError, from_dict
from loopline.packaging.records import Opening
from loopline.ports.runtime import Floats, ModelDown, ModelSlow, Strings

STALL = 50.0
"""Seconds that a child which loads its model may do nothing in; what it may compute meanwhile, `Opening.start` says."""
_MOVED = 0.1
"""Seconds of computing that show that a child does something."""
FAILURES = 3
"""So many ends without an answer between them, and the next child is waited for..."""
PAUSE = (1.0, 30.0)
"""...so many seconds, twice as many each time, and at most."""
_SAID, _ROW = 1 << 16, 1 << 13
"""Bytes that an answer has at most: what it says, and what each row takes."""
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")


def environment() -> dict[str, str]:
    """What a child is told of this process's environment: no secret of it, and to keep to one thread."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


class ChildRuntime:
    """A child process that scores batches, one at a time. A `loopline.ports.runtime.Runtime`."""

    def __init__(self, folder: Path, opening: Opening) -> None:
        """Starts the child; returns when its model is loaded.

        Raises what the child found amiss with the bundle, `ModelDown`, and `ModelSlow` where it does not come to an end.
        """
        self._folder = folder
        self._opening = opening
        self._turn = threading.Lock()
        self._closed = False
        self._failures = 0
        self._until = 0.0
        self._loaded = False
        self._child = self._start()
        try:
            self._await_loaded()
        except BaseException:
            self.close()
            raise

    def run(self, numbers: Floats | None, strings: Strings | None) -> Floats:
        rows = len(numbers) if numbers is not None else len(strings) if strings is not None else 0
        request = (
            rows,
            b"" if numbers is None else np.ascontiguousarray(numbers, dtype="<f4").tobytes(),
            [] if strings is None else strings.tolist(),
        )
        with self._turn:
            self._ready()
            deadline = time.monotonic() + self._opening.timeout
            try:
                self._send(request, deadline)
                error, shape, data = self._read(deadline, _SAID + rows * _ROW)
            except TimeoutError as e:
                self._restart()
                raise ModelSlow(f"no answer in {self._opening.timeout:g} s; its process was ended") from e
            except (OSError, EOFError, ValueError, msgspec.MsgspecError) as e:
                raise ModelDown(f"its process ended ({self._restart()})") from e
            self._failures = 0
        if error:
            raise RuntimeError(error)
        return np.frombuffer(data, dtype="<f4").reshape(shape)

    def close(self) -> None:
        self._closed = True
        self._child.kill()  # also where a call waits for it
        with self._turn:
            self._end()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it never had a child
            self.close()

    def _ready(self) -> None:
        """A child whose model is loaded. Raises `ModelDown`."""
        if self._closed:
            raise ModelDown("it is not served any more")
        if self._loaded:
            if self._child.poll() is None:
                return
            self._restart()  # it ended by itself, between two calls
        if time.monotonic() < self._until:
            raise ModelDown(f"its process ended {self._failures} times; it is started again in a while")
        if self._child.poll() is not None:
            self._child = self._start()
        try:
            self._await_loaded()
        except LooplineError as e:
            self._restart()
            raise ModelDown(str(e)) from e

    def _await_loaded(self) -> None:
        self._await_word()
        try:
            error = msgspec.convert(self._read(time.monotonic() + STALL), dict[str, Any] | None)
        except (OSError, EOFError, TimeoutError, ValueError, msgspec.MsgspecError) as e:
            raise ModelDown(f"its process did not load it ({self._restart()})") from e
        if error is not None:
            raise from_dict(error)
        self._loaded = True

    def _await_word(self) -> None:
        """Waits until the child says something, or ends. Raises `ModelSlow`, with the child ended, where it computes too long.

        What it has computed counts, and not the time: where others use the machine, too, a model loads later and by the same work.
        """
        assert self._child.stdout is not None
        limit, computed = self._opening.start, 0.0
        begun = moved = time.monotonic()
        while not select.select([self._child.stdout.fileno()], [], [], 0.5)[0]:
            now = time.monotonic()
            seconds = computed_by(self._child.pid)
            seconds = now - begun if seconds is None else seconds
            if seconds - computed >= _MOVED:
                computed, moved = seconds, now
            if computed > limit:
                self._restart()
                raise ModelSlow(
                    f"its process had not loaded it after {computed:.0f} s of computing, {limit:g} are allowed"
                )
            if now - moved > STALL:
                self._restart()
                raise ModelSlow(f"its process had not loaded it, and did nothing for {STALL:.0f} s")

    def _start(self) -> subprocess.Popen[bytes]:
        self._loaded = False
        child = subprocess.Popen(
            [sys.executable, "-m", "loopline.packaging.scoring", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        self._child = child
        with contextlib.suppress(OSError, TimeoutError):  # it ended at once, which reading from it will tell
            self._send(self._opening, time.monotonic() + STALL)
        return child

    def _restart(self) -> str:
        """Ends the child and starts the next one, or leaves that for later; says how the child ended."""
        how = self._end()
        self._loaded = False
        self._failures += 1
        if self._failures < FAILURES:
            if not self._closed:
                self._child = self._start()
        else:
            pause = min(PAUSE[0] * 2 ** (self._failures - FAILURES), PAUSE[1])
            self._until = time.monotonic() + pause
        return how

    def _end(self) -> str:
        child = self._child
        try:
            child.wait(0.2)  # how it ends by itself says more
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):  # what was not written yet cannot be any more
                if pipe is not None:
                    pipe.close()
        code = child.returncode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _send(self, value: Any, deadline: float) -> None:
        """One frame. Raises OSError where the child is gone, TimeoutError where it does not take it."""
        assert self._child.stdin is not None
        fd, left = self._child.stdin.fileno(), memoryview(frame(value))
        while left:
            if not select.select([], [fd], [], max(0.0, deadline - time.monotonic()))[1]:
                raise TimeoutError("not taken")
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(fd, left) :]

    def _read(self, deadline: float, most: int = 1 << 20) -> Any:
        """What the child says. Raises EOFError, TimeoutError, or ValueError for what no child of ours says."""
        assert self._child.stdout is not None
        return msgspec.msgpack.decode(read(self._child.stdout.fileno(), deadline, most))


def computed_by(pid: int) -> float | None:
    """Seconds that a process and those that it started have computed; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # its own, and of those that ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += sum(computed_by(int(child)) or 0.0 for child in (task / "children").read_text().split())
    except (OSError, ValueError, IndexError):
        return None
    return found


def frame(value: Any) -> bytes:
    """A value as it goes over a pipe."""
    data = msgspec.msgpack.encode(value)
    return struct.pack("<I", len(data)) + data


def read(fd: int, deadline: float | None = None, most: int = 1 << 32) -> bytes:
    """One frame. Raises EOFError at the end, TimeoutError after the deadline, ValueError for one of more than `most` bytes."""

    def exactly(count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            if deadline is not None and not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("no answer")
            part = os.read(fd, min(count - len(found), 1 << 20))
            if not part:
                raise EOFError("closed")
            found += part
        return bytes(found)

    (size,) = struct.unpack("<I", exactly(4))
    if size > most:
        raise ValueError(f"{size} bytes are more than an answer has")
    return exactly(size)
