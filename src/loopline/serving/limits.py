"""How often one caller may ask: a token bucket each, over all the workers of a port.

Workers count in memory that they share, each in places that it alone writes, so that nobody waits for anybody: what a caller has
used up is the sum of what all of them counted. A full bucket is seen from when that sum, less the time, was least (a leaky bucket's
level is what came in, less what ran out, above its lowest point so far). Of two workers that look in the same instant neither sees
the other's request, so in any span of time a caller gets burst + rate x seconds, and at most one request more for each further
worker.
"""

from __future__ import annotations

import fcntl
import math
import mmap
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np

from loopline.errors import Unavailable
from loopline.serving.problems import Problem

CALLERS = 4096
"""Callers of limited endpoints that are told apart at once; a further one takes the place of the one that asked least."""
_HEAD = 8
"""Bytes of the number of workers, before the callers' names and their counts."""


def _size(workers: int) -> int:
    return _HEAD + CALLERS * (8 + 16 * workers)


def share(path: Path, workers: int) -> None:
    """Makes the file in which the workers of a port count, with nothing counted yet."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        path.chmod(0o600)
        # Written and not only claimed: where the disk is full by then, memory that is no file yet would end the worker.
        file.write(workers.to_bytes(8, "little") + bytes(_size(workers) - _HEAD))


class Counts:
    """What callers have used up, as one worker sees and counts it. `path` is the file made by `share`; None: it counts alone.

    A row a caller: what each worker counted, in seconds that it takes until the bucket has that much again, and the least of the
    sum, less the time, that each worker has seen.
    """

    def __init__(self, path: Path | None = None, worker: int = 0) -> None:
        self._file: BinaryIO | None = None
        if path is None:
            self.workers, memory = 1, memoryview(bytearray(_size(1)))
        else:
            self._file = path.open("r+b")
            self.workers = int.from_bytes(self._file.read(8), "little")
            memory = memoryview(mmap.mmap(self._file.fileno(), _size(self.workers)))
        self.worker = worker
        names = _HEAD + 8 * CALLERS
        self.names = memory[_HEAD:names].cast("Q")
        self.values = memory[names:].cast("d")

    def place(self, name: int, now: float) -> int:
        """The row of a caller. It is the caller's own until more than `CALLERS` ask, as `names` tells."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # a worker looks once for a caller, and then knows
        try:
            names = np.frombuffer(self.names, np.uint64)
            if len(found := np.flatnonzero(names == name)):
                return int(found[0])
            if len(free := np.flatnonzero(names == 0)):
                row = int(free[0])
            else:
                rows = np.asarray(self.values).reshape(CALLERS, 2, self.workers)
                used = rows[:, 0].sum(axis=1) - now
                row = int((used - np.minimum(rows[:, 1].min(axis=1), used)).argmin())
            self.names[row] = name
            return row
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)


class Buckets:
    """The buckets of one endpoint's callers."""

    def __init__(self, rate: float, burst: int, counts: Counts, endpoint: str = "") -> None:
        """`rate` requests a second, and `burst` at once after a pause (0: a second's worth)."""
        self.rate = rate
        burst = burst or max(1, math.ceil(rate))
        self._counts = counts
        self._of = f"{endpoint}\0{rate!r}\0{burst}\0"  # another policy is another bucket
        self._each = 1 / rate
        self._room = (burst - 1 + 0.001) / rate  # the thousandth is for rounding
        self._places: dict[str, tuple[int, int]] = {}

    def take(self, caller: str, now: float) -> None:
        """Takes a token; `now` in seconds, of a clock that all workers share and that never goes back.

        Raises the 429 `Problem` where there is none.
        """
        counts = self._counts
        values, workers = counts.values, counts.workers
        known = self._places.get(caller)
        if known is None or counts.names[known[0]] != known[1]:
            name = int.from_bytes(blake2b(f"{self._of}{caller}".encode(), digest_size=8).digest(), "little") or 1
            known = self._places[caller] = (counts.place(name, now), name)
        at = 2 * workers * known[0]
        used = sum(values[at : at + workers]) - now
        level = used - min(values[at + workers : at + 2 * workers])
        if level < 0:  # the bucket is full
            values[at + workers + counts.worker] = used
            level = 0.0
        if level > self._room:
            raise too_often(self.rate, level - self._room)
        values[at + counts.worker] += self._each


def too_often(rate: float, wait: float) -> Problem:
    """The 429 that says when to come again."""
    seconds = max(1, math.ceil(wait))
    return Problem(
        429,
        Unavailable(
            f"This caller asks more often than {rate:g} times a second, which is this endpoint's limit.",
            code="rate-limit",
            hint=f"Try again in {seconds} s, or send more rows in each request.",
            limit=rate,
        ),
        ((b"retry-after", b"%d" % seconds),),
    )


def too_late() -> Problem:
    """The 503 of a request whose own deadline passed before any work was done for it."""
    return Problem(
        503,
        Unavailable(
            "The deadline of the request passed before its turn came; nothing was done.",
            code="deadline-passed",
            hint="Give it more time (x-loopline-deadline-ms), or come again when there is less to do.",
        ),
    )
