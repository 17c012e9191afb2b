"""Errors as MLflow's clients know them: a code, a message, and a status that follows from the code.

Clients try again on 408, 429 and 5xx, so what a user did wrong is never one of these.
"""

from __future__ import annotations

import logging
import secrets

import msgspec
from starlette.responses import Response

from loopline.api.answers import challenged
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable

STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "INTERNAL_ERROR": 500,
    "INVALID_STATE": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
"""The status of each code."""

_CLASSES = {
    "BAD_REQUEST": ("INVALID_PARAMETER_VALUE", "KAM00"),
    "ENDPOINT_NOT_FOUND": ("RESOURCE_NOT_FOUND", "KAM00"),
    "INTERNAL_ERROR": ("CLIENT_INTERNAL_ERROR", "XXM00"),
    "INVALID_PARAMETER_VALUE": ("INVALID_PARAMETER_VALUE", "KAM00"),
    "INVALID_STATE": ("CLIENT_INTERNAL_ERROR", "XXM00"),
    "PERMISSION_DENIED": ("PERMISSION_DENIED", "KAM00"),
    "RESOURCE_ALREADY_EXISTS": ("RESOURCE_ALREADY_EXISTS", "KAM00"),
    "RESOURCE_DOES_NOT_EXIST": ("RESOURCE_NOT_FOUND", "KAM00"),
    "TEMPORARILY_UNAVAILABLE": ("CLIENT_INTERNAL_ERROR", "XXM00"),
}
"""The class and SQLSTATE that MLflow's own server adds to a code; the other codes have none."""

_OF_BRANCH: dict[type[LooplineError], str] = {
    NotFound: "RESOURCE_DOES_NOT_EXIST",
    Invalid: "INVALID_PARAMETER_VALUE",
    Refused: "PERMISSION_DENIED",
    Conflict: "RESOURCE_CONFLICT",
    Unavailable: "TEMPORARILY_UNAVAILABLE",
    MissingExtra: "NOT_IMPLEMENTED",
}

_log = logging.getLogger("loopline.api")


class Problem(Exception):
    """What MLflow's server would answer in place of a result. `status`: where it is not the code's own."""

    def __init__(self, message: str, code: str = "INVALID_PARAMETER_VALUE", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status or STATUS[code]


def translated(error: Exception) -> Problem:
    """The error in MLflow's words. What is not ours is told to the log alone, under a number."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, LooplineError):
        if error.code == "unauthenticated":
            return Problem(str(error), "UNAUTHENTICATED")
        return Problem(str(error), next(code for branch, code in _OF_BRANCH.items() if isinstance(error, branch)))
    number = secrets.token_hex(6)
    _log.error("internal error %s", number, exc_info=error)
    return Problem(f"Something failed inside the server; its log has it under {number}.", "INTERNAL_ERROR")


def refusal(error: Exception) -> Response:
    """The response to a call that failed."""
    problem = translated(error)
    shape = {"error_code": problem.code, "message": problem.message}
    if problem.code in _CLASSES:
        shape["error_class"], shape["sqlstate"] = _CLASSES[problem.code]
    response = Response(msgspec.json.encode(shape), problem.status, media_type="application/json")
    if problem.status == 503:
        response.headers["Retry-After"] = "1"
    return challenged(response) if problem.status == 401 else response
