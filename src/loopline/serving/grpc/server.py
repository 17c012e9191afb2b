"""The gRPC server of a worker: the methods' table, errors as statuses, bounds and a graceful end.

It runs in the worker's event loop, over the engine that answers HTTP, so that limits, batches, log and counters are the same.
A call's Host is not looked at: no page in a browser can speak gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from loopline.access.peer import Address, is_loopback
from loopline.serving.access import Gate
from loopline.serving.engine import Engine
from loopline.serving.grpc import oip, tensorflow, torchserve
from loopline.serving.grpc.caller import STATUS, Caller, Method, Refusal, Services
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem

logger = logging.getLogger("loopline.serving")
SERVICES: Services = {**oip.SERVICES, **tensorflow.SERVICES, **torchserve.SERVICES}
_AHEAD = 64
"""Requests of one stream that are read before the first of them is answered."""


async def start(engine: Engine, gate: Gate, host: str, port: int) -> grpc.aio.Server:
    """Listens and serves until the server's `stop`, with the worker's certificate where it has one.

    Several workers may listen on one port. Raises RuntimeError.
    """
    settings = engine.settings
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.body_limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16 << 10),
            ("grpc.max_concurrent_streams", settings.in_flight_limit),
            ("grpc.so_reuseport", 1),
        ],
        maximum_concurrent_rpcs=settings.in_flight_limit,
    )
    methods = _Methods(engine, gate, host, port)
    for service, calls in SERVICES.items():
        handlers = {name: methods.handler(method) for name, method in calls.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    shown = f"[{host}]" if ":" in host else host
    address = f"{shown}:{port}"
    if settings.tls_cert:
        pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes())
        taken = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        taken = server.add_insecure_port(address)
    if taken != port:
        raise RuntimeError(f"gRPC cannot listen on {address}")
    await server.start()
    return server


class _Methods:
    """What answers the methods of one worker."""

    def __init__(self, engine: Engine, gate: Gate, host: str, port: int) -> None:
        self._engine = engine
        self._gate = gate
        self._end = (host, port)

    def handler(self, method: Method) -> Any:
        """What gRPC calls for a method, with bytes and for bytes."""

        async def one(data: bytes, context: Any) -> bytes:
            return await self._ended(self._answer(method, data, context), context)

        async def told(data: bytes, context: Any) -> AsyncIterator[bytes]:
            yield await one(data, context)

        async def many(_: Any, context: Any) -> None:
            await self._converse(method, context)

        if method.streams:
            return grpc.stream_stream_rpc_method_handler(many)
        return grpc.unary_stream_rpc_method_handler(told) if method.tells else grpc.unary_unary_rpc_method_handler(one)

    async def _answer(self, method: Method, data: bytes, context: Any) -> bytes:
        """The answer to one request. Raises `Problem`, `Refusal`, and whatever else goes wrong."""
        try:
            request = method.kind.FromString(data)
        except DecodeError as e:
            raise Refusal(400, f"This is no {method.kind.DESCRIPTOR.name}.") from e
        answer = await method.answers(self._caller(context), request)
        return answer if isinstance(answer, bytes) else bytes(answer.SerializeToString())

    async def _ended(self, answer: Awaitable[bytes], context: Any) -> bytes:
        """An answer that is waited for; what is raised instead ends the call, with its status."""
        try:
            return await answer
        except Problem as problem:
            status, text = problem.status, str(problem.error)
        except Refusal as refusal:
            status, text = refusal.status, str(refusal)
        except Exception as e:
            logger.exception("A call could not be answered")
            status, text = 500, f"The server did not answer: {type(e).__name__}"
        await context.abort(STATUS.get(status, grpc.StatusCode.INVALID_ARGUMENT), text)
        raise AssertionError("abort raises")

    async def _converse(self, method: Method, context: Any) -> None:
        """Answers the requests of a stream in their order; some are under way at once.

        It ends where the client ends it, and where the worker drains, once what was read is answered.
        """
        under_way: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_AHEAD)
        tasks: set[asyncio.Task[Any]] = set()
        whole = False

        def begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            task = asyncio.create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return task

        async def read() -> None:
            nonlocal whole
            while not self._engine.draining:
                coming = begin(context.read())
                while not coming.done() and not self._engine.draining:
                    await asyncio.wait({coming}, timeout=1.0)
                if not coming.done() or coming.cancelled() or coming.exception() is not None:
                    break
                if (data := coming.result()) is grpc.aio.EOF:
                    whole = True
                    break
                await under_way.put(begin(self._answer(method, data, context)))
            await under_way.put(None)

        begin(read())
        try:
            while (task := await under_way.get()) is not None:
                await context.write(await self._ended(task, context))
        finally:
            for task in tuple(tasks):
                task.cancel()
        if not whole:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This worker is draining: come again.")

    def _caller(self, context: Any) -> Caller:
        headers = {
            key.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            for key, value in context.invocation_metadata()
        }
        client = _address(context.peer())
        host, port = self._end
        # Where any address is listened to, a client of this machine has reached us at its own, as a rule.
        here = host if is_loopback(host) else client[0]
        return Caller(self._engine, self._gate, headers, Peer(client, (here, port)), context.time_remaining())


def _address(peer: str) -> Address:
    """The address in `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`; ("", 0) where it is another."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    return (host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdigit() else ("", 0)
