"""CloudEvents 1.0 over HTTP: an event whose data are rows is answered by an event whose data are their predictions.

Both content modes are read, and answered in the same one: binary (attributes are `ce-` headers, the body is the data) and
structured (`application/cloudevents+json`, where `data_base64` holds what is no JSON). The data are one row, a list of rows, or
whatever POST /invocations reads, by their own `datacontenttype`. The answer's id follows from the event's source and id: an event
that is delivered twice is answered by one id. `causationid` is the event's id, `correlationid` and `subject` are the event's own.
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
from loopline.serving.foreign.sagemaker import Invocation
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

STRUCTURED = "application/cloudevents+json"
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
        outcome = Outcome(call)
        about = {name: value for name, value in outcome.about().items() if name in ("version", "model")}
        return msgspec.json.encode({**about, "predictions": outcome.objects()}), ()


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
        call.body = content
        return self._inner.read(call, endpoint, row_limit)

    def _taken(self, body: bytes) -> tuple[dict[str, Any], bytes | None, str]:
        """The attributes of an event, its data, and their media type. Raises `Problem`."""
        if not self._structured:
            if _media(self._type).startswith("application/cloudevents"):
                raise Problem(
                    415,
                    Invalid(
                        f"Events in {said(_media(self._type))} are not read here.",
                        code="content-type",
                        hint=f"Send one event a request, as {STRUCTURED} or with `ce-` headers.",
                    ),
                )
            return {n[3:].decode(): _decoded(v) for n, v in self._headers.items() if n[:3] == b"ce-"}, body, self._type
        event = read(body, _HINT)
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

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The answer: an event of its own."""
        assert call.endpoint is not None
        data, _ = self._inner.write(call)
        name, came = call.endpoint.name, self._event
        about = f"{name}\0{came['source']}\0{came['id']}".encode(errors="replace")
        attributes = {
            "specversion": "1.0",
            "id": blake2b(about, digest_size=16).hexdigest(),
            "source": f"/endpoints/{name}" if self._kserve is None else f"io.kserve.inference.{name}",
            "type": "loopline.prediction" if self._kserve is None else "io.kserve.inference.response",
            "time": datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            "causationid": came["id"],
            **{key: came[key] for key in ("correlationid", "subject") if isinstance(came.get(key), str) and came[key]},
        }
        if not self._structured:
            return data, tuple((f"ce-{key}".encode(), _encoded(value)) for key, value in attributes.items())
        event = {**attributes, "datacontenttype": "application/json", "data": msgspec.Raw(data)}
        return msgspec.json.encode(event), ((b"content-type", STRUCTURED.encode()),)

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """No event: an error of HTTP."""
        return self._kserve.refuse(problem) if self._kserve is not None else (problem.body(True), problem.headers)


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
