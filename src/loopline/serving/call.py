"""One inference request on its way through the engine."""

from __future__ import annotations

from loopline.serving.contract import Row, Rows
from loopline.serving.live import LiveEndpoint, LiveVariant
from loopline.serving.oip import Asked
from loopline.serving.problems import Problem

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


class Call:
    """One inference request in the engine. A door (protocol or ASGI) fills it in and is told the answer."""

    __slots__ = (
        "asked", "body", "columns", "endpoint", "first", "json_length", "key", "keys", "path", "pending", "plain", "problem",
        "request", "rows", "shares", "started",
    )  # fmt: skip

    def __init__(self) -> None:
        self.path = b""
        self.body = b""
        self.key: str | None = None
        self.json_length: int | None = None
        self.problem: Problem | None = None
        self.plain = True
        self.endpoint: LiveEndpoint | None = None
        self.started = 0.0
        self.request = ""
        self.first = 0
        self.rows: Rows | None = None
        self.keys: list[str | None] | str | None = None
        self.columns = b""
        self.asked: Asked | None = None
        self.shares: list[Share] = []
        self.pending = 0

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Sends the answer; the door's part."""
        raise NotImplementedError
