"""What goes back over HTTP: results and errors. The only place that maps an error to a status."""

from __future__ import annotations

import logging
import os
import secrets
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import FileResponse, Response
from starlette.types import Send

from loopline.api.pages import refused
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.operations import Bytes

STATUS: dict[type[LooplineError], int] = {
    NotFound: 404,
    Invalid: 400,
    Refused: 403,
    Conflict: 409,
    Unavailable: 503,
    MissingExtra: 501,
}
"""The status of each branch of the family."""

STATUS_OF_CODE = {"unauthenticated": 401, "bad-method": 405, "too-large": 413}
"""Codes that HTTP has a status of its own for."""

INERT = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""What a stored file may do when a browser shows it: nothing."""

FILE, FILE_SIZE = "x-loopline-file", "x-loopline-file-size"
"""Headers of an answer to a serving worker on this machine: the file that is the body, in its stead, and its bytes."""

_OWN_PAGES = frozenset(
    {"datasets.profile", "evaluations.plot", "evaluations.report", "models.card", "monitors.drift", "runs.plot"}
)
"""What is drawn by the platform itself, every name in it escaped. All other files may be of anybody: a browser saves them."""

_CHALLENGES = ('Bearer realm="loopline"', 'Basic realm="loopline", charset="UTF-8"')
"""Each on a line of its own: Chromium reads but the first of those on one line, and would never ask for a password."""

_log = logging.getLogger("loopline.api")


def answer(result: Any, operation: str, known: str = "") -> Response:
    """The response to a call of an operation that went well. `known`: the `If-None-Match` of the request."""
    if result is None:
        return Response(status_code=204)
    if not isinstance(result, Bytes):
        return Response(msgspec.json.encode(result), media_type="application/json")
    shown = "inline" if operation in _OWN_PAGES else "attachment"
    named = f"; filename*=UTF-8''{quote(result.name, safe='')}" if result.name else ""
    headers = {"Content-Security-Policy": INERT, "Content-Disposition": f"{shown}{named}"}
    if result.digest:
        headers["ETag"] = f'"{result.digest}"'
        if headers["ETag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
    response = _File(result.path, headers=headers) if result.path else Response(result.data, headers=headers)
    response.headers["Content-Type"] = result.media  # as it is: Starlette would add a charset to text
    return response


class _File(FileResponse):
    """A file or the range of it that is asked for, read in pieces that are worth the way to a thread."""

    chunk_size = 1 << 20

    def set_stat_headers(self, stat_result: os.stat_result) -> None:
        super().set_stat_headers(stat_result)
        del self.headers["last-modified"]  # it would tell when anybody put the same bytes last, in any project

    async def _handle_simple(self, send: Send, send_header_only: bool, send_pathsend: bool) -> None:
        """Names the file to a serving worker, which reads it itself."""
        if send_header_only or not send_pathsend:
            await super()._handle_simple(send, send_header_only, send_pathsend)
            return
        told = {FILE: str(self.path), FILE_SIZE: self.headers["content-length"], "content-length": "0"}
        self.headers.update(told)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b""})

    def _should_use_range(self, http_if_range: str) -> bool:
        return http_if_range == self.headers["etag"]


def refusal(error: Exception, *, accept: str = "") -> Response:
    """The response to a call that failed. What is not ours is a 500 with an id that the log explains, and nothing else.

    It is JSON, or a page where `accept` (the request's header) asks for one by name, as browsers do.
    """
    if not isinstance(error, LooplineError):
        number = secrets.token_hex(6)
        _log.error("internal error %s", number, exc_info=error)
        error = Unavailable(
            f"Something failed inside the server; its log has it under {number}.", code="internal", id=number
        )
        return _shape(error, 500, accept)
    kind = next(kind for kind in STATUS if isinstance(error, kind))
    return _shape(error, STATUS_OF_CODE.get(error.code, STATUS[kind]), accept)


def challenged(response: Response) -> Response:
    """The response, with how one can say who one is."""
    for challenge in _CHALLENGES:
        response.headers.append("WWW-Authenticate", challenge)
    return response


def _shape(error: LooplineError, status: int, accept: str) -> Response:
    if "text/html" in accept.lower():
        response = Response(refused.page(error, status), status, media_type="text/html")
    else:
        response = Response(msgspec.json.encode(error.to_dict()), status, media_type="application/json")
    if status == 401:
        challenged(response)
    if status == 405:
        response.headers["Allow"] = ", ".join(error.details.get("allowed", ()))
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
