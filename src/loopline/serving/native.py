"""The native runtime: a bundle whose parity chose the native form is scored in a child process.

The child imports what the worker must not (scikit-learn, LightGBM), may hold the interpreter and may die: it is started again
with the next request. One frame each way over its pipes: length (u32, little-endian) and msgpack.

    python -m loopline.serving.native FOLDER
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

TIMEOUT = 60.0
"""Seconds after which a child that does not answer is ended."""
Floats = npt.NDArray[np.float32]


class NativeRunner:
    """A child process that scores batches, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self, numbers: Floats | None, strings: npt.NDArray[np.object_] | None) -> Floats:
        """Raises RuntimeError where the child says so, dies or does not answer."""
        rows = len(numbers) if numbers is not None else len(strings) if strings is not None else 0
        request = (
            rows,
            b"" if numbers is None else np.ascontiguousarray(numbers, dtype="<f4").tobytes(),
            [] if strings is None else strings.tolist(),
        )
        with self._lock:
            child = self._child
            if child is None or child.poll() is not None:
                child = self._child = subprocess.Popen(
                    [sys.executable, "-m", "loopline.serving.native", str(self._folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                _write(child.stdin, request)
                error, shape, data = msgspec.msgpack.decode(_read(child.stdout.fileno(), time.monotonic() + TIMEOUT))
            except (OSError, EOFError, TimeoutError) as e:
                child.kill()
                child.wait()
                raise RuntimeError(f"the model's process ended or did not answer: {e}") from e
        if error:
            raise RuntimeError(error)
        return np.frombuffer(data, dtype="<f4").reshape(shape)

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            if self._child is not None:
                assert self._child.stdin is not None
                assert self._child.stdout is not None
                self._child.kill()
                self._child.wait()
                self._child.stdin.close()
                self._child.stdout.close()
                self._child = None


def _write(pipe: IO[bytes], value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    pipe.write(struct.pack("<I", len(data)) + data)
    pipe.flush()


def _read(fd: int, deadline: float | None = None) -> bytes:
    """One frame. Raises EOFError at the end, TimeoutError after the deadline."""

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

    return exactly(struct.unpack("<I", exactly(4))[0])


def main(folder: Path) -> None:
    """The child: scores frames until its input ends."""
    from loopline.packaging.runtime import Session

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the frames
    session = Session(folder)
    takes = session.manifest if session.cleaning is None else session.cleaning
    a, b = len(takes.numbers), len(takes.strings)
    while True:
        try:
            rows, numbers, strings = msgspec.msgpack.decode(_read(0))
        except EOFError:
            return
        try:
            output = session.score(
                np.frombuffer(numbers, dtype="<f4").reshape(rows, a), np.array(strings, dtype=object).reshape(rows, b)
            )
            _write(out, ("", output.shape, np.ascontiguousarray(output, dtype="<f4").tobytes()))
        except Exception as e:
            _write(out, (f"{type(e).__name__}: {e}", (), b""))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
