"""A program: the worker's ASGI app under uvicorn's own protocol."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import msgspec
import uvicorn

from loopline.serving import live
from loopline.serving.access import Gate
from loopline.serving.asgi import App
from loopline.serving.door import read_state
from loopline.serving.engine import Engine
from loopline.serving.records import WorkerSettings
from loopline.serving.worker import open_log


async def main() -> None:
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerSettings)
    engine = Engine(settings, open_log(settings))
    message = read_state(Path(settings.state))
    assert message is not None
    engine.swap(live.prepare(message, {}, settings.opening))
    config = uvicorn.Config(
        App(engine, Gate()), http="httptools", lifespan="on", log_config=None, proxy_headers=False, server_header=False
    )
    await uvicorn.Server(config).serve(sockets=[socket.socket(fileno=int(sys.argv[2]))])


if __name__ == "__main__":
    asyncio.run(main())
