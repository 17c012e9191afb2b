"""Azure Machine Learning's scoring route: POST /score as an online endpoint's container answers it, with its health and swagger.

A body is JSON, in the forms that models without a scoring script have there: `input_data` of an MLflow model, answered by a plain
list; `data`, answered by {"result": [...]}; {"Inputs": {"data": ...}, "GlobalParameters": {"method": "predict"}} of automated
machine learning, answered by {"Results": [...]}, where the method `predict_proba` asks for probabilities.
Source: azureml-inference-server-http 1.5.1, and "Deploy MLflow models to online endpoints" of its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from loopline.errors import Invalid, NotFound
from loopline.serving.bodies import read, said
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign import mlflow, rows
from loopline.serving.live import LiveEndpoint
from loopline.serving.openapi import row_schema
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

FORMS = ("input_data", "data", "Inputs")
HINT = 'Send {"input_data": {"columns": ["column", ...], "data": [[value, ...], ...]}}, or {"data": [{"column": value, ...}, ...]}.'
DEPLOYMENT = b"azureml-model-deployment"
"""The header by which a caller chooses who answers: here a variant, by its name."""
_ECHOED = (b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id")
_LONGEST = 100
"""Characters of a request's id."""
_MOST_IDS = 100
"""Rows of an answer whose ids go into a header."""
_METHODS = ("predict", "predict_proba")
_VERSIONS = ("2", "2.0", "3", "3.0", "3.1")


class Score(mlflow.Scoring):
    """One request's codec."""

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        super().__init__("application/json")  # the scoring script is handed the body, whatever it is called
        self.readers = {"application/json": self._read}
        self._echoed = {name: headers[name] for name in _ECHOED if headers.get(name)}
        self._form = ""
        self._method = "predict"

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of a body. Raises `Problem`."""
        for name, value in self._echoed.items():
            if len(value) > _LONGEST:
                self._echoed = {}
                raise Problem(
                    431, Invalid(f"{name.decode()} has more than {_LONGEST} characters.", code="bad-header", hint="Shorten it.")
                )  # fmt: skip
        return super().read(call, endpoint, row_limit)

    def _read(self, body: bytes, endpoint: LiveEndpoint, row_limit: int) -> list[Any]:
        value = read(body, HINT)
        names = [f.name for f in endpoint.variants[0].signature.inputs]
        if isinstance(value, list):
            self._form = "input_data"
            return _table(value, names, "the body")
        given = [name for name in FORMS if isinstance(value, dict) and name in value]
        if len(given) != 1:
            got = f"It has {', '.join(map(repr, value))[:200] or 'no key'}." if isinstance(value, dict) else said(value)
            bad_input(f"The body must have exactly one of {', '.join(FORMS)}. {got}", "not-rows", HINT)
        (self._form,) = given
        data = value[self._form]
        if self._form == "Inputs":
            self._method = _method(value.get("GlobalParameters"), endpoint)
            if not isinstance(data, dict) or data.keys() != {"data"}:
                bad_input(
                    "'Inputs' is not an object with the one key 'data'.", "not-rows",
                    'Send {"Inputs": {"data": [{"column": value, ...}, ...]}}.', got=said(data),
                )  # fmt: skip
            data = data["data"]
        elif self._form == "data":
            self._method = _method(value, endpoint)
        return _table(data, names, self._form)

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The predictions in the form that was asked for; the ids of the rows in a header, where they are not many."""
        outcome = Outcome(call)
        found = outcome.values if self._method == "predict_proba" else outcome.predictions()
        headers = self._ids(self._echoed.get(b"x-request-id") or call.request.encode())
        if self._form == "input_data":
            if outcome.count <= _MOST_IDS:
                headers = (*headers, (b"x-loopline-ids", ",".join(outcome.ids()).encode()))
            headers = (*headers, (b"x-loopline-model", outcome.first.model.encode()))
            return msgspec.json.encode(found), headers
        name = "result" if self._form == "data" else "Results"
        return msgspec.json.encode({name: found, "loopline": outcome.about()}), headers

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The server's shape of an error."""
        return refuse(problem), (*problem.headers, *self._ids(self._echoed.get(b"x-request-id", b"")))

    def _ids(self, request: bytes) -> Headers:
        """The ids of a request as the server tells them: `x-ms-request-id`, once the client's own, stands for any of them."""
        found = {b"x-request-id": request, **self._echoed}
        if legacy := found.get(b"x-ms-request-id"):
            found.setdefault(b"x-ms-client-request-id", legacy)
        else:
            found[b"x-ms-request-id"] = found.get(b"x-ms-client-request-id") or request
        return tuple((name, value) for name, value in found.items() if value)


def refuse(problem: Problem) -> bytes:
    """The server's shape of an error."""
    return msgspec.json.encode({"message": str(problem.error)})


def _table(data: Any, names: list[str], what: str) -> list[Any]:
    """The rows of a table: of columns and data, of an object of columns, of rows by name or by position. Raises `Problem`."""
    if isinstance(data, dict) and "data" in data and data.keys() <= {"columns", "index", "data"}:
        return mlflow.split(data, names, what)
    if isinstance(data, dict):
        return rows.by_column(data, what)
    if not isinstance(data, list):
        bad_input(f"{what!r} holds no rows.", "not-rows", HINT, got=said(data))
    return data if any(isinstance(row, dict) for row in data) else rows.by_position(data, names)


def _method(given: Any, endpoint: LiveEndpoint) -> str:
    """What is asked for: predictions or probabilities. Raises `Problem`."""
    if given is not None and not isinstance(given, dict | int | float):
        bad_input("'GlobalParameters' is not an object.", "wrong-type", "Leave it out.", got=said(given))
    method = given.get("method", "predict") if isinstance(given, dict) else "predict"
    if method not in _METHODS:
        bad_input(f"The method {said(method)} is not answered.", "bad-method", f"Use one of {', '.join(_METHODS)}.")
    if method == "predict_proba" and endpoint.variants[0].task == "regression":
        bad_input("A regression has no probabilities.", "bad-method", "Use predict.")
    return str(method)


def swagger(endpoint: LiveEndpoint, version: str) -> dict[str, Any]:
    """The answer to GET /swagger.json?version=2 (or 3, 3.1). Raises the 404."""
    if version not in _VERSIONS:
        raise Problem(
            404,
            NotFound(
                f"Swagger version [{version[:20]}] is not valid. Supported versions: [2, 3, 3.1].",
                code="no-swagger",
                hint="Ask for version=3.",
            ),
        )
    first = endpoint.variants[0]
    row, example = row_schema(endpoint.contract, first.served.manifest.example)
    result = {"type": "number" if first.task == "regression" else "string"}
    given = {
        "type": "object",
        "properties": {"input_data": {"type": "array", "items": row}},
        "required": ["input_data"],
        "example": {"input_data": [example]},
    }
    answered = {"type": "array", "items": result}
    schemas = {"ServiceInput": given, "ServiceOutput": answered, "ErrorResponse": _ERROR}
    info = {
        "title": endpoint.name,
        "description": f"Answered by {first.model} ({first.task}).",
        "version": first.version,
    }
    if version.startswith("2"):
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https", "http"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
            "paths": _paths("#/definitions/", swagger_2=True),
            "definitions": _without_null(schemas),
        }
    return {
        "openapi": "3.1.0" if version == "3.1" else "3.0.3",
        "info": info,
        "servers": [{"url": "/"}],
        "security": [{"Bearer": []}],
        "paths": _paths("#/components/schemas/", swagger_2=False),
        "components": {
            "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas if version == "3.1" else _without_null(schemas, nullable=True),
        },
    }


_ERROR = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}


def _paths(schemas: str, *, swagger_2: bool) -> dict[str, Any]:
    def answer(said: str, name: str = "", kind: str = "application/json") -> dict[str, Any]:
        schema = {"$ref": f"{schemas}{name}"} if name else {"type": "string"}
        return {"description": said} | ({"schema": schema} if swagger_2 else {"content": {kind: {"schema": schema}}})

    score: dict[str, Any] = {"operationId": "RunMLService", "summary": "Score rows"}
    given = {"$ref": f"{schemas}ServiceInput"}
    if swagger_2:
        score["parameters"] = [{"name": "serviceInputPayload", "in": "body", "required": True, "schema": given}]
    else:
        score["requestBody"] = {"required": True, "content": {"application/json": {"schema": given}}}
    score["responses"] = {
        "200": answer("One prediction a row, in order.", "ServiceOutput"),
        "default": answer("What is wrong, and the way out.", "ErrorResponse"),
    }
    probe = {
        "operationId": "ServiceHealthCheck", "summary": "Whether it answers",
        "responses": {"200": answer("It does.", kind="text/plain")},
    }  # fmt: skip
    version = {"name": "version", "in": "query", "required": False}
    text = {"type": "string"} if swagger_2 else {"schema": {"type": "string"}}
    this = {
        "operationId": "GetSwagger", "summary": "This document", "parameters": [version | text],
        "responses": {"200": {"description": "It, in that version."}, "default": score["responses"]["default"]},
    }  # fmt: skip
    return {"/": {"get": probe}, "/score": {"post": score}, "/swagger.json": {"get": this}}


def _without_null(schema: Any, *, nullable: bool = False) -> Any:
    """A schema in the dialect of before OpenAPI 3.1, which has one type each and no list of examples."""
    if isinstance(schema, list):
        return [_without_null(one, nullable=nullable) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _without_null(one, nullable=nullable) for name, one in schema.items() if name != "examples"}
    kinds = found.get("type")
    if isinstance(kinds, list):
        (found["type"],) = kinds[:1]
        if len(kinds) > 2:
            del found["type"]
        if nullable:
            found["nullable"] = True
        else:
            found["x-nullable"] = True
    return found
