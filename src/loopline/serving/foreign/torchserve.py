"""TorchServe's inference calls: POST /predictions/NAME[/VERSION] and /explanations/NAME[/VERSION], and what /models tells.

What a body means is a handler's matter there; here it is rows as JSON or CSV: one row, which is answered by one object, a list
of them, which is answered by a list, or TorchServe's envelope {"instances": [...]}, which is answered by {"predictions": [...]}. A
form (`-F data=@rows.json`, `-d data=...`) holds the same in its field `data`.
Source: inference_api.md, management_api.md, request_envelopes.md of TorchServe 0.12.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from loopline.errors import Conflict
from loopline.serving.bodies import read, said
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Contract, Rows
from loopline.serving.foreign import rows
from loopline.serving.live import Live, LiveEndpoint, LiveVariant
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

HINT = 'Send {"column": value, ...}, a list of them, or {"instances": [...]}, as JSON; or a table as text/csv.'
_ERRORS = {
    400: "BadRequestException", 401: "InvalidKeyException", 403: "InvalidKeyException", 404: "ModelNotFoundException",
    405: "MethodNotAllowedException", 413: "RequestEntityTooLargeException", 500: "InternalServerException",
    503: "ServiceUnavailableException",
}  # fmt: skip
_FIELDS = ("data", "body")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'(?:^|[;\s])name="?([^";]*)"?', re.IGNORECASE)
_LISTED = 100
"""Models of a page of the list, where no limit is asked for."""


class Prediction:
    """One request's codec."""

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self._type = headers.get(b"content-type", b"").decode("latin-1")
        self._form = ""

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of a body. Raises `Problem`."""
        kind, content = self._unpacked(call.body)
        if kind == "text/csv":
            self._form = "list"
            fields = endpoint.variants[0].signature.inputs
            return rows.check(endpoint.contract, rows.from_csv(content, fields, row_limit), row_limit)
        return rows.check(endpoint.contract, self._rows(read(content, HINT), endpoint.contract), row_limit)

    def _rows(self, value: Any, contract: Contract) -> list[Any]:
        self._form = "list"
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            bad_input("The body has no rows.", "not-rows", HINT, got=said(value))
        if value.keys() == {"instances"} and "instances" not in contract.names:
            self._form = "envelope"
            if not isinstance(value["instances"], list):
                bad_input("'instances' is not a list.", "not-rows", HINT, got=said(value["instances"]))
            found: list[Any] = value["instances"]
            return found
        self._form = "one"
        return [value]

    def _unpacked(self, body: bytes) -> tuple[str, bytes]:
        """The media type of the rows and their bytes, out of a form where they came in one. Raises `Problem`."""
        kind = self._type.partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return field(_parts(self._type, body))
        if kind == "application/x-www-form-urlencoded" and body.lstrip()[:1] not in (b"{", b"["):
            try:
                pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100)
            except ValueError as e:
                bad_input(f"The form cannot be read: {e}.", "bad-form", HINT)
            return field([(name, "", text.encode()) for name, text in pairs])
        return kind, body

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The predictions, in the form that the rows came in."""
        found = Outcome(call).objects()
        return msgspec.json.encode(self._formed(found, "predictions")), ()

    def explain(self, call: Call, found: list[Any] | None, problem: Problem | None) -> tuple[bytes, Headers]:
        """The explanations, in the form that the rows came in. Raises the `Problem` that there is with them."""
        if problem is not None:
            raise problem
        return msgspec.json.encode(self._formed(found or [], "explanations")), ()

    def _formed(self, found: list[Any], name: str) -> Any:
        if self._form == "envelope":
            return {name: found}
        return found[0] if self._form == "one" else found

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """TorchServe's shape of an error."""
        return refuse(problem), problem.headers


def _parts(content_type: str, body: bytes) -> list[tuple[str, str, bytes]]:
    """The fields of a form of several parts: name, media type, content. Raises `Problem`."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        bad_input("The form's content type names no boundary.", "bad-form", HINT)
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode("latin-1"))
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        bad_input("The form does not end with its boundary.", "bad-form", "Is it cut off?")
    found = []
    for piece in pieces[1:-1]:
        head, whole, content = piece.partition(b"\r\n\r\n")
        headers = {}
        for line in head.split(b"\r\n"):
            key, _, text = line.partition(b":")
            headers[key.strip().lower()] = text.strip()
        name = _NAME.search(headers.get(b"content-disposition", b""))
        if not whole or name is None:
            bad_input("A part of the form has no name.", "bad-form", HINT)
        kind = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1").strip().lower()
        found.append((name[1].decode("utf-8", "replace"), kind, content))
    return found


def field(fields: list[tuple[str, str, bytes]]) -> tuple[str, bytes]:
    """The one field that holds the rows. Raises `Problem`."""
    given = [(kind, content) for name, kind, content in fields if name in _FIELDS]
    if len(given) != 1:
        names = ", ".join(repr(name) for name, _, _ in fields)[:200] or "none"
        bad_input(f"The form has the fields {names}, and one 'data' is wanted.", "bad-form", HINT)
    return given[0]


def refuse(problem: Problem) -> bytes:
    """TorchServe's shape of an error: status, type and message."""
    kind = _ERRORS.get(problem.status, "BadRequestException")
    if problem.error.code == "no-version":
        kind = "ModelVersionNotFoundException"
    return msgspec.json.encode({"code": problem.status, "type": kind, "message": str(problem.error)})


def models(live: Live, names: list[str], query: bytes) -> dict[str, Any]:
    """The answer to GET /models, of these endpoints. Raises `Problem`."""
    asked = dict(parse_qsl(query.decode("latin-1")))
    limit, start = (_number(asked, name, default) for name, default in (("limit", _LISTED), ("next_page_token", 0)))
    names = [name for name in names if name in live.endpoints]
    page = names[start : start + limit]
    listed = [{"modelName": name, "modelUrl": live.endpoints[name].variants[0].model} for name in page]
    more = {"nextPageToken": str(start + limit)} if len(names) > start + limit else {}
    return {**more, "models": listed}


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        bad_input(f"{name}={text[:40]!r} is no number.", "bad-query", "Leave it out.")
    return int(text)


def described(endpoint: LiveEndpoint, only: LiveVariant | None) -> list[dict[str, Any]]:
    """The answer to GET /models/NAME[/VERSION]: the versions that answer."""
    found = dict.fromkeys(v.version for v in ([only] if only is not None else endpoint.variants))
    return [_one(endpoint, next(v for v in endpoint.variants if v.version == version)) for version in found]


def _one(endpoint: LiveEndpoint, variant: LiveVariant) -> dict[str, Any]:
    worker = {"id": str(os.getpid()), "status": "READY", "pid": os.getpid(), "gpu": False, "gpuUsage": "N/A"}
    return {
        "modelName": endpoint.name,
        "modelVersion": variant.version,
        "modelUrl": variant.model,
        "runtime": variant.served.manifest.runtime,
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 1,
        "maxBatchDelay": 0,
        "loadedAtStartup": True,
        "workers": [worker],
    }


def ruled() -> Problem:
    """The refusal of a registration: what is served is decided elsewhere."""
    return Problem(
        409,
        Conflict(
            "Models are not registered here.",
            code="deployment-rules",
            hint="Use `loopline deploy`, or `loopline serve MODEL ...` anew.",
        ),
    )
