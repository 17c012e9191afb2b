"""The conformance suite of the ports of streams (needs pytest).

class TestMine(StreamLaws):
    @pytest.fixture
    def stream(self, tmp_path):
        return MyStream(tmp_path)
"""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

from loopline.ports.stream import Came, Inflow, Outflow, Sent


class Stream(Protocol):
    """A stream of the tests; a broker that is really there."""

    def put(self, *contents: bytes) -> None:
        """Sends messages into the stream, in this order, to one partition."""
        ...

    def inflow(self) -> Inflow:
        """What reads the stream from its start, and from where it was, if it is opened again."""
        ...

    def outflow(self) -> Outflow:
        """What writes to another stream."""
        ...

    def sent(self) -> list[tuple[str, bytes]]:
        """The ids and contents in that other stream, in order."""
        ...


class StreamLaws:
    """Every pair of `Inflow` and `Outflow` passes these; a subclass gives the fixture `stream`, which is empty."""

    def test_what_comes_is_given_in_order_and_once(self, stream: Stream) -> None:
        with contextlib.closing(stream.inflow()) as inflow:
            assert inflow.take(10, 0.2) == []
            stream.put(*_contents(0, 5))
            found = _taken(inflow, 5)
            inflow.answered()
            stream.put(*_contents(5, 8))
            found += _taken(inflow, 3)
            assert [one.content for one in found] == _contents(0, 8)
            assert len({one.id for one in found}) == 8
            assert inflow.take(10, 0.2) == []

    def test_what_was_not_answered_is_given_again_by_the_same_ids(self, stream: Stream) -> None:
        with contextlib.closing(stream.inflow()) as inflow:
            inflow.take(1, 0.2)
            stream.put(*_contents(0, 4))
            first = _taken(inflow, 4)
        with contextlib.closing(stream.inflow()) as inflow:
            again = _taken(inflow, 4)
            assert again == first
            inflow.answered()
        stream.put(*_contents(4, 6))
        with contextlib.closing(stream.inflow()) as inflow:
            assert [one.content for one in _taken(inflow, 2)] == _contents(4, 6)

    def test_no_more_is_given_than_was_asked_for(self, stream: Stream) -> None:
        with contextlib.closing(stream.inflow()) as inflow:
            inflow.take(1, 0.2)
            stream.put(*_contents(0, 7))
            found = _taken(inflow, 3, most=3)
            assert len(found) == 3
            inflow.answered()
        with contextlib.closing(stream.inflow()) as inflow:
            assert [one.content for one in _taken(inflow, 4)] == _contents(3, 7)

    def test_what_is_put_is_there_when_it_returns(self, stream: Stream) -> None:
        messages = [Sent(f"m{n}", content) for n, content in enumerate(_contents(0, 600))]
        with contextlib.closing(stream.outflow()) as outflow:
            assert outflow.put(messages, lambda: False) == {}
            assert outflow.put([Sent("last", b"end")], lambda: False) == {}
            assert outflow.put([], lambda: False) == {}
        assert stream.sent() == [(one.id, one.content) for one in (*messages, Sent("last", b"end"))]


def _contents(start: int, end: int) -> list[bytes]:
    return [b'{"n": %d}' % n for n in range(start, end)]


def _taken(inflow: Inflow, count: int, *, most: int = 100) -> list[Came]:
    found: list[Came] = []
    deadline = time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += inflow.take(min(most, count - len(found)) if most < 100 else most, 0.5)
    return found
