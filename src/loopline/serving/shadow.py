"""Shadow variants: scored on copies of answered requests, when no caller waits, and given up first under load."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from loopline.serving.call import Call
from loopline.serving.contract import Row
from loopline.serving.live import LiveEndpoint, LiveVariant
from loopline.serving.log import Frame, encode
from loopline.serving.metrics import Counters
from loopline.serving.threads import ModelThreads

logger = logging.getLogger("loopline.serving")


class Copy:
    """Rows that the shadow variants of an endpoint shall score, of a call that is answered."""

    __slots__ = ("call", "endpoint", "time_ms")

    def __init__(self, call: Call, endpoint: LiveEndpoint, time_ms: int) -> None:
        self.call = call
        self.endpoint = endpoint
        self.time_ms = time_ms


class Shadows:
    """The copies that wait, at most `limit`. `idle` says that no caller waits; `write` takes frames for the log."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ModelThreads,
        counters: Counters,
        *,
        limit: int,
        idle: Callable[[], bool],
        write: Callable[[list[bytes]], bool],
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._counters = counters
        self._limit = limit
        self._idle = idle
        self._write = write
        self._waiting: deque[Copy] = deque()
        self._running = False

    def add(self, call: Call, time_ms: int) -> None:
        """Takes a copy of an answered call, or drops it where too many wait."""
        assert call.endpoint is not None
        if len(self._waiting) >= self._limit:
            for variant in call.endpoint.shadows:
                self._count(call.endpoint, variant, "dropped")
            return
        self._waiting.append(Copy(call, call.endpoint, time_ms))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if not self._waiting:
            self._running = False
        elif not self._idle():
            self._loop.call_later(0.002, self._next)
        else:
            copy = self._waiting.popleft()
            assert copy.call.rows is not None
            for variant in copy.endpoint.shadows:
                rows = copy.call.rows.rows if variant.pick is None else [variant.pick(r) for r in copy.call.rows.rows]
                if variant.served.in_loop:
                    self._record(copy, variant, *_score(variant, rows))
                else:
                    self._later(copy, variant, rows)
            self._loop.call_soon(self._next)

    def _later(self, copy: Copy, variant: LiveVariant, rows: list[Row]) -> None:
        taken = self._threads.submit(
            variant.served, lambda: _score(variant, rows), lambda found: self._record(copy, variant, *found)
        )
        if not taken:
            self._count(copy.endpoint, variant, "dropped")

    def _record(self, copy: Copy, variant: LiveVariant, output: list[list[float]], seconds: float) -> None:
        """Logs what a shadow variant said, under the ids of the predictions that were answered."""
        self._count(copy.endpoint, variant, "scored" if output else "failed")
        objects = variant.render(copy.call.request[:-8], copy.call.first, output)
        frame = Frame(
            time_ms=copy.time_ms,
            request=copy.call.request,
            endpoint=copy.endpoint.name,
            parts=[variant.part],
            status=200 if output else 500,
            latency_us=int(seconds * 1e6),
            form="none",
            sent=b"",
            answered=f"[{','.join(objects)}]".encode(),
            route_keys=copy.call.keys,
            error="" if output else "model-failed",
        )
        self._write([encode(frame)])

    def _count(self, endpoint: LiveEndpoint, variant: LiveVariant, result: str) -> None:
        key = (endpoint.name, variant.name, result)
        self._counters.shadow[key] = self._counters.shadow.get(key, 0) + 1


def _score(variant: LiveVariant, rows: list[Row]) -> tuple[list[list[float]], float]:
    """The output of a shadow variant, empty where it fails, and the seconds that it took."""
    start = time.perf_counter()
    try:
        output = variant.served.check(variant.served.run(rows), len(rows))
        found: list[list[float]] = output.tolist() if np.isfinite(output).all() else []
    except Exception as e:
        logger.warning("The shadow %s failed: %s", variant.model, e)
        found = []
    return found, time.perf_counter() - start
