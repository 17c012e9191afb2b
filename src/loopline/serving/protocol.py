"""A connection with a short way for inference.

A request for an inference path, the first in flight on its connection, goes from the parser straight into the engine and its
answer straight to the transport: no scope, no task, no events. Whatever else comes, pipelined requests too, takes uvicorn's
ordinary way to the ASGI app, which answers the same. Bounds of size and time are the connection's; keep-alive and shutdown stay
uvicorn's.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from loopline.errors import Invalid
from loopline.serving.access import Gate, caller, unique
from loopline.serving.call import Call, Headers
from loopline.serving.connection import BoundedProtocol, head
from loopline.serving.engine import Engine
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem, too_large


class _Nobody:
    """Stands where uvicorn wakes the task of a request; there is none."""

    def set(self) -> None:
        pass


class ShortCall(Call):
    """A request on the short way; for uvicorn, the connection's current cycle."""

    message_event: ClassVar[Any] = _Nobody()
    response_complete = False
    disconnected = False
    whole = False
    """Whether all of the request is there."""
    size = 0

    def __init__(self, protocol: InferenceProtocol, keep_alive: bool) -> None:
        self.protocol = protocol
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Writes the answer and lets the next request come."""
        self.response_complete = True
        protocol = self.protocol
        transport = protocol.transport
        if self.disconnected or transport.is_closing():
            return
        if status == 200 and not headers and self.keep_alive:
            transport.write(b"%s%d\r\n\r\n%s" % (protocol.engine_head(), len(body), body))
        else:
            keep_alive = self.keep_alive and self.whole
            transport.write(head(protocol.server_state.default_headers, status, headers, len(body), keep_alive) + body)
            if not keep_alive:
                protocol.end()
        protocol.on_response_complete()


class InferenceProtocol(BoundedProtocol):
    """One connection. `engine` and `gate` are set on a subclass for one worker (`bound`)."""

    engine: Engine
    gate: Gate
    _ready: ClassVar[tuple[Any, bytes]] = (None, b"")

    _peer: Peer | None = None
    _passed: Any = None

    def engine_head(self) -> bytes:
        """The status line and headers of a 200, up to the content length; made anew when the date changes."""
        default = self.server_state.default_headers
        known, head = self._ready
        if known is not default:
            lines = [b"HTTP/1.1 200 OK", *(b"%s: %s" % pair for pair in default), b"content-type: application/json"]
            head = b"\r\n".join([*lines, b"content-length: "])
            type(self)._ready = (default, head)
        return head

    def on_headers_complete(self) -> None:
        route = self.engine.live.paths.get(self.url)
        cycle = self.cycle
        if (
            route is None
            or (cycle is not None and not cycle.response_complete)
            or self.parser.get_method() != b"POST"
            or self.expect_100_continue
            or self.flow.write_paused
            or self.parser.should_upgrade()
        ):
            super().on_headers_complete()
            if self._peer is None:
                self._peer = Peer(self.client, self.server)
            self.scope["loopline.peer"] = self._peer  # type: ignore[typeddict-unknown-key]
            return
        self.check_head()
        parser = self.parser
        call = ShortCall(self, parser.should_keep_alive() and parser.get_http_version() != "1.0")
        self.cycle = call  # type: ignore[assignment]
        call.path = self.url
        call.plain = route.plain
        try:
            headers = unique(self.headers)
            length = headers.pop(b"content-length", b"")
            key = headers.pop(b"x-loopline-route-key", None)
            if key is not None:
                call.key = key.decode("latin-1")
            deadline = headers.pop(b"x-loopline-deadline-ms", None)
            if deadline is not None:
                read_deadline(call, deadline)
            parent = state = None
            if self.engine.tracer is not None:
                parent, state = headers.pop(b"traceparent", None), headers.pop(b"tracestate", None)
            # The other headers stay the same from request to request, as a rule: what passed once passes again.
            live, passed = self.engine.live, self._passed
            if passed is None or passed[0] is not live or passed[1] is not route or passed[2] != headers:
                if self._peer is None:
                    self._peer = Peer(self.client, self.server)
                self.gate.check_host(headers, self._peer)
                self.gate.allow(live, route.endpoint.name, headers, self._peer)
                read_headers(call, headers)
                call.caller = caller(headers)
                if call.json_length is None:
                    self._passed = (live, route, headers, call.caller)
            else:
                call.caller = passed[3]
            if self.engine.tracer is not None:
                call.trace = self.engine.tracer.begin(parent, state)
            if (limit := route.endpoint.limit) is not None:
                limit.take(call.caller, time.monotonic())
            if length:
                check_length(length, self.engine.settings.body_limit)
        except Problem as problem:
            call.problem = problem
        self.body_begins()
        if call.problem is not None:
            self.engine.submit(call)  # at once: nothing of the body is wanted

    def on_body(self, body: bytes) -> None:
        call: Any = self.cycle
        if type(call) is not ShortCall:
            super().on_body(body)
            return
        self.age = self._read = 0
        if call.problem is not None:
            return
        call.size += len(body)
        limit = self.engine.settings.body_limit
        if call.size <= limit:
            call.chunks.append(body)
        else:
            call.chunks.clear()
            call.problem = body_too_large(limit)
            self.engine.submit(call)

    def on_message_complete(self) -> None:
        call: Any = self.cycle
        if type(call) is not ShortCall:
            super().on_message_complete()
            return
        self.stage = "idle"
        self.age = self._read = 0
        call.whole = True
        if call.problem is None:
            call.started = time.perf_counter()
            chunks = call.chunks
            call.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self.engine.submit(call)


def read_headers(call: Call, headers: dict[bytes, bytes]) -> None:
    """Takes what inference needs from the headers. Raises `Problem`."""
    key = headers.get(b"x-loopline-route-key")
    if key is not None:
        call.key = key.decode("latin-1")
    deadline = headers.get(b"x-loopline-deadline-ms")
    if deadline is not None:
        read_deadline(call, deadline)
    length = headers.get(b"inference-header-content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 12:
            raise Problem(400, Invalid("Inference-Header-Content-Length is not a number.", code="bad-header"))
        call.json_length = int(length)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(
            415,
            Invalid("Compressed bodies are not taken.", code="content-encoding", hint="Send the body as it is."),
            ((b"accept-encoding", b"identity"),),
        )


def read_deadline(call: Call, given: bytes) -> None:
    """Counts a deadline from now on. Raises `Problem`."""
    if not given.isdigit() or len(given) > 9:
        raise Problem(
            400, Invalid("x-loopline-deadline-ms is no number of milliseconds.", code="bad-header", hint="Give 250.")
        )
    call.deadline = time.perf_counter() + int(given) / 1000


def check_length(declared: bytes, limit: int) -> None:
    """Raises the 413 for a declared length over the limit."""
    if len(declared) > 18 or int(declared or b"0") > limit:  # digits alone: the parser has seen to that
        raise body_too_large(limit)


def body_too_large(limit: int) -> Problem:
    """The 413 that names the limit."""
    return too_large(
        f"The body is larger than {limit} bytes.", "body-too-large", "Send the rows in several requests.", limit=limit
    )


def bound(engine: Engine, gate: Gate) -> type[InferenceProtocol]:
    """The protocol class of one worker, for uvicorn's `Config(http=...)`."""
    return type("WorkerProtocol", (InferenceProtocol,), {"engine": engine, "gate": gate})
