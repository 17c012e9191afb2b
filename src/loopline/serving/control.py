"""A connection to the control process, and its answers as ASGI messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httptools

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade", b"expect")
)  # fmt: skip
"""Headers that are of one connection."""
CHUNK = 1 << 16
_FILE, _FILE_SIZE = b"x-loopline-file", b"x-loopline-file-size"


class _Reader(asyncio.StreamReader):
    """A reader that still gives what came before the other end hung up: its answer, as a rule."""

    unread = 0
    """Bytes that came and were not read yet."""

    def feed_data(self, data: Any) -> None:
        self.unread += len(data)
        super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        self.unread -= len(data)
        return data

    def set_exception(self, exc: BaseException) -> None:
        self.feed_eof()


class Connection:
    """A connection to the control process whose two directions end apart.

    Writing goes past the reading transport, over a second descriptor: a write that fails since the other end has answered
    early and hung up must not throw that answer away.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.reader = _Reader(limit=CHUNK, loop=self._loop)
        self._transport: asyncio.BaseTransport | None = None
        self.closed = False

    @classmethod
    async def open(cls, path: str) -> Connection:
        """Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made = cls(sock)
        try:
            sock.setblocking(False)
            await made._loop.sock_connect(sock, path)
            made._transport, _ = await made._loop.create_unix_connection(
                lambda: asyncio.StreamReaderProtocol(made.reader, loop=made._loop), sock=sock.dup()
            )
        except BaseException:
            made.close()
            raise
        return made

    async def write(self, data: bytes) -> None:
        """Returns when the kernel has taken it all. Raises OSError."""
        await self._loop.sock_sendall(self._sock, data)

    def usable(self) -> bool:
        """Whether another request may be sent: the other end has not hung up, nor said anything unasked."""
        return not self.reader.unread and not self.reader.at_eof()

    def close(self) -> None:
        """Closes both directions."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()
        self._sock.close()


class Answer:
    """Collects what the parser finds of an answer, as ASGI messages."""

    def __init__(self, head_only: bool) -> None:
        self.wanted = asyncio.Event()
        """Set when the body is asked for that the request announced (100)."""
        self.started = False
        self.complete = False
        self.until_close = False
        """Whether the end of the connection is the end of the answer."""
        self.again = False
        """Whether another request may follow on the connection."""
        self.parser = httptools.HttpResponseParser(self)
        self.file = b""
        """The path of the file that is the body."""
        self.begun: Message = {}
        self._head_only = head_only
        self._unasked = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._found: list[Message] = []

    def on_message_begin(self) -> None:
        self._headers = []
        self._unasked = self.started
        self.again = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status == 100:
            self.wanted.set()
        if status < 200:
            return
        names = {name for name, _ in self._headers}
        hop = HOP.union(t.strip().lower() for k, v in self._headers if k == b"connection" for t in v.split(b","))
        kept = [(k, v) for k, v in self._headers if k not in hop and k not in (b"date", b"server")]
        self.file = next((v for k, v in kept if k == _FILE), b"")
        if self.file:
            size = next(v for k, v in kept if k == _FILE_SIZE)
            left_out = (_FILE, _FILE_SIZE, b"content-length")
            kept = [*((k, v) for k, v in kept if k not in left_out), (b"content-length", size)]
        self.begun = {"type": "http.response.start", "status": status, "headers": kept}
        self._found.append(self.begun)
        self.started = True
        self.until_close = not names & {b"content-length", b"transfer-encoding"}
        self.complete = self._head_only

    def on_body(self, body: bytes) -> None:
        if self.started and not self.complete:
            self._found.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        self.complete = self.complete or self.started
        self.again = self.started and not (self._head_only or self._unasked) and self.parser.should_keep_alive()

    def take(self) -> list[Message]:
        """The messages since the last time."""
        found, self._found = self._found, []
        return found
