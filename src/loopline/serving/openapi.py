"""The OpenAPI 3.1 document of one endpoint, generated from what its models take and give."""

from __future__ import annotations

from typing import Any

from loopline.features.boundary import LARGEST
from loopline.features.records import Field
from loopline.serving.contract import Contract, shown
from loopline.serving.explain import can_explain
from loopline.serving.live import LiveEndpoint
from loopline.serving.oip import DTYPES, SHOWN, outputs_of

_MANY = 100
"""Categories that are named."""
_WHOLE = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_TYPES: dict[str, dict[str, Any]] = {
    "number": {"type": "number", "minimum": -LARGEST, "maximum": LARGEST},
    "integer": {"type": "integer", **_WHOLE},
    "boolean": {"type": "boolean"},
    "category": {"type": "string"},
    "text": {"type": "string"},
    "date": {"type": "string", "format": "date"},
}
_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "Whether `explanations` come with the answer: what each column added to a row's raw score.",
    "schema": {"type": "boolean"},
}
_ERRORS = {
    "400": "The request is at fault; `details` names field, row, expected and got.",
    "401": "The caller is not known.",
    "403": "The token may not call this endpoint, or the request comes from a foreign page.",
    "404": "There is no such endpoint, or no such version.",
    "413": "The body or the number of rows is over the limit.",
    "415": "The body is compressed.",
    "429": "This caller asks too often; the header Retry-After says when to come again.",
    "503": "Not now; the header Retry-After says when to come again.",
}


def document(endpoint: LiveEndpoint, body_limit: int, row_limit: int) -> dict[str, Any]:
    """The document, as JSON values."""
    name, contract = endpoint.name, endpoint.contract
    first = endpoint.variants[0]
    fields = contract.fields
    row, example = row_schema(contract, first.served.manifest.example)
    one = {"$ref": "#/components/schemas/Row"}
    rows = {"type": "array", "items": one, "minItems": 1, "maxItems": row_limit}
    wrapped = {
        "type": "object",
        "properties": {"rows": rows, "route_key": {"type": ["string", "null"]}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    models = ", ".join(dict.fromkeys(v.model for v in endpoint.variants))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": "+".join(endpoint.versions()),
            "description": f"Answered by {models} ({first.task}). A body may have {body_limit} bytes and {row_limit} rows.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "paths": {
            f"/predict/{name}": {
                "post": {
                    "operationId": "predict",
                    "summary": "Score rows",
                    "parameters": [
                        {
                            "name": "x-loopline-route-key",
                            "in": "header",
                            "description": "Requests with one value of it get the same variant.",
                            "schema": {"type": "string"},
                        },
                        *([_EXPLAIN] if all(can_explain(v.served.manifest) for v in endpoint.variants) else []),
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"anyOf": [rows, one, wrapped]}, "example": [example]}},
                    },
                    "responses": {
                        "200": _ok("One prediction a row, in order.", _answers(endpoint)),
                        **_refusals("Error"),
                    },
                }
            },
            f"/v2/models/{name}/infer": {
                "post": {
                    "operationId": "infer",
                    "summary": "Score tensors (Open Inference Protocol v2)",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _tensors(fields), "example": _inference(fields, example)}},
                    },
                    "responses": {
                        "200": _ok("Tensors, one value a row.", _inferred(endpoint)),
                        **_refusals("InferenceError"),
                    },
                }
            },
        },
        "components": {
            "schemas": {"Row": row, "Error": _error(), "InferenceError": _object({"error": {"type": "string"}})},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def row_schema(contract: Contract, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a row, and one that fits it: of the example `given` what the contract takes."""
    fields = contract.fields
    example = {f.name: given[f.name] for f in fields if f.name in given}
    properties = {f.name: _property(f, contract.refuse_unknown, contract.refuse_outside) for f in fields}
    passed: dict[str, Any] = {
        "type": ["string", "number", "boolean", "null"], "description": "Kept with the prediction; no model reads it."
    }  # fmt: skip
    properties |= dict.fromkeys(contract.passthrough, passed)
    row = {
        "type": "object",
        "properties": properties,
        "required": [f.name for f in fields if contract.requires(f.name)],
        "additionalProperties": False,
        "examples": [example],
    }
    return row, example


def _property(field: Field, refused: bool, outside: bool) -> dict[str, Any]:
    """One column: its type, and what training saw of it."""
    found = dict(_TYPES[field.kind])
    if not field.nullable:
        if found["type"] == "string" and field.kind != "date":
            found["minLength"] = 1
    else:
        found["type"] = [found["type"], "null"]
    said = []
    if field.categories:
        if refused:
            found["enum"] = [*field.categories, *(["", None] if field.nullable else [])]
        named = ", ".join(field.categories[:_MANY])
        said.append(f"One of {named}{', ...' if len(field.categories) > _MANY else ''}.")
        found["examples"] = list(field.categories[:_MANY])
    if field.kind != "boolean" and field.minimum is not None and field.maximum is not None:
        said.append(f"Seen in training: {shown(field, field.minimum)} to {shown(field, field.maximum)}.")
        if outside and field.kind != "date":
            found |= {"minimum": field.minimum, "maximum": field.maximum}
    if said:
        found["description"] = " ".join(said)
    return found


def _answers(endpoint: LiveEndpoint) -> dict[str, Any]:
    first = endpoint.variants[0]
    share = {"type": "number", "minimum": 0, "maximum": 1}
    one: dict[str, Any] = {"id": {"type": "string", "description": "To be given with the label when it comes."}}
    if first.task == "regression":
        one["value"] = {"type": "number"}
    else:
        one |= {
            "label": {"type": "string", "enum": first.labels},
            "probability": {**share, "description": "That of the label."},
            "probabilities": _object(dict.fromkeys(first.labels, share)),
        }
    text = {"type": "string"}
    return _object(
        {
            "endpoint": text, "model": text, "version": {"type": "integer"}, "variant": text,
            "predictions": {"type": "array", "items": _object(one)},
        }
    )  # fmt: skip


def _tensors(fields: tuple[Field, ...]) -> dict[str, Any]:
    tensor = _object(
        {
            "name": {"type": "string", "enum": [f.name for f in fields]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
            "datatype": {"type": "string", "enum": [*DTYPES, "BYTES"]},
            "data": {"type": "array"},
        }
    )
    found = _object({"inputs": {"type": "array", "items": tensor}})
    found["properties"] |= {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": _object({"name": {"type": "string"}})},
    }
    return found


def _inference(fields: tuple[Field, ...], example: dict[str, Any]) -> dict[str, Any]:
    inputs = [
        {"name": f.name, "shape": [1], "datatype": SHOWN[f.kind], "data": [example.get(f.name)]} for f in fields
    ]  # fmt: skip
    return {"inputs": inputs}


def _inferred(endpoint: LiveEndpoint) -> dict[str, Any]:
    tensor = _object(
        {
            "name": {"type": "string", "enum": list(outputs_of(endpoint.variants[0].task))},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        }
    )
    text = {"type": "string"}
    return _object({"model_name": text, "model_version": text, "outputs": {"type": "array", "items": tensor}})


def _error() -> dict[str, Any]:
    text = {"type": "string"}
    return _object(
        {"error": _object({"branch": text, "code": text, "message": text, "hint": text, "details": {"type": "object"}})}
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ok(said: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": {"schema": schema}}}


def _refusals(schema: str) -> dict[str, Any]:
    return {status: _ok(said, {"$ref": f"#/components/schemas/{schema}"}) for status, said in _ERRORS.items()}
