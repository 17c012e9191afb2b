"""Traces of a stream's messages: each that its producer traces is a span there, and its answer carries that span on.

Below the span `process TOPIC` are `parse`, `queue`, `model`, `send` and `log`, as a request has them. A message that is not traced
here hands its trace on as it came. Source: W3C Trace Context; OpenTelemetry's semantic conventions of messaging.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from loopline.ports.stream import Came
from loopline.ports.stream import Trace as Context
from loopline.serving.call import Trace
from loopline.serving.messages import Bad, Model, Taken
from loopline.serving.traces import Tracer


class Times:
    """When the parts of a batch began and ended, by time.perf_counter."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self.spans: dict[str, tuple[float, float]] = {}

    def begins(self, part: str) -> None:
        """A part begins."""
        self.spans[part] = time.perf_counter(), 0.0

    def ends(self, part: str) -> float:
        """A part ends; gives the seconds that it took."""
        begun, _ = self.spans[part]
        self.spans[part] = begun, (now := time.perf_counter())
        return now - begun

    def since_begun(self) -> float:
        """Seconds since the batch was taken."""
        return time.perf_counter() - self._begun


class Traces:
    """The traces of one stream, by `tracer` (None: nothing is traced). `system` is what brings the messages: kafka, mqtt."""

    def __init__(self, tracer: Tracer | None, system: str) -> None:
        self._tracer = tracer
        self._system = system
        self._open: dict[str, Trace] = {}

    def begin(self, came: Iterable[Came]) -> None:
        """A batch was taken."""
        self._open.clear()
        if self._tracer is None:
            return
        for one in came:
            parent, state = (part.encode() or None for part in one.trace)
            if (trace := self._tracer.begin(parent, state, consumes=True)) is not None:
                self._open[one.id] = trace

    def parsed(self, one: Came, read: Callable[[Came], Taken]) -> Taken:
        """What `read` makes of a message; raises what it does."""
        if (trace := self._open.get(one.id)) is None:
            return read(one)
        trace.parsing = time.perf_counter()
        try:
            return read(one)
        finally:
            trace.parsed = time.perf_counter()

    def on(self, one: Came) -> Context:
        """What is sent on with the answer to a message."""
        if (trace := self._open.get(one.id)) is None:
            return one.trace
        return Context(trace.header()[1].decode(), one.trace.state)

    def end(self, model: Model, answered: Sequence[Came], bad: Sequence[tuple[Came, Bad]], times: Times) -> None:
        """All of the batch is answered or aside, and the stream has moved on."""
        if self._tracer is None or not self._open:
            return
        ended = time.perf_counter()
        asked = {one.id for one in answered} | {one.id for one, why in bad if why.code in ("model-failed", "not-sent")}
        codes = {one.id: why for one, why in bad}
        spans = [(name, *times.spans[name]) for name in ("send", "log")]
        for one in (*answered, *(one for one, _ in bad)):
            if (trace := self._open.pop(one.id, None)) is None:
                continue
            if one.id in asked:
                trace.runs.append((model.variant.model, "stream", len(asked), *times.spans["model"]))
            why = codes.get(one.id)
            self._tracer.finish(
                trace,
                f"process {one.place.get('topic', '')}".rstrip(),
                self._facts(one, model),
                "" if why is None else why.code,
                failed=why is not None and why.status >= 500,
                later=spans,
                ended=ended,
            )

    def _facts(self, one: Came, model: Model) -> dict[str, Any]:
        place = one.place
        found: dict[str, Any] = {
            "messaging.system": self._system,
            "messaging.operation.type": "process",
            "messaging.destination.name": place.get("topic", ""),
            "messaging.message.id": one.id,
            "loopline.endpoint": model.endpoint.name,
            "loopline.request": model.id(one),
        }
        if "partition" in place:
            found["messaging.destination.partition.id"] = str(place["partition"])
            found["messaging.kafka.offset"] = place["offset"]
        return found

    def close(self) -> None:
        """Sends what is left; waits some seconds for it at most."""
        if self._tracer is not None:
            self._tracer.close()
