"""The load: one request over so many keep-alive connections, each sent again as soon as it is answered.

    python http_load.py PORT PATH BODY CONNECTIONS SECONDS

BODY is a file with JSON. Prints requests, requests a second, the median and the 99th percentile of the seconds, and the processor
time that a request costs here: the load and the server share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, times: list[float], until: float) -> None:
        self.request = request
        self.times = times
        self.until = until
        self.done = asyncio.get_running_loop().create_future()
        self.got = b""
        self.length = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self.at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Sends again when the answer is whole: the answers to one request are, as a rule, of one length."""
        if self.got or len(data) != self.length or not data.startswith(b"HTTP/1.1 200"):
            self.got += data
            if not whole(self.got):
                return
            if not self.got.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(self.got.decode()))
                return
            self.length, self.got = len(self.got), b""
        now = time.perf_counter()
        self.times.append(now - self.at)
        if now < self.until:
            self._send()
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, why: Exception | None) -> None:
        """A server that hangs up fails the measurement."""
        if not self.done.done():
            self.done.set_exception(why or RuntimeError(f"the server hung up: {self.got!r}"))


def whole(answer: bytes) -> bool:
    """Whether an answer with a length, or in chunks, is there to its end."""
    head, end, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:])
    if b"content-length" in fields:
        return bool(end) and len(body) >= int(fields[b"content-length"])
    return bool(end) and body.endswith(b"0\r\n\r\n")


async def load(port: int, path: str, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Requests for so many seconds."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    times: list[float] = []
    loop = asyncio.get_running_loop()
    began, spent = time.perf_counter(), time.process_time()
    make = lambda: Client(request, times, began + seconds)  # noqa: E731
    made = [await loop.create_connection(make, "127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(client.done for _, client in made))
    elapsed, spent = time.perf_counter() - began, time.process_time() - spent
    times.sort()
    return {
        "requests": len(times), "rps": len(times) / elapsed, "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)], "load_us": spent / len(times) * 1e6,
    }  # fmt: skip


if __name__ == "__main__":
    port, path, body, connections, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), path, Path(body).read_bytes(), int(connections), float(seconds)))))
