"""The OpenAPI 3.1 document of the operations, generated from their declarations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

import loopline
from loopline.api.answers import STATUS
from loopline.api.routing import PREFIX
from loopline.operations import Bytes, Operation

_TEMPLATE = "#/components/schemas/{name}"


class ErrorBody(msgspec.Struct, kw_only=True):
    """What happened, and the way out."""

    branch: str
    code: str
    message: str
    hint: str
    details: dict[str, Any]


class Error(msgspec.Struct, kw_only=True):
    """The one shape of every error."""

    error: ErrorBody


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document, as JSON values; operations by name, so that it is the same on every server of a version."""
    ordered = sorted(operations, key=lambda op: op.name)
    kinds: list[Any] = [Error]
    for op in ordered:
        kinds += [field.type for field in msgspec.structs.fields(op.args)]
        kinds += [op.out] if _is_json(op) else []
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    found = iter(schemas)
    error = next(found)
    paths: dict[str, dict[str, Any]] = {}
    for op in ordered:
        fields = {field.name: next(found) for field in msgspec.structs.fields(op.args)}
        out = next(found) if _is_json(op) else None
        path = PREFIX + op.path.replace(":path}", "}")
        paths.setdefault(path, {})[op.method.lower()] = _operation(op, fields, out)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Loopline",
            "version": loopline.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "Error": {
                    "description": "Refused or failed. "
                    + ", ".join(f"{s} {k.branch}" for k, s in STATUS.items())
                    + ".",
                    "content": {"application/json": {"schema": error}},
                }
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token, as access.create_token makes it.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Any user name, the token as the password.",
                },
            },
        },
    }


def _operation(op: Operation, fields: dict[str, Any], out: Any) -> dict[str, Any]:
    needed = {field.name for field in msgspec.structs.fields(op.args) if field.required}
    parameters: list[dict[str, Any]] = []
    if op.scope == "project":
        parameters.append({"name": "project", "in": "path", "required": True, "schema": {"type": "string"}})
    parameters += [{"name": name, "in": "path", "required": True, "schema": fields[name]} for name in op.placed]
    rest = {name: schema for name, schema in fields.items() if name not in op.placed}
    described: dict[str, Any] = {
        "operationId": op.name,
        "tags": [op.group],
        "summary": op.summary,
        "x-loopline-action": op.action,
        "parameters": parameters,
        "responses": {**_success(op, out), "default": {"$ref": "#/components/responses/Error"}},
    }
    if op.method == "GET" or op.body:
        parameters += [_in_query(name, schema, name in needed) for name, schema in rest.items()]
        if op.body:
            described["requestBody"] = {"content": {"application/octet-stream": {}}}
    elif rest:
        schema = {
            "type": "object",
            "properties": rest,
            "required": [name for name in rest if name in needed],
            "additionalProperties": False,
        }
        described["requestBody"] = {
            "required": bool(schema["required"]),
            "content": {"application/json": {"schema": schema}},
        }
    if op.mutates:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A call repeated under the same key is done once.",
                "schema": {"type": "string", "maxLength": 128},
            }
        )
    return described


def _in_query(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": required}
    if _plain(schema):
        return {**parameter, "schema": schema}
    return {**parameter, "content": {"application/json": {"schema": schema}}}  # lists and records travel as JSON text


def _plain(schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return all(_plain(part) for part in schema["anyOf"])
    return schema.get("type") in ("string", "integer", "number", "boolean", "null") or "enum" in schema


def _success(op: Operation, out: Any) -> dict[str, Any]:
    if op.out is type(None):
        return {"204": {"description": "Done."}}
    if op.out is Bytes:
        return {"200": {"description": "The bytes, of their own media type.", "content": {"*/*": {}}}}
    return {"200": {"description": "The result.", "content": {"application/json": {"schema": out}}}}


def _is_json(op: Operation) -> bool:
    return op.out not in (type(None), Bytes)
