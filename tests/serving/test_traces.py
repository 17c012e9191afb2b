"""Traces: spans as OpenTelemetry's own protocol decodes them, of a receiver that is really there."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from loopline.errors import Invalid
from loopline.serving.records import BUCKETS
from loopline.serving.supervisor import Supervisor
from loopline.serving.traces import tracer

from .conftest import EXAMPLE, call, live, table, tensors

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Receiver:
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        receiver = self
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.resources.append({a.key: a.value.string_value for a in of.resource.attributes})
                    receiver.spans += [span for scope in of.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, roots: int) -> list[dict[str, Span]]:
        """The traced requests in order: the spans of each, by name ("" for its own)."""
        deadline = time.monotonic() + 30
        while len(found := [s for s in self.spans if s.kind == Span.SPAN_KIND_SERVER]) < roots:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        ordered = sorted(found, key=lambda span: span.start_time_unix_nano)
        return [
            {"": root, **{s.name: s for s in self.spans if s.parent_span_id == root.span_id}} for root in ordered
        ]  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def told(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.mark.parametrize("way", ["short", "asgi"])
def test_a_traced_request_has_its_spans_and_says_so(
    serve: Serve, plain_asgi: Callable[..., int], bundle: Bundle, receiver: Receiver, way: str
) -> None:
    options = {"trace_to": receiver.url, "trace_share": 0.0}
    first = table(1, live(bundle(version=3), 3))
    port = serve(first, **options).port if way == "short" else plain_asgi(first, **options)
    deadline = time.monotonic() + 30
    while way == "asgi":
        try:
            call(port, "GET", "/ping")
            break
        except OSError:
            assert time.monotonic() < deadline
    began = time.time_ns()
    answer = call(port, "POST", "/predict/risk", [EXAMPLE] * 2, {"traceparent": SAMPLED, "tracestate": "clinic=a7"})
    ended = time.time_ns()
    for header in (
        {"traceparent": UNSAMPLED},
        {},
        {"traceparent": "garbage"},
        {"traceparent": SAMPLED.replace("00-", "ff-")},
    ):
        assert "traceparent" not in call(port, "POST", "/predict/risk", [EXAMPLE], header).headers
    assert call(port, "POST", "/predict/risk", b"{", {"traceparent": SAMPLED}).status == 400
    good, bad = receiver.wait(2)
    root = good[""]
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == PARENT
    assert root.trace_state == "clinic=a7"
    assert answer.headers["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"
    assert root.name == "predict risk"
    said = told(root)
    assert (said["http.response.status_code"], said["loopline.rows"], said["loopline.endpoint"]) == (200, 2, "risk")
    assert answer.json["predictions"][0]["id"] == said["loopline.request"]
    assert good.keys() == {"", "parse", "queue", "model", "log"}
    assert (told(good["model"])["loopline.model"], told(good["model"])["loopline.batch"]) == ("model:risk@3", 2)
    for span in good.values():
        assert began - 1e6 <= root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano <= ended + 1e9
        assert span.trace_id.hex() == TRACE
    order = [good[name] for name in ("parse", "queue", "model", "log")]
    assert all(a.end_time_unix_nano <= b.start_time_unix_nano + 1000 for a, b in itertools.pairwise(order))
    assert told(bad[""])["error.type"] == "not-json"
    assert told(bad[""])["http.response.status_code"] == 400
    assert bad[""].status.code == Status.STATUS_CODE_UNSET, "a caller's fault is no error of the server"
    assert receiver.resources[0]["service.name"] == "loopline"


def test_each_variant_and_each_protocol(serve: Serve, bundle: Bundle, receiver: Receiver) -> None:
    import tritonclient.grpc as triton

    weights = (live(bundle(version=3), 3, BUCKETS // 2), live(bundle(version=4), 4, BUCKETS // 2, "challenger"))
    server = serve(table(1, *weights, route_key="visits"), trace_to=receiver.url, trace_share=1.0, grpc_port=0)
    rows = [{**EXAMPLE, "visits": n} for n in range(50)]
    assert call(server.port, "POST", "/invocations", {"instances": rows}).headers["traceparent"]
    client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    client.infer("risk", tensors(triton, rows[:1], (1,)), headers={"traceparent": SAMPLED})
    client.close()
    several, rpc = receiver.wait(2)
    below = [span for span in receiver.spans if span.parent_span_id == several[""].span_id and span.name == "model"]
    assert {told(span)["loopline.variant"] for span in below} == {"champion", "challenger"}
    assert not several[""].parent_span_id
    assert rpc[""].trace_id.hex() == TRACE


def test_a_share_is_traced_and_a_receiver_that_is_away_harms_nobody(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())), trace_to="http://127.0.0.1:9", trace_share=0.5)
    traced = ["traceparent" in call(server.port, "POST", "/predict/risk", [EXAMPLE]).headers for _ in range(60)]
    assert 5 < sum(traced) < 55
    server.stop()


def test_opentelemetry_is_imported_only_where_traces_are_asked_for() -> None:
    program = "import sys, loopline.serving.worker; print('opentelemetry' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
    assert tracer("", 0.01, 0) is None
    for address, share in (("127.0.0.1:4318", 0.5), ("http://127.0.0.1:4318", 1.5)):
        with pytest.raises(Invalid, match="cannot be sent"):
            tracer(address, share, 0)
