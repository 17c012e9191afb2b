"""SageMaker's protocol: GET /ping and POST /invocations of a container, POST /endpoints/NAME/invocations of its runtime.

A body is read as MLflow's scoring reads it (JSON and CSV, with or without a line of names), as JSON Lines, or as a plain list of
rows. `Accept: text/csv` and `application/jsonlines` get one prediction a line. The answer's header names the variant.
Source: the SageMaker developer guide, "Use your own inference code", and botocore's model of sagemaker-runtime.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from loopline.errors import Invalid
from loopline.serving.bodies import read
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign import mlflow
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem

LINES = ("application/jsonlines", "application/x-jsonlines", "application/x-ndjson")
_ERRORS = {
    400: b"ValidationError", 401: b"AccessDeniedException", 403: b"AccessDeniedException", 404: b"ValidationError",
    413: b"ValidationError", 415: b"ValidationError", 500: b"InternalFailure", 503: b"ServiceUnavailable",
}  # fmt: skip


class Invocation(mlflow.Scoring):
    """One request's codec: what MLflow's scoring does, and what only SageMaker's callers ask."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        def text(name: bytes) -> str:
            return headers.get(name, b"").decode("latin-1")

        super().__init__(text(b"content-type") or "application/json")
        self.readers |= {"application/json": _from_json} | dict.fromkeys(LINES, _from_lines)
        self._accept = text(b"accept") or text(b"x-amzn-sagemaker-accept")
        self._variant = text(b"x-amzn-sagemaker-target-variant")

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of a body. Raises `Problem`."""
        if self._variant:
            raise Problem(
                400,
                Invalid(
                    "Callers do not choose the variant here.",
                    code="target-variant",
                    hint="Leave TargetVariant out: the endpoint's weights decide. A rollout changes them.",
                ),
            )
        return super().read(call, endpoint, row_limit)

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The predictions of an answered call, as the caller accepts them."""
        outcome = Outcome(call)
        variant = outcome.first.name if not outcome.mixed else "several"
        headers: Headers = ((b"x-amzn-invoked-production-variant", variant.encode()),)
        for kind in (part.partition(";")[0].strip().lower() for part in self._accept.split(",")):
            if kind == "text/csv":
                return _as_csv(outcome.predictions()), (*headers, (b"content-type", b"text/csv; charset=utf-8"))
            if kind in LINES:
                lines = b"".join(msgspec.json.encode(p) + b"\n" for p in outcome.predictions())
                return lines, (*headers, (b"content-type", kind.encode()))
        return super().write(call)[0], headers

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The error with the header that an AWS client reads its kind from."""
        body, headers = super().refuse(problem)
        return body, (*headers, (b"x-amzn-errortype", _ERRORS.get(problem.status, b"ValidationError")))


def _as_csv(predictions: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([p] for p in predictions)
    return text.getvalue().encode()


def _from_json(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """As MLflow's; a plain list of rows, too."""
    if body.lstrip()[:1] == b"[" and isinstance(found := read(body, mlflow.HINT), list):
        return found
    return mlflow.from_json(body, endpoint, row_limit)


def _from_lines(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """One row a line."""
    found = []
    for line in body.splitlines():
        if line.strip():
            found.append(read(line, 'Send one {"column": value, ...} a line.'))
            if len(found) > row_limit:
                break
    return found
