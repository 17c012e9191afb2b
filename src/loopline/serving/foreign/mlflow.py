"""MLflow's scoring protocol: POST /invocations, as `mlflow models serve` answers it.

JSON with exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, a CSV text, or a Parquet file. The
predictions are what the model's `predict` says: labels, or the values of a regression. Columns that the model does not know are
left aside, as MLflow does; the answer's further key `loopline` names them, and gives probabilities, ids and who answered.
Source: mlflow/pyfunc/scoring_server/__init__.py (3.17.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.serving.bodies import read, said
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign import rows
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
PARQUET = "application/vnd.apache.parquet"
HINT = 'Send {"dataframe_records": [{"column": value, ...}, ...]} as UTF-8; a missing value is null.'
_CODES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip

Reader = Callable[[bytes, LiveEndpoint, int], list[Any]]


class Scoring:
    """One request's codec. `content_type` is the header's value, `readers` what is read by media type."""

    readers: dict[str, Reader]

    def __init__(self, content_type: str) -> None:
        self.readers = {"application/json": from_json, "text/csv": from_csv, PARQUET: from_parquet}
        self.content_type = content_type
        self._ignored: list[str] = []

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of a body. Raises `Problem`."""
        found = self._reader()(call.body, endpoint, row_limit)
        contract = endpoint.contract
        known = {*contract.names, *contract.passthrough}
        self._ignored = sorted({n for row in found if isinstance(row, dict) for n in row if n not in known})
        if self._ignored:
            found = [{n: v for n, v in row.items() if n in known} if isinstance(row, dict) else row for row in found]
        try:
            return rows.check(contract, found, row_limit)
        except Problem as problem:
            if problem.error.code == "missing-column" and self._ignored:
                name = problem.error.details.get("field", "")
                problem.error.hint = did_you_mean(name, self._ignored) or problem.error.hint
            raise

    def _reader(self) -> Reader:
        """What reads bodies of this content type. Raises the 415."""
        kind, *parameters = (part.strip() for part in self.content_type.split(";"))
        reader = self.readers.get(kind.lower())
        if reader is None:
            raise unsupported(
                f"Bodies of type {said(self.content_type)} are not read here.",
                f"Send one of {', '.join(self.readers)}.",
            )
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.lower() != "charset":
                raise unsupported(f"The parameter {said(name)} of the content type is unknown.", "Leave it out.")
            if value.strip('"').lower() not in ("utf-8", "utf8"):
                raise unsupported(f"The charset {said(value)} is not read here.", "Send UTF-8.")
        return reader

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The predictions of an answered call."""
        outcome = Outcome(call)
        first, about = outcome.first, outcome.about()
        if first.task != "regression":
            about["probabilities"] = [dict(zip(first.labels, row, strict=True)) for row in outcome.values]
        if self._ignored:
            about["ignored"] = self._ignored
        return msgspec.json.encode({"predictions": outcome.predictions(), "loopline": about}), ()

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """MLflow's shape of an error."""
        return refuse(problem), problem.headers


def refuse(problem: Problem) -> bytes:
    """MLflow's shape of an error: a code of its own and a message."""
    missing = problem.error.code == "missing-column"
    code = "INVALID_PARAMETER_VALUE" if missing else _CODES.get(problem.status, "BAD_REQUEST")
    return msgspec.json.encode({"error_code": code, "message": str(problem.error)})


def unsupported(message: str, hint: str) -> Problem:
    """A 415."""
    return Problem(415, Invalid(message, code="content-type", hint=hint))


def from_json(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """The rows of a JSON body. Raises `Problem`."""
    value = read(body, HINT)
    given = [name for name in FORMS if isinstance(value, dict) and name in value]
    if len(given) != 1:
        got = f"It has {', '.join(map(repr, value))[:200] or 'no key'}." if isinstance(value, dict) else said(value)
        bad_input(
            f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(FORMS)}. {got}",
            "not-rows",
            HINT,
        )
    _no_params(value.get("params"))
    (form,) = given
    data = value[form]
    names = [f.name for f in endpoint.variants[0].signature.inputs]
    if form == "dataframe_split":
        return split(data, names, form)
    if form == "inputs" and isinstance(data, dict):
        return rows.by_column(data, form)
    if not isinstance(data, list):
        bad_input(f"{form!r} is not a list.", "not-rows", HINT, expected="a list", got=said(data))
    if form != "dataframe_records" and not any(isinstance(row, dict) for row in data):
        return rows.by_position(data, names)
    return data


def split(data: Any, names: list[str], form: str) -> list[Any]:
    """The rows of a table of columns and data; without columns it has those of these names. Raises `Problem`."""
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        bad_input(
            f"{form!r} is not a table.",
            "not-rows",
            f'Send {{"{form}": {{"columns": ["column", ...], "data": [[value, ...], ...]}}}}.',
            got=said(data),
        )
    columns = data.get("columns", names)
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        bad_input(f"The columns of {form!r} are not a list of texts.", "not-columns", got=said(columns))
    if len(set(columns)) != len(columns):
        twin = next(n for n in columns if columns.count(n) > 1)
        bad_input(f"The column {twin!r} is given twice.", "duplicate-key", field=twin)
    return rows.by_position(data["data"], columns)


def _no_params(params: Any) -> None:
    """MLflow leaves parameters aside that a model's signature does not declare, and no model here declares any."""
    if params is not None and not isinstance(params, dict):
        bad_input(
            "'params' is not an object.", "wrong-type", 'Leave it out; or send {"name": value}.', got=said(params)
        )


def from_csv(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """The rows of a CSV body. Raises `Problem`."""
    known = [*endpoint.variants[0].signature.inputs]
    return list(rows.from_csv(body, known, row_limit))


def from_parquet(body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
    """The rows of a Parquet file. Raises `Problem`."""
    return rows.from_parquet(body, row_limit)
