"""Everything that is not inference goes to the control process, over its Unix socket, streamed both ways.

The worker tells the control process who is calling by headers that it alone may set: `x-loopline-peer` (address:port) and
`x-loopline-peer-uid` (the owner of the peer's socket where the peer is on this machine, else -1). What a client sends under
such names is dropped.

A request whose body is whole and small goes in one piece, over a connection that may have carried others: its length is counted
here, so that no part of it can be taken for another request. All others have a connection of their own.
Where the answer is a file of the store, the control process names it (`x-loopline-file`), and it is read here. A large body
becomes a file here, whose name is sent in its place (`x-loopline-body`): not a byte of it is taken before the control process,
who has looked at the head, says that it goes on (100), and the request's own body is the file's digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from pathlib import Path

import httptools

from loopline.errors import Invalid, Unavailable
from loopline.ports.incoming import DIGEST_LENGTH, Incoming
from loopline.serving.access import PROXIES, peer_uid
from loopline.serving.control import CHUNK, HOP, Answer, Connection, Message, Receive, Send
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem, too_large

OURS = (b"x-loopline-peer", b"x-loopline-body")
"""How headers begin that a worker alone may set."""
_KEPT = frozenset((b"host", b"authorization", b"origin", b"content-length", *PROXIES))
"""What decides who asks and how much is sent, and so is never left out for a `Connection` header that names it."""
_PIECE = 1 << 18
_BRIEF = 1 << 16
"""Bytes of a body that is waited for, and sent in one piece."""
_LARGE = 1 << 20
"""Bytes from which on a body becomes a file."""
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
    )


class Forwarder:
    """Hands requests to the control process that listens on the Unix socket `path`."""

    def __init__(self, path: str, body_limit: int, incoming: Path | None = None) -> None:
        self.path = path
        self._limit = body_limit
        self._incoming = incoming  # where large bodies become files; None: they are streamed
        self._kept: list[tuple[Connection, float]] = []  # and since when they are idle, the last one last

    async def answers(self, path: str = "/health", wait: float = 2.0) -> bool:
        """Whether the control process says that it is ready."""
        try:
            async with asyncio.timeout(wait):
                connection = await Connection.open(self.path)
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
        answer = Answer(scope["method"] == "HEAD")
        ending = contextlib.AsyncExitStack()
        if self._incoming is not None and int(declared or 0) >= _LARGE:
            file = Incoming(self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}")
            sending = self._up_as_file(scope, receive, connection, peer, answer, ending, file, int(declared))
        else:
            sending = self._up(scope, receive, connection, peer, chunked)
        up = asyncio.create_task(sending)
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
            await ending.aclose()

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
        answer = Answer(scope["method"] == "HEAD")
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
                self._kept.append((connection, time.monotonic()))
            else:
                connection.close()

    def _take(self) -> Connection | None:
        """A connection that may be used again; those that may not are closed."""
        found = None
        while self._kept and found is None:
            connection, since = self._kept.pop()
            if connection.usable() and time.monotonic() - since < _KEPT_SECONDS:
                found = connection
            else:
                connection.close()
        return found

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT):
                return await Connection.open(self.path)
        except (OSError, TimeoutError) as e:
            raise control_down(e.strerror or type(e).__name__ if isinstance(e, OSError) else "no connection") from e

    async def _up(self, scope: Message, receive: Receive, connection: Connection, peer: Peer, chunked: bool) -> None:
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

    async def _up_as_file(
        self,
        scope: Message,
        receive: Receive,
        connection: Connection,
        peer: Peer,
        answer: Answer,
        ending: contextlib.AsyncExitStack,
        file: Incoming,
        size: int,
    ) -> None:
        """Sends the request's head and, when the body is wanted and in the file, its digest. The file is gone with `ending`."""
        told = [b"x-loopline-body: " + file.path.name.encode(), b"x-loopline-body-size: %d" % size]
        lines = [*_head(scope, peer), *told, b"connection: close", b"expect: 100-continue"]
        await connection.write(b"\r\n".join(lines) + b"\r\ncontent-length: %d\r\n\r\n" % DIGEST_LENGTH)
        await answer.wanted.wait()
        try:
            await ending.enter_async_context(file)
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                more = message.get("more_body", False)
                await file.add(message.get("body", b""))
            digest = await file.end()
        except Unavailable as e:
            raise Problem(503, e) from e
        await connection.write(digest.encode())

    async def _down(self, connection: Connection, answer: Answer, send: Send) -> None:
        """Passes the answer on as it comes."""
        message: Message = {}
        while not answer.complete:
            data = await connection.reader.read(CHUNK)
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


async def _send_file(connection: Connection, path: bytes, begun: Message, send: Send) -> None:
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
    left_out = HOP | (named - _KEPT) | {b"content-length"}
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target)]
    for name, value in headers:
        if name not in left_out and not name.replace(b"_", b"-").startswith(OURS):
            lines.append(b"%s: %s" % (name, value))
    uid = peer_uid(dict(headers), peer)
    return [*lines, b"x-loopline-peer: " + peer.here.encode(), b"x-loopline-peer-uid: %d" % uid]


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _hang_up(receive: Receive, connection: Connection) -> None:
    """Closes the connection when the client is gone: nobody waits for the answer."""
    await _disconnect(receive)
    connection.close()


class _Gone(Exception):
    """The client closed its connection."""
