"""Traces: where the time of a request went, as spans that are exported by OTLP.

A request that comes with a W3C `traceparent` is traced where its caller traces it; of the others a share is. A traced one has a
span of its own, and below it `parse`, `queue`, `model` (one for each variant that answered) and `log`; its answer carries the
`traceparent` of that span. Spans are made after the answer is out, and sent by a thread. What is not traced costs one comparison,
and OpenTelemetry is imported only where traces are asked for.
Source: W3C Trace Context; OpenTelemetry's semantic conventions of HTTP.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from loopline.errors import Invalid, MissingExtra
from loopline.serving.call import Call, Trace

_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LATER = re.compile(rb"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SECONDS = 5.0
"""How long spans are tried to be sent; then they are dropped."""


class Tracer:
    """Traces the requests of one worker. `address` is where OTLP over HTTP is taken (`http://127.0.0.1:4318`).

    Raises `MissingExtra`, and `Invalid` for an address that is none.
    """

    def __init__(self, address: str, share: float, worker: int) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError as e:
            raise MissingExtra("Traces need OpenTelemetry's SDK.", extra="traces") from e
        self._share = share
        told = {"service.name": "loopline", "service.version": version("loopline"), "service.instance.id": str(worker)}
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(told), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces", timeout=_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("loopline.serving")

    def begin(self, parent: bytes | None, state: bytes | None = None, *, consumes: bool = False) -> Trace | None:
        """The trace of a request with these headers `traceparent` and `tracestate`; None: it is not traced.

        `consumes`: it is a message, for whose answer nobody waits.
        """
        found = None
        if parent is not None:
            found = _PARENT.fullmatch(parent) or _LATER.fullmatch(parent)
            if found is not None and (not found[1].strip(b"0") or not found[2].strip(b"0")):
                found = None
        if found is not None:
            if not int(found[3], 16) & 1:
                return None
        elif random.random() >= self._share:  # noqa: S311 (which requests are traced is no secret)
            return None
        return self._begun(found, state, consumes=consumes)

    def _begun(self, parent: re.Match[bytes] | None, state: bytes | None, *, consumes: bool) -> Trace:
        from opentelemetry import trace

        context = None
        if parent is not None:
            above = trace.SpanContext(
                int(parent[1], 16),
                int(parent[2], 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(1),
                trace_state=trace.TraceState.from_header([(state or b"").decode("latin-1")]),
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(above))
        now, zero = time.time_ns(), time.perf_counter()
        kind = trace.SpanKind.CONSUMER if consumes else trace.SpanKind.SERVER
        span = self._tracer.start_span("predict", context, kind=kind, start_time=now)
        return Trace(span, now - int(zero * 1e9))

    def end(self, calls: Iterable[tuple[Call, int]], logging: tuple[float, float], ended: float) -> None:
        """Makes the spans of answered calls, which are traced, with the status of each."""
        for call, status in calls:
            if call.trace is not None:
                self._end(call, call.trace, status, logging, ended)

    def _end(self, call: Call, traced: Trace, status: int, logging: tuple[float, float], ended: float) -> None:
        endpoint = call.endpoint.name if call.endpoint is not None else ""
        about: dict[str, Any] = {
            "url.path": call.path.decode("latin-1"),
            "http.response.status_code": status,
            "loopline.endpoint": endpoint,
            "loopline.request": call.request,
            "loopline.rows": len(call.rows.rows) if call.rows is not None else 0,
        }
        code = "" if call.problem is None else call.problem.error.code
        name, later = f"predict {endpoint}".rstrip(), [("log", *logging)]
        self.finish(traced, name, about, code, failed=bool(code) and status >= 500, later=later, ended=ended)

    def finish(
        self,
        traced: Trace,
        name: str,
        about: dict[str, Any],
        code: str,
        *,
        failed: bool,
        later: Sequence[tuple[str, float, float]],
        ended: float,
    ) -> None:
        """Makes the spans of what is traced: its own, with its facts and an error's code, and those of its parts.

        `later` are the parts behind the models' runs, with begin and end.
        """
        from opentelemetry import trace

        span = traced.span
        span.update_name(name)
        if code:
            about["error.type"] = code
        if failed:
            span.set_status(trace.StatusCode.ERROR, code)
        span.set_attributes(about)
        within = trace.set_span_in_context(span)

        def child(name: str, begin: float, end: float, **facts: Any) -> None:
            one = self._tracer.start_span(name, within, start_time=traced.at(begin), attributes=facts)
            one.end(traced.at(end))

        if traced.parsing:
            parsed = traced.parsed or later[0][1]
            child("parse", traced.parsing, parsed)
            if traced.runs:
                child("queue", parsed, min(begin for *_, begin, _ in traced.runs))
        for model, variant, rows, begin, finish in traced.runs:
            child(
                "model", begin, finish, **{"loopline.model": model, "loopline.variant": variant, "loopline.batch": rows}
            )
        for part in later:
            child(*part)
        span.end(traced.at(ended))

    def close(self) -> None:
        """Sends what is left; waits some seconds for it at most."""
        self._provider.shutdown()


def tracer(address: str, share: float, worker: int) -> Tracer | None:
    """The tracer of a worker; None where no address is given. Raises as `Tracer` does."""
    if not address:
        return None
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address) or not 0 <= share <= 1:
        raise Invalid(
            f"Traces cannot be sent to {address!r}, {share:g} of all.",
            code="bad-setting",
            hint="Give trace_to an address like http://127.0.0.1:4318, and trace_share a number of 0 to 1.",
        )
    return Tracer(address, share, worker)
