"""Refusals of the data plane: an error of the family, with the HTTP status that it is answered with."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable, did_you_mean
from loopline.ports.runtime import ModelDown, ModelSlow

REASONS = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout",
    413: b"Content Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type",
    421: b"Misdirected Request", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
}  # fmt: skip


class Problem(Exception):
    """A request that is not answered with a prediction. `status` is HTTP's, `error` says what and the way out.

    A 503 says when to come again; in a second, where `headers` say nothing else.
    """

    def __init__(self, status: int, error: LooplineError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(str(error))
        if status == 503 and not any(name == b"retry-after" for name, _ in headers):
            headers = (*headers, (b"retry-after", b"1"))
        self.status = status
        self.error = error
        self.headers = headers

    def body(self, plain: bool) -> bytes:
        """JSON: the platform's one shape of an error, or the Open Inference Protocol's `{"error": text}`."""
        if plain:
            return msgspec.json.encode(self.error.to_dict())
        return msgspec.json.encode({"error": str(self.error)})


def bad_input(message: str, code: str = "bad-input", hint: str = "", **details: Any) -> NoReturn:
    """Raises the 400 that names what is wrong in the request."""
    raise Problem(400, Invalid(message, code=code, hint=hint, **details))


def too_large(message: str, code: str, hint: str, **details: Any) -> Problem:
    """A 413."""
    return Problem(413, Invalid(message, code=code, hint=hint, **details))


def no_endpoint(name: str, known: Any) -> Problem:
    """The 404 of an endpoint that is not in the table, with the nearest one that is."""
    return Problem(
        404,
        NotFound(f"There is no endpoint {name!r}.", code="no-endpoint", hint=did_you_mean(name, known), endpoint=name),
    )


def endpoint_down(name: str) -> Problem:
    """The 503 of an endpoint whose models could not be loaded; why is in the server's log, not for every caller."""
    return Problem(
        503,
        Unavailable(
            f"Endpoint {name!r} is not served: the bundle of its model cannot be opened.",
            code="endpoint-down",
            hint="The server's log says why; `loopline models verify` tells what is amiss in the registry.",
            endpoint=name,
        ),
    )


def unloaded(name: str) -> Problem:
    """The 404 of a model that was unloaded and can be loaded again."""
    return Problem(
        404,
        NotFound(
            f"The model {name!r} is not loaded.",
            code="unloaded",
            hint=f"Load it: POST /v2/repository/models/{name}/load",
            endpoint=name,
        ),
    )


def of_error(error: LooplineError) -> Problem:
    """An error of the family with the status that its branch has."""
    branches = ((NotFound, 404), (Invalid, 400), (Refused, 403), (Unavailable, 503))
    return Problem(next((status for branch, status in branches if isinstance(error, branch)), 409), error)


def wrong_method(method: str, allowed: str) -> Problem:
    """The 405 that names the method to use."""
    return Problem(
        405,
        Invalid(f"{method} is not answered here.", code="wrong-method", hint=f"Use {allowed}."),
        ((b"allow", allowed.encode()),),
    )


def no_token() -> Problem:
    """The 401 of a caller who is neither this operating-system user on this machine nor has a token."""
    return Problem(
        401,
        Refused("This caller is not known.", code="no-token", hint="Send `Authorization: Bearer TOKEN`."),
        ((b"www-authenticate", b"Bearer"),),
    )


def wrong_token(endpoint: str | None) -> Problem:
    """The 403 of a token that is good, but not for this endpoint (None: for none)."""
    what = "any endpoint" if endpoint is None else repr(endpoint)
    return Problem(
        403, Refused(f"This token may not call {what}.", code="not-allowed", hint="Ask an admin of the project for it.")
    )


def foreign(header: str, value: str) -> Problem:
    """The refusal of a Host or Origin header that is not this server's (DNS rebinding, foreign pages)."""
    status = 421 if header == "Host" else 403
    return Problem(
        status,
        Refused(
            f"{header} {value!r} is not this server.",
            code=f"foreign-{header.lower()}",
            hint="Use the server's own address, or add the name to the setting allowed_hosts.",
        ),
    )


def busy(what: str, code: str = "busy") -> Problem:
    """The 503 of a part that cannot take more for now; tells when to come again."""
    return Problem(503, Unavailable(what, code=code, hint="Try again in a second."))


def unanswered(model: str, error: Exception) -> Problem:
    """What a model's failure is answered with: 503, come again, where nothing answered at all, 500 where the model failed."""
    if isinstance(error, ModelSlow):
        return busy(f"{model} did not answer in its time.", "model-slow")
    if isinstance(error, ModelDown):
        return busy(f"{model} does not answer; it is being started again.", "model-down")
    return model_failed(model, type(error).__name__)


def model_failed(model: str, why: str) -> Problem:
    """The 500 of a model that does not answer, or not with finite numbers: the model's fault and never the caller's."""
    return Problem(
        500, Unavailable(f"{model} did not answer: {why}", code="model-failed", hint="The caller did nothing wrong.")
    )
