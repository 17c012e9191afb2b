"""One call over gRPC: who makes it, and what it may ask of the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc

from loopline.serving.access import Gate, caller
from loopline.serving.call import Codec, WaitingCall
from loopline.serving.engine import Engine
from loopline.serving.live import Live
from loopline.serving.metrics import Counters
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem
from loopline.serving.protocol import read_deadline


class Method(NamedTuple):
    """How a method is answered: the class of its request, and what answers one, with a message or its bytes.

    `streams`: the client sends as many requests as it likes, and each is answered, in their order. `tells`: its one answer comes
    as a stream of one.
    """

    kind: Any
    answers: Callable[[Caller, Any], Awaitable[Any]]
    streams: bool = False
    tells: bool = False


STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""gRPC's statuses of HTTP's."""
Services = dict[str, dict[str, Method]]
"""What answers, by service and method."""


class Refusal(Exception):
    """A call that the engine refused, logged and counted. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Caller:
    """The caller of one method. `headers` are the call's metadata, `left` the seconds that it waits (None: for ever)."""

    def __init__(
        self, engine: Engine, gate: Gate, headers: dict[bytes, bytes], peer: Peer, left: float | None = None
    ) -> None:
        self._engine = engine
        self._gate = gate
        self._headers = headers
        self._peer = peer
        self._deadline = 0.0 if left is None else time.perf_counter() + left
        self.live: Live = engine.live
        self.ready = self.live.epoch > 0 and not engine.draining
        self.alone = not engine.settings.control
        self.ask = engine.ask

    def allow(self, endpoint: str) -> None:
        """Raises `Problem` unless the caller may use that endpoint."""
        self._gate.allow(self.live, endpoint if endpoint in self.live.endpoints else None, self._headers, self._peer)

    def manage(self) -> None:
        """Raises `Problem` unless the caller may change what is served."""
        self._gate.manage(self.live, self._headers, self._peer)

    def served(self, *, failed: bool = False) -> list[str]:
        """The endpoints that the caller may use. Raises `Problem`."""
        return self._gate.served(self.live, self._headers, self._peer, failed=failed)

    def counters(self) -> Counters:
        """What the workers of this port have counted."""
        return self._engine.totals()[0]

    async def infer(self, endpoint: str, version: str, codec: Codec) -> bytes:
        """Has the engine answer; gives the bytes that the codec wrote. Raises `Refusal`."""
        call = WaitingCall(asyncio.get_running_loop().create_future())
        path = f"/v2/models/{endpoint}/versions/{version}/infer" if version else f"/v2/models/{endpoint}/infer"
        call.path, call.plain, call.codec = path.encode(), False, codec
        key = self._headers.get(b"x-loopline-route-key")
        if key is not None:
            call.key = key.decode("latin-1")
        try:
            self.allow(endpoint)
            route, missing = self.live.find(path)
            if missing is not None:
                raise missing
            if self._engine.tracer is not None:
                parent, state = self._headers.get(b"traceparent"), self._headers.get(b"tracestate")
                call.trace = self._engine.tracer.begin(parent, state)
            call.caller, call.deadline = caller(self._headers), self._deadline
            if (given := self._headers.get(b"x-loopline-deadline-ms")) is not None:
                read_deadline(call, given)
            if route is not None and route.endpoint.limit is not None:
                route.endpoint.limit.take(call.caller, time.monotonic())
        except Problem as problem:
            call.problem = problem
        self._engine.submit(call)
        status, body, _ = await call.done
        if status != 200:
            raise Refusal(status, body.decode())
        return body
