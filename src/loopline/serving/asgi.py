"""The worker as a plain ASGI app: inference the ordinary way, model metadata, health, metrics; the rest is forwarded.

Runs under any ASGI server; the worker's own protocol takes the short way for inference and comes here for all else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from loopline.errors import NotFound, Unavailable
from loopline.serving import about, metrics, openapi, repository
from loopline.serving.access import Gate, caller, unique
from loopline.serving.call import Codec, Headers, WaitingCall
from loopline.serving.control import Message, Receive, Send
from loopline.serving.engine import Engine
from loopline.serving.explain import asked
from loopline.serving.foreign import doors, torchserve
from loopline.serving.forward import Forwarder, control_down
from loopline.serving.pages import page
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem, busy, wrong_method
from loopline.serving.protocol import body_too_large, check_length, read_headers

HEALTH_AGE = 1.0
"""Seconds for which the control process's last answer counts."""
_INDEX_LIMIT = 64 << 10
"""Bytes of a request for the repository's index."""


class App:
    """The ASGI application of one worker."""

    def __init__(self, engine: Engine, gate: Gate, forwarder: Forwarder | None = None) -> None:
        self.engine = engine
        self.gate = gate
        self.forwarder = forwarder
        self._control: tuple[float, bool] = (-HEALTH_AGE, False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        started = False
        more = any((k == b"content-length" and v != b"0") or k == b"transfer-encoding" for k, v in scope["headers"])

        async def received() -> Message:
            nonlocal more
            message = await receive()
            more = message.get("more_body", False)
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if more and not started:  # what is left of the body is wanted by nobody
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            started = True
            await send(message)

        try:
            with contextlib.suppress(_ClientGone):
                await self._answer(scope, received, noted)
        except Problem as problem:
            if started:
                raise
            await _send(noted, problem.status, doors.refusal(scope["path"], problem), problem.headers)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        method: str = scope["method"]
        live = self.engine.live
        route, missing = live.find(path)
        if route is not None or missing is not None:
            if method == "POST":
                await self._infer(scope, receive, send, path)
                return
            problem = missing or wrong_method(method, "POST")
            headers = unique(scope["headers"])
            self._host(scope, headers)
            raise problem
        headers = unique(scope["headers"])
        peer = self._host(scope, headers)
        if path == "/v2/health/live":
            await _send(send, 200, b'{"live":true}')
        elif path in ("/health", "/ping", "/v2/health/ready"):
            await self._health(path, send)
        elif path == "/version" and self.forwarder is None:
            await _send(send, 200, version("loopline").encode(), ((b"content-type", b"text/plain; charset=utf-8"),))
        elif path == "/" and self.forwarder is None:
            _read_only(method)
            self._check_ready()
            await _send(send, 200, b"Healthy", ((b"content-type", b"text/plain; charset=utf-8"),))
        elif path == "/models":
            if method == "POST":
                self.gate.allow(live, None, headers, peer)
                raise torchserve.ruled()
            _read_only(method)
            names = self.gate.served(live, headers, peer)
            await _send(send, 200, msgspec.json.encode(torchserve.models(live, names, scope["query_string"])))
        elif path == "/v1/models":
            _read_only(method)
            await _send(send, 200, msgspec.json.encode({"models": self.gate.served(live, headers, peer)}))
        elif path == "/metrics":
            _read_only(method)
            self.gate.allow(live, None, headers, peer)
            text = metrics.text(*self.engine.totals())
            await _send(send, 200, text, ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))
        elif path.startswith("/v2/repository/"):
            await _send(send, 200, await self._repository(method, path, headers, peer, receive))
        elif path == "/v2" or path.startswith("/v2/models/"):
            _read_only(method)
            body = self._about(path, headers, peer)
            await _send(send, 200, msgspec.json.encode(body))
        elif path == "/docs" or path.startswith("/docs/"):
            _read_only(method)
            await _send(send, 200, *self._docs(path, headers, peer))
        elif (door := doors.find(path)) is not None:
            await self._foreign(door, scope, receive, send, headers, peer)
        elif self.forwarder is not None:
            await self.forwarder(scope, receive, send, peer)
        else:
            raise Problem(404, NotFound(f"There is nothing at {path}.", code="no-route"))

    def _host(self, scope: Message, headers: dict[bytes, bytes]) -> Peer:
        peer: Peer = scope.get("loopline.peer") or Peer(scope["client"], scope["server"])
        self.gate.check_host(headers, peer)
        return peer

    # ------------------------------------------------------------------ inference

    async def _infer(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        path: str,
        codec: Codec | None = None,
        problem: Problem | None = None,
        *,
        explains: bool = False,
    ) -> None:
        """Answers what is asked of the inference path `path`; in another protocol's words, where `codec` speaks it.

        A `problem` that is known already is counted, logged and answered like one of the engine's own. `explains`: explanations
        are asked for, of a codec that can give them.
        """
        call = WaitingCall(asyncio.get_running_loop().create_future())
        call.path = path.encode()
        call.plain = path.startswith("/predict/")
        call.codec = codec
        limit = self.engine.settings.body_limit
        try:
            headers = unique(scope["headers"])
            peer = self._host(scope, headers)
            route, missing = self.engine.live.find(path)
            self.gate.allow(self.engine.live, route.endpoint.name if route else None, headers, peer)
            if (known := problem or missing) is not None:
                raise known
            if self.engine.tracer is not None:
                call.trace = self.engine.tracer.begin(headers.get(b"traceparent"), headers.get(b"tracestate"))
            read_headers(call, headers)
            call.caller = caller(headers)
            if route is not None and route.endpoint.limit is not None:
                route.endpoint.limit.take(call.caller, time.monotonic())
            call.explains = explains or (codec is None and asked(scope["query_string"]))
            check_length(headers.get(b"content-length", b""), limit)
        except Problem as e:
            call.problem = e
        if call.problem is None:
            try:
                call.body = await _body(receive, limit)
            except Problem as e:
                call.problem = e
        call.started = time.perf_counter()
        self.engine.submit(call)
        status, body, added = await call.done
        await _send(send, status, body, added)

    async def _foreign(
        self, door: doors.Door, scope: Message, receive: Receive, send: Send, headers: dict[bytes, bytes], peer: Peer
    ) -> None:
        """Answers what another protocol asks."""
        door.check_method(scope["method"])
        live = self.engine.live
        path, problem = "", None
        try:
            self.gate.allow(live, None, headers, peer)
            name = door.endpoint(live, scope["path"])
            self.gate.allow(live, name if name in live.endpoints else None, headers, peer)
            endpoint = live.endpoint(name)
            variant = door.variant(endpoint, headers)
            path = f"/predict/{name}" if variant is None else f"/v2/models/{name}/versions/{variant.version}/infer"
        except Problem as e:
            if door.codec is None:
                raise
            problem = e
        if door.codec is None:
            assert door.about is not None
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            await _send(send, 200, msgspec.json.encode(door.about(endpoint, variant, query)))
        else:
            codec = door.codec(headers)
            await self._infer(scope, receive, send, path, codec, problem, explains=door.explains)

    # ------------------------------------------------------------------ what is there

    def _check_ready(self) -> None:
        """Raises the 503 of a worker that is not ready for requests."""
        if not self.engine.live.epoch:
            raise Problem(503, Unavailable("No routing table is loaded yet.", code="not-ready"))
        if self.engine.draining:
            raise busy("This worker is draining: it answers what it has, and then ends.", "draining")

    async def _health(self, path: str, send: Send) -> None:
        self._check_ready()
        if path == "/health" and self.forwarder is not None:
            at, good = self._control
            now = time.monotonic()
            if not good or now - at > HEALTH_AGE:
                good = await self.forwarder.answers()
                self._control = (now, good)
            if not good:
                raise control_down("no answer to /health")
        word = "Healthy" if path == "/ping" else "ready"  # which TorchServe's clients look for there
        body = {"ready": True} if path.startswith("/v2") else {"status": word, "epoch": self.engine.live.epoch}
        await _send(send, 200, msgspec.json.encode(body))

    def _about(self, path: str, headers: dict[bytes, bytes], peer: Peer) -> dict[str, Any]:
        """The Open Inference Protocol's metadata and statistics."""
        live = self.engine.live
        parts = path.split("/")[2:]
        if not parts:
            return about.server()
        if parts[1:] == ["stats"] and "stats" not in live.endpoints:
            return about.statistics(live, self.gate.served(live, headers, peer), self.engine.totals()[0])
        name = parts[1]
        self.gate.allow(live, name if name in live.endpoints else None, headers, peer)
        found = about.model(
            live, name, parts[2:], self.engine.totals()[0] if parts[-1] == "stats" else self.engine.counters
        )
        if found is None:
            raise Problem(404, NotFound(f"There is nothing at {path}.", code="no-route"))
        return found

    def _docs(self, path: str, headers: dict[bytes, bytes], peer: Peer) -> tuple[bytes, Headers]:
        """An endpoint's OpenAPI document, or the page that shows it, which tells nobody anything by itself."""
        parts = path.split("/")[2:]
        if len(parts) == 2 and parts[1] == "openapi.json":
            live, settings = self.engine.live, self.engine.settings
            self.gate.allow(live, parts[0] if parts[0] in live.endpoints else None, headers, peer)
            made = openapi.document(live.endpoint(parts[0]), settings.body_limit, settings.row_limit)
            return msgspec.json.encode(made), ()
        if len(parts) > 1:
            raise Problem(404, NotFound(f"There is nothing at {path}.", code="no-route"))
        return page()

    async def _repository(
        self, method: str, path: str, headers: dict[bytes, bytes], peer: Peer, receive: Receive
    ) -> bytes:
        """The repository extension: the index; models loaded and unloaded, or why they are not."""
        if method != "POST":
            raise wrong_method(method, "POST")
        live = self.engine.live
        parts = path.split("/")[3:]
        if parts == ["index"]:
            names = self.gate.served(live, headers, peer, failed=True)
            check_length(headers.get(b"content-length", b""), _INDEX_LIMIT)
            return msgspec.json.encode(about.index(live, names, await _body(receive, _INDEX_LIMIT)))
        if len(parts) == 3 and parts[0] == "models" and parts[2] in ("load", "unload"):
            if self.engine.ask is None:
                self.gate.allow(live, parts[1] if parts[1] in live.endpoints else None, headers, peer)
                raise about.ruled(parts[2], parts[1], alone=self.forwarder is None)
            self.gate.manage(live, headers, peer)
            check_length(headers.get(b"content-length", b""), _INDEX_LIMIT)
            await repository.change(self.engine.ask, parts[2], parts[1], await _body(receive, _INDEX_LIMIT))
            return b"{}"
        raise Problem(404, NotFound(f"There is nothing at {path}.", code="no-route"))


def _read_only(method: str) -> None:
    if method not in ("GET", "HEAD"):
        raise wrong_method(method, "GET")


class _ClientGone(Exception):
    """Nobody waits for an answer any more."""


async def _body(receive: Receive, limit: int) -> bytes:
    """A request's body. Raises the 413 `Problem`, and `_ClientGone`."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise body_too_large(limit)
    return bytes(body)


async def _send(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    if not any(name == b"content-type" for name, _ in headers):
        headers = (*headers, (b"content-type", b"application/json"))
    headers = (*headers, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
