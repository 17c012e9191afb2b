"""One worker process: the data plane.

    python -m loopline.serving.worker SETTINGS --listen HOST:PORT
    python -m loopline.serving.worker SETTINGS --fd LISTENING --door SOCKET     (as the supervisor starts it)

SETTINGS is a JSON file of `WorkerSettings`. SIGHUP reads the routing table's file again; SIGTERM ends the worker when what is
in flight is answered. Imports no database, no data-frame library and no web framework (a test holds it to that).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from loopline.errors import LooplineError
from loopline.ports.incoming import sweep
from loopline.serving import live as lives
from loopline.serving import metrics
from loopline.serving.access import Gate
from loopline.serving.asgi import App
from loopline.serving.connection import BoundedProtocol, Server
from loopline.serving.door import Door, loading, read_state
from loopline.serving.engine import Engine
from loopline.serving.forward import Forwarder
from loopline.serving.log import PredictionLog
from loopline.serving.protocol import bound
from loopline.serving.records import WorkerSettings

logger = logging.getLogger("loopline.serving")


class WorkerServer(Server):
    """The server, which closes the engine when the last answer is out."""

    def __init__(self, config: uvicorn.Config, engine: Engine, rpc: Any = None) -> None:
        """`rpc` is the gRPC server, where there is one."""
        super().__init__(config)
        self._engine = engine
        self._rpc = rpc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for what is under way, live and not ready; stops accepting; closes the log."""
        self._engine.draining = True
        ended = None
        if self._rpc is not None:
            ended = asyncio.create_task(self._rpc.stop(self._engine.settings.drain))
        left = await self.drain(self._engine.settings.drain)
        self.config.timeout_graceful_shutdown = max(1, int(left))
        await super().shutdown(sockets)
        if ended is not None:
            await ended
        self._engine.close()
        self._captured_signals.clear()  # it was asked to end and does: exit status 0


def open_log(settings: WorkerSettings) -> PredictionLog:
    """The worker's prediction log."""
    return PredictionLog(
        Path(settings.log),
        settings.worker,
        segment_bytes=settings.segment_bytes,
        segment_age_ms=int(settings.segment_age * 1000),
        now=time.time_ns() // 1_000_000,
        always_sync=settings.sync == "always",
    )


async def run(settings: WorkerSettings, sock: socket.socket, door: socket.socket | None) -> None:
    """Serves until told to end. Raises `LooplineError` where the table on file cannot be served."""
    loop = asyncio.get_running_loop()
    state = Path(settings.state)
    engine = Engine(settings, open_log(settings), loop)
    if (message := read_state(state)) is not None:
        # One endpoint that cannot be served keeps none of the others down.
        with loading(door.sendall) if door is not None else contextlib.nullcontext():
            ready = lives.prepare(message, {}, settings.opening, message.table.endpoints)
        engine.swap(ready)
    gate = Gate(settings.allowed_hosts, open=settings.open)
    incoming = Path(settings.incoming) if settings.incoming else None
    if incoming is not None:
        sweep(incoming)
    forwarder = Forwarder(settings.control, settings.forward_limit, incoming) if settings.control else None
    config = uvicorn.Config(
        App(engine, gate, forwarder),
        http=bound(engine, gate),
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        timeout_graceful_shutdown=int(settings.drain),
    )
    rpc = None
    if settings.grpc is not None:
        from loopline.serving.grpc.server import start

        rpc = await start(engine, gate, *settings.grpc)
    server = WorkerServer(config, engine, rpc)

    def leave() -> None:
        server.should_exit = True

    tasks = {asyncio.create_task(_upkeep(engine))}
    if door is not None:
        opened = Door(engine, leave)
        if settings.repository:
            engine.ask = opened.ask
        tasks.add(asyncio.create_task(opened.serve(door)))

    def reread() -> None:
        task = asyncio.create_task(_reread(engine, state))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, reread)
    gc.collect()
    gc.freeze()  # what is loaded stays; the collector need not walk it again
    await server.serve(sockets=[sock])
    for task in tasks:
        task.cancel()


async def _reread(engine: Engine, state: Path) -> None:
    try:
        message = read_state(state)
        if message is not None and message.table.epoch > engine.live.epoch:
            opening = engine.settings.opening
            engine.swap(await asyncio.to_thread(lives.prepare, message, engine.known(), opening, engine.live.failed))
    except LooplineError as e:
        logger.error("The routing table on file is not taken: %s", e)


async def _upkeep(engine: Engine) -> None:
    """Once in a while: syncs and rotates the log, shows the counters to the other workers."""
    settings = engine.settings
    every = min(1.0, settings.sync_interval) if settings.sync == "interval" else 1.0
    shown = 0.0
    while True:
        await asyncio.sleep(every)
        engine.upkeep()
        if settings.sync == "interval":
            await asyncio.to_thread(engine.sync)
        if settings.metrics and time.monotonic() - shown >= 1.0:
            shown = time.monotonic()
            engine.counters.in_flight = engine.in_flight
            metrics.publish(engine.counters, Path(settings.metrics), settings.worker)


def main(argv: list[str] | None = None) -> int:
    """The program. Exit status 1 with a line on stderr where it cannot serve."""
    import uvloop

    parser = argparse.ArgumentParser(prog="loopline-worker", description="One worker of the model server.")
    parser.add_argument("settings", type=Path)
    parser.add_argument("--listen", metavar="HOST:PORT")
    parser.add_argument("--fd", type=int, help="a listening socket")
    parser.add_argument("--door", type=int, help="a Unix socket to the supervisor")
    args = parser.parse_args(argv)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * BoundedProtocol.connection_limit  # each takes a descriptor, and two more while it is forwarded
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = msgspec.json.decode(args.settings.read_bytes(), type=WorkerSettings)
        if args.fd is not None:
            sock = socket.socket(fileno=args.fd)
        else:
            from loopline.serving.supervisor import listen

            host, _, port = args.listen.rpartition(":")
            sock = listen(host.strip("[]"), int(port))
        door = None if args.door is None else socket.socket(fileno=args.door)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, sock, door))
    except LooplineError as e:
        print(f"loopline-worker: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
