"""Everything that is not inference goes to the control process, over its Unix socket, streamed both ways.

The worker tells the control process who is calling by headers that it alone may set: `x-loopline-peer` (address:port) and
`x-loopline-peer-uid` (the owner of the peer's socket where the peer is on this machine, else -1). What a client sends under
such names is dropped.

A request whose body is whole and small goes in one piece, over a connection that may have carried others: its length is counted
here, so that no part of it can be taken for another request. All others have a connection of their own.
Where the answer is a file of the store, the control process names it (`x-loopline-file`), and it is read here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httptools

from loopline.errors import Invalid, Unavailable
from loopline.serving.access import PROXIES, peer_uid
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem, too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OURS = b"x-loopline-peer"
_FILE, _FILE_SIZE = b"x-loopline-file", b"x-loopline-file-size"
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade", b"expect")
)  # fmt: skip
_KEPT = frozenset((b"host", b"authorization", b"origin", b"content-length", *PROXIES))
"""What decides who asks and how much is sent, and so is never left out for a `Connection` header that names it."""
_CHUNK = 1 << 16
_PIECE = 1 << 18
_BRIEF = 1 << 16
"""Bytes of a body that is waited for, and sent in one piece."""
_KEPT_SECONDS = 2.0
"""So long a connection is used again; the control process hangs up after 5 s."""
_KEPT_MOST = 32
CONNECT = 5.0
"""Seconds to wait for the control process to take the connection."""


def control_down(why: str) -> Problem:
    """The 503 that says that the control process does not answer."""
    return Problem(
        503,
        Unavailable(
            f"The control process does not answer: {why}.",
            code="control-unavailable",
            hint="Predictions are still answered. `loopline status` shows what runs; try again in a moment.",
        ),
        ((b"retry-after", b"1"),),
    )


class Forwarder:
    """Hands requests to the control process that listens on the Unix socket `path`."""

    def __init__(self, path: str, body_limit: int) -> None:
        self.path = path
        self._limit = body_limit
        self._kept: list[tuple[_Connection, float]] = []  # and since when they are idle, the last one last

    async def answers(self, path: str = "/health", wait: float = 2.0) -> bool:
        """Whether the control process says that it is ready."""
        try:
            async with asyncio.timeout(wait):
                connection = await _Connection.open(self.path)
                try:
                    await connection.write(
                        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
                    )
                    line = await connection.reader.readline()
                finally:
                    connection.close()
        except (OSError, TimeoutError):
            return False
        return line.startswith(b"HTTP/1.1 2")

    async def __call__(self, scope: Message, receive: Receive, send: Send, peer: Peer) -> None:
        """Forwards one request and its answer. Raises `Problem` while nothing of an answer has been sent."""
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self._limit:
            raise too_large(f"The body is larger than {self._limit} bytes.", "body-too-large", "Send less.")
        chunked = not declared and any(k == b"transfer-encoding" for k, _ in scope["headers"])
        if not chunked and int(declared or 0) <= min(_BRIEF, self._limit):
            await self._brief(scope, receive, send, peer, int(declared or 0))
            return
        connection = await self._connect()
        answer = _Answer(scope["method"] == "HEAD")
        up = asyncio.create_task(self._up(scope, receive, connection, peer, chunked))
        down = asyncio.create_task(self._down(connection, answer, send))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not down.done():
                if (problem := up.exception()) is not None:
                    # The client went away, or sent too much; a control process that hung up has perhaps answered before.
                    if isinstance(problem, ConnectionError):
                        await down
                    else:
                        raise problem
                else:
                    gone = asyncio.create_task(_disconnect(receive))
                    try:
                        await asyncio.wait({down, gone}, return_when=asyncio.FIRST_COMPLETED)
                        if not down.done():
                            return
                    finally:
                        gone.cancel()
            await down
        except _Gone:
            return
        except (OSError, httptools.HttpParserError, EOFError) as e:
            if not answer.started:
                raise control_down("it hung up before it answered") from e
            raise
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            connection.close()

    async def _brief(self, scope: Message, receive: Receive, send: Send, peer: Peer, size: int) -> None:
        """Forwards a request with a body of this size, which is waited for first."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) != size:
            raise Problem(400, Invalid("The body is not as long as its Content-Length says.", code="bad-length"))
        lines = _head(scope, peer)
        if size or scope["method"] not in ("GET", "HEAD"):
            lines.append(b"content-length: %d" % size)
        connection = self._take() or await self._connect()
        answer = _Answer(scope["method"] == "HEAD")
        gone = asyncio.create_task(_hang_up(receive, connection))
        again = False
        try:
            await connection.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            await self._down(connection, answer, send)
            again = answer.again and not gone.done()
        except (OSError, httptools.HttpParserError, EOFError) as e:
            if gone.done():
                return
            if not answer.started:
                raise control_down("it hung up before it answered") from e
            raise
        finally:
            gone.cancel()
            if again and len(self._kept) < _KEPT_MOST:
                self._kept.append((connection, connection.now()))
            else:
                connection.close()

    def _take(self) -> _Connection | None:
        """A connection that may be used again; those that may not are closed."""
        found = None
        while self._kept and found is None:
            connection, since = self._kept.pop()
            if connection.usable() and connection.now() - since < _KEPT_SECONDS:
                found = connection
            else:
                connection.close()
        return found

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT):
                return await _Connection.open(self.path)
        except (OSError, TimeoutError) as e:
            raise control_down(e.strerror or type(e).__name__ if isinstance(e, OSError) else "no connection") from e

    async def _up(self, scope: Message, receive: Receive, connection: _Connection, peer: Peer, chunked: bool) -> None:
        """Sends the request's head and body."""
        lines = [*_head(scope, peer), b"connection: close"]
        length = next((v for k, v in scope["headers"] if k == b"content-length"), None)
        if length is not None:
            lines.append(b"content-length: " + length)
        if chunked:
            lines.append(b"transfer-encoding: chunked")
        await connection.write(b"\r\n".join(lines) + b"\r\n\r\n")
        more, size = True, 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(body)
            if size > self._limit:
                raise too_large(f"The body is larger than {self._limit} bytes.", "body-too-large", "Send less.")
            if body:
                await connection.write(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
        if chunked:
            await connection.write(b"0\r\n\r\n")

    async def _down(self, connection: _Connection, answer: _Answer, send: Send) -> None:
        """Passes the answer on as it comes."""
        message: Message = {}
        while not answer.complete:
            data = await connection.reader.read(_CHUNK)
            if data:
                answer.parser.feed_data(data)
            elif answer.started and answer.until_close:
                answer.complete = True
            else:
                raise EOFError("the answer was cut off")
            messages = answer.take()
            if answer.file:
                continue
            if answer.complete and messages and messages[-1]["type"] == "http.response.body":
                messages[-1]["more_body"] = False
            for message in messages:
                await send(message)
        if answer.file:
            await _send_file(connection, answer.file, answer.begun, send)
        if message.get("more_body", True):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_file(connection: _Connection, path: bytes, begun: Message, send: Send) -> None:
    """Sends a file as the body of the answer that `begun` begins, until the connection is closed. Raises OSError."""
    loop = asyncio.get_running_loop()
    left = next(int(v) for k, v in begun["headers"] if k == b"content-length")
    try:
        opened = await loop.run_in_executor(None, open, path, "rb", 0)
    except OSError as e:
        raise control_down("the file that it named is gone") from e
    with opened as file:
        await send(begun)
        while left and not connection.closed:
            piece = await loop.run_in_executor(None, file.read, min(left, _PIECE))
            if not piece:
                raise EOFError("the file was cut off")
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})


def _head(scope: Message, peer: Peer) -> list[bytes]:
    """The lines of a request's head, but for those that say how its body comes."""
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    named = {t.strip().lower() for k, v in headers if k == b"connection" for t in v.split(b",")}
    left_out = _HOP | (named - _KEPT) | {b"content-length"}
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target)]
    for name, value in headers:
        if name not in left_out and not name.replace(b"_", b"-").startswith(OURS):
            lines.append(b"%s: %s" % (name, value))
    uid = peer_uid(dict(headers), peer)
    return [*lines, b"x-loopline-peer: " + peer.here.encode(), b"x-loopline-peer-uid: %d" % uid]


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


class _Connection:
    """A connection to the control process whose two directions end apart.

    Writing goes past the reading transport, over a second descriptor: a write that fails since the other end has answered
    early and hung up must not throw that answer away.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.reader = _Reader(limit=_CHUNK, loop=self._loop)
        self._transport: asyncio.BaseTransport | None = None
        self.closed = False

    @classmethod
    async def open(cls, path: str) -> _Connection:
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

    def now(self) -> float:
        """The time of its loop's clock, in seconds."""
        return self._loop.time()

    def close(self) -> None:
        """Closes both directions."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()
        self._sock.close()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _hang_up(receive: Receive, connection: _Connection) -> None:
    """Closes the connection when the client is gone: nobody waits for the answer."""
    await _disconnect(receive)
    connection.close()


class _Gone(Exception):
    """The client closed its connection."""


class _Answer:
    """Collects what the parser finds of an answer, as ASGI messages."""

    def __init__(self, head_only: bool) -> None:
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
        if status < 200:
            return
        names = {name for name, _ in self._headers}
        hop = _HOP.union(t.strip().lower() for k, v in self._headers if k == b"connection" for t in v.split(b","))
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
