"""One inference request on its way through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from loopline.serving.contract import Row, Rows
from loopline.serving.live import LiveEndpoint, LiveVariant
from loopline.serving.oip import Asked
from loopline.serving.problems import Problem

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Headers = tuple[tuple[bytes, bytes], ...]


class Share:
    """The rows of a call that one variant scores."""

    __slots__ = ("at", "call", "output", "problem", "rows", "variant")

    def __init__(self, call: Call, variant: LiveVariant, rows: list[Row], at: list[int] | None) -> None:
        self.call = call
        self.variant = variant
        self.rows = rows
        self.at = at
        self.output: list[list[float]] = []
        self.problem: Problem | None = None


class Codec(Protocol):
    """How another protocol asks and is answered, for one call; the two that are native here need none."""

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The checked rows of the call's body. Raises `Problem`."""
        ...

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The body and headers of the answer. Raises `Problem`."""
        ...

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The body and headers of a refusal."""
        ...


class Trace:
    """The times of one request, by time.perf_counter."""

    __slots__ = ("_zero", "parsed", "parsing", "runs", "span")

    def __init__(self, span: Span, zero: int) -> None:
        self.span = span
        self._zero = zero
        self.parsing = self.parsed = 0.0
        self.runs: list[tuple[str, str, int, float, float]] = []
        """Model, variant, rows, begin and end of each run."""

    def at(self, counter: float) -> int:
        """A time as nanoseconds since 1970."""
        return self._zero + int(counter * 1e9)

    def header(self) -> tuple[bytes, bytes]:
        """The answer's header."""
        context = self.span.get_span_context()
        return b"traceparent", b"00-%032x-%016x-01" % (context.trace_id, context.span_id)


class Call:
    """One inference request in the engine. A door (protocol or ASGI) fills it in and is told the answer."""

    # Defaults of the class: making a call sets nothing, most of them need few of these.
    path: bytes = b""
    body: bytes = b""
    key: str | None = None
    caller: str = ""
    """Who asks; see `access.caller`."""
    deadline: float = 0.0
    """When nobody waits for the answer any more, by time.perf_counter; 0: never."""
    json_length: int | None = None
    problem: Problem | None = None
    plain: bool = True
    codec: Codec | None = None
    endpoint: LiveEndpoint | None = None
    started: float = 0.0
    request: str = ""
    first: int = 0
    rows: Rows | None = None
    keys: list[str | None] | str | None = None
    columns: bytes = b""
    asked: Asked | None = None
    shares: Sequence[Share] = ()
    pending: int = 0
    explains: bool = False
    """Whether the answer is to be explained."""
    trace: Trace | None = None

    def refusal(self, problem: Problem) -> tuple[bytes, Headers]:
        """The body and headers of a refusal, as the caller's protocol has them."""
        if self.codec is not None:
            return self.codec.refuse(problem)
        return problem.body(self.plain), problem.headers

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Sends the answer; the door's part."""
        raise NotImplementedError


class WaitingCall(Call):
    """A request on the ordinary way: whoever sent it waits for `done`."""

    def __init__(self, done: asyncio.Future[tuple[int, bytes, Headers]]) -> None:
        self.done = done

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Wakes who waits; nobody does where the client went away."""
        if not self.done.done():
            self.done.set_result((status, body, headers))
