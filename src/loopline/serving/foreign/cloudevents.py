"""CloudEvents 1.0 over HTTP: an event whose data are rows is answered by an event whose data are their predictions.

All content modes are read, and answered in the same one: binary (attributes are `ce-` headers, the body is the data), structured
(`application/cloudevents+json`, where `data_base64` holds what is no JSON) and batched (`application/cloudevents-batch+json`, a
list of such events, answered by a list in their order; where one cannot be answered none is, and the error names it). The data are
one row, a list of rows, or whatever POST /invocations reads, by their own `datacontenttype`. The answer's id follows from the
event's source and id: an event that is delivered twice is answered by one id. `causationid` is the event's id, `correlationid` and
`subject` are the event's own.
At KServe's path (/v1/models/NAME:predict) the data are what is asked there, and source and type are KServe's.
Source: cloudevents.io, the specification, its JSON format, HTTP binding and correlation extension; KServe's kserve/utils/utils.py.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec

from loopline.errors import Invalid
from loopline.serving.bodies import read, said
from loopline.serving.call import Call, Codec, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign import mlflow
from loopline.serving.foreign.rows import check_count
from loopline.serving.foreign.sagemaker import Invocation
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
_REQUIRED = ("id", "source", "type", "specversion")
_HINT = (
    "Send the attributes id, source, type and specversion: as headers `ce-id`, ..., or in a body of its JSON format."
)
_JSON = re.compile(r"^[^;]*[/+]json\s*(;.*)?$", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]+")
_LONGEST = 1024
"""Characters of an attribute that the answer carries on."""


class Data(Invocation):
    """The data of an event as rows, and one object a row as what is answered."""

    def __init__(self, content_type: str) -> None:
        super().__init__({b"content-type": content_type.encode("latin-1", "replace")})
        self.readers["application/json"] = _rows

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The predictions, each with its id."""
        return data_of(Outcome(call)), ()


def data_of(outcome: Outcome, rows: slice = slice(None)) -> bytes:
    """The data of an answer: who answered, and the predictions of these rows."""
    about = {name: value for name, value in outcome.about().items() if name in ("version", "model")}
    return msgspec.json.encode({**about, "predictions": outcome.objects()[rows]})


def _rows(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """The rows of JSON data: one row as an object, a list of them, or MLflow's forms."""
    value = read(body, mlflow.HINT)
    if isinstance(value, dict) and not any(form in value for form in mlflow.FORMS):
        return [value]
    return value if isinstance(value, list) else mlflow.from_json(body, endpoint, row_limit)


class Event:
    """One event's codec. `kserve`: who reads and writes its data at KServe's path."""

    def __init__(self, headers: dict[bytes, bytes], kserve: Codec | None = None) -> None:
        self._headers = headers
        self._type = headers.get(b"content-type", b"").decode("latin-1")
        self._structured = _media(self._type) == STRUCTURED
        self._kserve = kserve
        self._inner: Codec = kserve or Data("")
        self._event: dict[str, Any] = {}

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of an event's data. Raises `Problem`."""
        event, content, kind = self._taken(call.body)
        call.body = self._checked(event, content, kind)
        return self._inner.read(call, endpoint, row_limit)

    def part(self, event: Any, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of the data of an event that is a part of the call's body. Raises `Problem`."""
        call.body = self._checked(*_opened(event))
        return self._inner.read(call, endpoint, row_limit)

    def _checked(self, event: dict[str, Any], content: bytes | None, kind: str) -> bytes:
        """The data of an event that is one. Raises `Problem`."""
        for name in _REQUIRED:
            if not isinstance(event.get(name), str) or not event[name]:
                bad_input(f"The event has no attribute {name!r}.", "no-event", _HINT, field=name)
        if event["specversion"] != "1.0":
            bad_input(
                f"Events of specversion {said(event['specversion'])} are not read here.",
                "no-event",
                "Send 1.0.",
                field="specversion",
            )
        for name in ("id", "source", "subject", "correlationid"):
            if len(str(event.get(name, ""))) > _LONGEST:
                bad_input(
                    f"The attribute {name!r} has more than {_LONGEST} characters.",
                    "no-event",
                    "Shorten it.",
                    field=name,
                )
        if content is None:
            bad_input("The event has no data.", "no-event", "Send rows as its data.")
        self._event = event
        if self._kserve is None:
            self._inner = Data(_JSON.sub(r"application/json\1", kind))
        return content

    def _taken(self, body: bytes) -> tuple[dict[str, Any], bytes | None, str]:
        """The attributes of an event, its data, and their media type. Raises `Problem`."""
        if not self._structured:
            if _media(self._type).startswith("application/cloudevents"):
                raise Problem(
                    415,
                    Invalid(
                        f"Events in {said(_media(self._type))} are not read here.",
                        code="content-type",
                        hint=f"Send an event as {STRUCTURED} or with `ce-` headers; to /events, several as {BATCHED}, too.",
                    ),
                )
            return {n[3:].decode(): _decoded(v) for n, v in self._headers.items() if n[:3] == b"ce-"}, body, self._type
        return _opened(read(body, _HINT))

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The answer: an event of its own."""
        assert call.endpoint is not None
        data, _ = self._inner.write(call)
        attributes = self._attributes(call.endpoint.name)
        if not self._structured:
            return data, tuple((f"ce-{key}".encode(), _encoded(value)) for key, value in attributes.items())
        return _structured(attributes, data), ((b"content-type", STRUCTURED.encode()),)

    def answer(self, endpoint: str, data: bytes) -> bytes:
        """The answer to an event that came with others, of these data."""
        return _structured(self._attributes(endpoint), data)

    def _attributes(self, name: str) -> dict[str, str]:
        came = self._event
        about = f"{name}\0{came['source']}\0{came['id']}".encode(errors="replace")
        return {
            "specversion": "1.0",
            "id": blake2b(about, digest_size=16).hexdigest(),
            "source": f"/endpoints/{name}" if self._kserve is None else f"io.kserve.inference.{name}",
            "type": "loopline.prediction" if self._kserve is None else "io.kserve.inference.response",
            "time": datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            "causationid": came["id"],
            **{key: came[key] for key in ("correlationid", "subject") if isinstance(came.get(key), str) and came[key]},
        }

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """No event: an error of HTTP."""
        return self._kserve.refuse(problem) if self._kserve is not None else (problem.body(True), problem.headers)


class Batch:
    """The codec of a batch of events: all of them are answered, or none is."""

    def __init__(self) -> None:
        self._events: list[tuple[Event, int]] = []

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of all events' data. Raises `Problem`, which names the event."""
        events = read(call.body, _HINT)
        if not isinstance(events, list):
            bad_input("The batch is not a list of events.", "no-event", _HINT, got=said(events))
        if not events:
            bad_input("The batch has no events.", "no-event", "Send at least one.")
        together = Rows(rows=[], form="list")
        sent: list[bytes] = []
        for n, event in enumerate(events):
            one = Event({})
            try:
                found = one.part(event, call, endpoint, row_limit)
                check_count(len(together.rows) + len(found.rows), row_limit)
            except Problem as problem:
                raise _of(n, event, problem) from problem
            self._events.append((one, len(found.rows)))
            together.rows += found.rows
            sent.append((found.sent or b"[]")[1:-1])
            if found.keys is not None:
                together.keys = (together.keys or []) + found.keys
            for column, count in (found.unknown or {}).items():
                together.unknown = together.unknown or {}
                together.unknown[column] = together.unknown.get(column, 0) + count
        together.sent = b"[%s]" % b",".join(sent)
        return together

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """A batch of the answers, in the order of the events."""
        assert call.endpoint is not None
        outcome, start = Outcome(call), 0
        answers = []
        for event, count in self._events:
            answers.append(event.answer(call.endpoint.name, data_of(outcome, slice(start, start + count))))
            start += count
        return b"[%s]" % b",".join(answers), ((b"content-type", BATCHED.encode()),)

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """No event: an error of HTTP."""
        return problem.body(True), problem.headers


def _of(n: int, event: Any, problem: Problem) -> Problem:
    """A problem of one event of a batch."""
    id = event.get("id") if isinstance(event, dict) else None
    named = f"Event {n}" + (f" ({said(id)})" if isinstance(id, str) else "")
    error = problem.error
    told = type(error)(
        f"{named}: {error.message} None of the batch is answered.", code=error.code, hint=error.hint, **error.details
    )
    return Problem(problem.status, told, problem.headers)


def codec(headers: dict[bytes, bytes]) -> Codec:
    """Who reads an event, or a batch of them."""
    batched = _media(headers.get(b"content-type", b"").decode("latin-1")) == BATCHED
    return Batch() if batched else Event(headers)


def _opened(event: Any) -> tuple[dict[str, Any], bytes | None, str]:
    """The attributes of an event in the JSON format, its data, and their media type. Raises `Problem`."""
    if not isinstance(event, dict):
        bad_input("The event is not an object.", "no-event", _HINT, got=said(event))
    for name, value in event.items():
        if name not in ("data", "data_base64") and (
            not _NAME.fullmatch(name) or isinstance(value, dict | list | float)
        ):
            bad_input(f"The event has an attribute {name!r} that none can be.", "no-event", _HINT, field=name)
    kind = event.get("datacontenttype") or "application/json"
    if not isinstance(kind, str):
        bad_input("'datacontenttype' is not a text.", "no-event", "Leave it out: it is application/json then.")
    if event.get("data_base64") is not None:
        if "data" in event:
            bad_input("The event has 'data' and 'data_base64'.", "no-event", "Send one of them.")
        try:
            return event, base64.b64decode(event["data_base64"], validate=True), kind
        except (binascii.Error, ValueError, TypeError) as e:
            bad_input(f"'data_base64' is no base64: {e}.", "bad-base64", "Send rows as 'data'.")
    data = event.get("data")
    if data is None:
        return event, None, kind
    if isinstance(data, str) and not _JSON.match(kind):
        return event, data.encode(errors="replace"), kind
    try:
        return event, json.dumps(data, ensure_ascii=False).encode(), kind
    except RecursionError:
        bad_input("The event's data are nested too deep.", "not-rows", "Send rows.")


def _structured(attributes: dict[str, str], data: bytes) -> bytes:
    """An event in the JSON format."""
    return msgspec.json.encode({**attributes, "datacontenttype": "application/json", "data": msgspec.Raw(data)})


def is_event(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is an event."""
    return b"ce-specversion" in headers or headers.get(b"content-type", b"").lower().startswith(
        b"application/cloudevents"
    )


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _decoded(value: bytes) -> str:
    """An attribute from its header (HTTP binding, 3.1.3.2). Raises `Problem`."""
    text = value.strip()
    if len(text) > 1 and text[:1] == text[-1:] == b'"':
        text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as e:
        bad_input(f"An attribute of the event is not UTF-8: {e}.", "no-event", "Write other characters as %XX.")


def _encoded(value: str) -> bytes:
    """An attribute as a header."""
    return quote(value, safe="!#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
