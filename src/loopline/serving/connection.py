"""One HTTP connection within bounds, on top of uvicorn's own protocol.

The head of a request is bounded in bytes and fields, and in the time until it is complete; a body must keep coming. What is
over a bound is answered at once, and the connection ends. No timer runs for a connection: the server looks over all of them
once a second (`Server`), so the bounds cost a request next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, Literal

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loopline.errors import Invalid
from loopline.serving.call import Headers
from loopline.serving.problems import REASONS, Problem, busy

TARGET_LIMIT = 8 << 10
"""Bytes of a request's target."""
HEAD_LIMIT = 64 << 10
"""Bytes of a request's target and headers; and of what else may come between two pieces of a body, such as trailers."""
FIELD_LIMIT = 128
"""Header fields of a request."""
DRAIN_LIMIT = 128 << 20
"""Bytes that are still read, and thrown away, of a request that is answered already: a reset would take the answer with it."""

Stage = Literal["idle", "head", "body", "over"]
"""Where the reading is: between requests, in a request's head, in its body, or past the last request that is taken."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A subclass may set the bounds otherwise."""

    seconds: ClassVar[dict[Stage, int]] = {"idle": 75, "head": 20, "body": 30, "over": 30}
    """How long a stage may last; a body, without a byte of it."""
    connection_limit: ClassVar[int] = 4096
    """Connections that one worker holds open."""

    url = b""
    stage: Stage = "idle"
    age = 0
    """Seconds in this stage, or since the last piece of the body."""
    _read = 0
    """Bytes read since the head, or a piece of the body, began; without those of the chunk that it began in."""
    _chunk = 0
    _begun = 0
    """Bytes of the chunk that the head began in."""
    _drained = 0
    _problem: Problem | None = None
    """What is answered when all that came before is."""

    def connection_made(self, transport: Any) -> None:
        """Refuses a connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self.connection_limit:
            self._write(
                busy(f"{self.connection_limit} connections are open, which is the limit.", "too-many-connections")
            )
            self.stage = "over"
            transport.close()

    # ------------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        """Hands data to the parser, while there is something to be made of it."""
        if self.stage == "over":
            self._drained += len(data)
            if self._drained > DRAIN_LIMIT:
                self.transport.abort()
            return
        self._chunk = len(data)
        self._read += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing is upgraded to: the request is answered as it is
        except httptools.HttpParserError as e:
            cause = e.__context__
            self.refuse(cause if isinstance(cause, Problem) else unreadable())
        else:
            if self._read > HEAD_LIMIT:
                self.refuse(head_too_large())

    def on_message_begin(self) -> None:
        """A head begins. The scope that uvicorn would make here is made later, for those requests that need one."""
        self.stage = "head"
        self.age = self._read = 0
        self._begun = self._chunk
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        """A piece of the target. Raises the 414."""
        self.url += url
        if len(self.url) > TARGET_LIMIT:
            raise Problem(
                414,
                Invalid(
                    f"The request's target is longer than {TARGET_LIMIT} bytes.",
                    code="target-too-long",
                    hint="Send what is long in the body.",
                ),
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after a body a trailer, which counts for nothing. Raises the 501 of a coding that is not undone here."""
        if self.stage != "head":
            return
        name = name.lower()
        if name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Problem(
                    501,
                    Invalid(
                        f"Transfer-Encoding {value.decode('latin-1')[:100]!r} is not undone here.",
                        code="transfer-encoding",
                        hint="Send the body as it is, chunked or with its Content-Length.",
                    ),
                )
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def check_head(self) -> None:
        """Raises the 431 of a head that is complete and too large."""
        headers = self.headers
        if len(headers) > FIELD_LIMIT or (
            self._begun + self._read > HEAD_LIMIT
            and len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_LIMIT
        ):
            raise head_too_large()

    def on_headers_complete(self) -> None:
        """The head is complete: the request goes the ordinary way."""
        self.check_head()
        url, seen, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(seen)
        super().on_headers_complete()
        self.cycle.transport = _Ending(self)  # type: ignore[assignment]
        self.body_begins()

    def body_begins(self) -> None:
        """Counts from here."""
        self.stage = "body"
        self.age = self._read = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.age = self._read = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.stage = "idle"
        self.age = self._read = 0
        super().on_message_complete()

    # ------------------------------------------------------------------ ending

    def on_response_complete(self) -> None:
        """Goes on with the next request; ends where the rest of this one, which is answered already, is not there yet."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._problem is not None:
            self.refuse(self._problem)
        elif self.stage == "body" and self.cycle.response_complete:
            self.linger()

    def refuse(self, problem: Problem) -> None:
        """Answers a request that is not read any further, and takes no other on this connection."""
        cycle: Any = self.cycle
        if self.stage == "body" and self.pipeline:
            self.pipeline.popleft()  # the one that is refused; others are before it
            cycle.response_complete = True
            self._problem, self.stage = problem, "over"
        elif self.stage != "body" and self._owing():
            self._problem, self.stage = problem, "over"
        else:
            begun = False
            if self._owing():
                begun = getattr(cycle, "response_started", False)
                cycle.disconnected = True
                cycle.message_event.set()
            if begun:  # half an answer is out, and no other can follow it
                self.transport.close()
            else:
                self._write(problem)
                self.linger()

    def linger(self) -> None:
        """Says that nothing more comes from here, and throws away what still arrives until the client hangs up."""
        self.stage, self.age, self._problem = "over", 0, None
        self.pipeline.clear()
        if self.cycle is not None:
            self.cycle.response_complete = True
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if (
                self.transport.can_write_eof()
            ):  # not with TLS: there it is left to the client to hang up, or to its time
                self.transport.write_eof()

    def end(self) -> None:
        """Ends the connection after an answer that closes it."""
        if self.stage == "idle":
            self.transport.close()
        else:
            self.linger()

    def grow_older(self) -> None:
        """A second has passed."""
        self.age += 1
        stage = self.stage
        if self.flow.read_paused or (stage in ("idle", "over") and self._owing()):
            self.age = 0  # it waits for us
        elif self.age > self.seconds[stage]:
            if stage in ("head", "body"):
                self.refuse(too_slow(stage, self.seconds[stage]))
            else:
                self.transport.abort()

    @property
    def under_way(self) -> bool:
        """Whether a request is being read or answered."""
        return not self.transport.is_closing() and (self.stage in ("head", "body") or self._owing())

    def _owing(self) -> bool:
        """Whether a request is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _write(self, problem: Problem) -> None:
        body = problem.body(not self.url.startswith(b"/v2"))
        self.transport.write(
            head(self.server_state.default_headers, problem.status, problem.headers, len(body), False) + body
        )


class _Ending:
    """The transport as uvicorn's cycle of one request sees it: closing it ends the connection our way."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        self._protocol.end()


class Server(uvicorn.Server):
    """uvicorn's server, which looks over its connections once a second."""

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            for connection in self._bounded():
                connection.grow_older()
        return await super().on_tick(counter)

    async def drain(self, seconds: float) -> float:
        """Waits for requests that are under way by now, and takes others meanwhile; at most so long. Gives what is left of it."""
        deadline = time.monotonic() + seconds
        under_way = [connection for connection in self._bounded() if connection.under_way]
        for connection in under_way:
            if connection.cycle is not None:
                connection.cycle.keep_alive = False  # its answer ends the connection
        counter = 0
        while any(connection.under_way for connection in under_way) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            counter += 1
            if counter % 10 == 0:
                for connection in self._bounded():
                    connection.grow_older()
        return max(0.0, deadline - time.monotonic())

    def _bounded(self) -> list[BoundedProtocol]:
        return [c for c in self.server_state.connections if isinstance(c, BoundedProtocol)]


def head(default: list[tuple[bytes, bytes]], status: int, headers: Headers, length: int, keep_alive: bool) -> bytes:
    """The head of an answer, JSON unless `headers` say otherwise."""
    lines = [b"HTTP/1.1 %d %s" % (status, REASONS[status])]
    lines += [b"%s: %s" % pair for pair in (*default, *headers)]
    if not any(name == b"content-type" for name, _ in headers):
        lines.append(b"content-type: application/json")
    if not keep_alive:
        lines.append(b"connection: close")
    lines.append(b"content-length: %d\r\n\r\n" % length)
    return b"\r\n".join(lines)


def unreadable() -> Problem:
    """The 400 of what is not HTTP."""
    return Problem(
        400, Invalid("The request is not HTTP/1.1.", code="bad-http", hint="Is its head or its body's framing damaged?")
    )


def head_too_large() -> Problem:
    """The 431 that names the limits."""
    return Problem(
        431,
        Invalid(
            f"The request's headers are larger than {HEAD_LIMIT} bytes, or more than {FIELD_LIMIT}.",
            code="head-too-large",
            hint="Send what is large in the body.",
        ),
    )


def too_slow(what: str, seconds: int) -> Problem:
    """The 408 of a request that does not come to its end."""
    return Problem(
        408,
        Invalid(
            f"The rest of the request's {what} did not come within {seconds} s.",
            code="too-slow",
            hint="Send the request again, as a whole.",
        ),
    )
