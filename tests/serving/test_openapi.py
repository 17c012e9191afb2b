"""The OpenAPI document of an endpoint: valid, true to what is answered, and for those alone who may call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from loopline.serving.records import KNOWN, Policy
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, FIELDS, call, live, table

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]


def document(port: int, name: str = "risk") -> Any:
    answer = call(port, "GET", f"/docs/{name}/openapi.json")
    assert answer.status == 200, answer.body
    OpenAPIV31SpecValidator(answer.json).validate()
    return answer.json


def checker(doc: Any, schema: Any) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": doc["components"]})


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_document_is_valid_and_says_what_is_answered(serve: Serve, bundle: Bundle, task: str) -> None:
    server = serve(table(1, live(bundle(version=4, task=task), 4), passthrough=("patient",)), row_limit=50)
    doc = document(server.port)
    assert (doc["openapi"], doc["info"]["title"], doc["info"]["version"]) == ("3.1.0", "risk", "4")
    assert len(doc["paths"]) == 2
    for path, operations in doc["paths"].items():
        operation = operations["post"]
        content = operation["requestBody"]["content"]["application/json"]
        checker(doc, content["schema"]).validate(content["example"])
        answer = call(server.port, "POST", path, content["example"])
        assert answer.status == 200, answer.body
        checker(doc, operation["responses"]["200"]["content"]["application/json"]["schema"]).validate(answer.json)
        refused = call(server.port, "POST", path, b"{")
        checker(doc, operation["responses"]["400"]["content"]["application/json"]["schema"]).validate(refused.json)
    row = doc["components"]["schemas"]["Row"]
    assert row["examples"] == [EXAMPLE]
    assert row["required"] == [f.name for f in FIELDS]
    assert row["properties"]["visits"]["type"] == "integer"
    assert row["properties"]["admitted"] == {"type": ["string", "null"], "format": "date"}
    assert row["properties"]["ward"]["description"] == "One of east, north, west."
    assert "patient" in row["properties"]


def test_what_is_refused_by_policy_is_in_the_schema(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle()), policy=Policy(unknown_category="refuse")))
    ward = document(server.port)["components"]["schemas"]["Row"]["properties"]["ward"]
    assert ward["enum"] == ["east", "north", "west", "", None]
    for value in ward["enum"]:
        assert call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "ward": value}]).status == 200
    assert call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "ward": "south"}]).status == 400


def test_who_may_not_call_is_told_nothing(serve: Serve, bundle: Bundle) -> None:
    digest = hashlib.sha256(b"sesame").hexdigest()
    server = serve(table(1, live(bundle())), {"risk": (), KNOWN: (digest,)})
    elsewhere = {"Via": "1.1 elsewhere"}
    assert call(server.port, "GET", "/docs/risk/openapi.json", headers=elsewhere).status == 401
    bearer = {**elsewhere, "Authorization": "Bearer sesame"}
    assert call(server.port, "GET", "/docs/risk/openapi.json", headers=bearer).status == 403
    pages = [
        call(server.port, "GET", path, headers=elsewhere) for path in ("/docs", "/docs/", "/docs/risk", "/docs/none")
    ]
    assert len({page.body for page in pages}) == 1  # whatever is asked for, the page knows nothing
    assert {page.status for page in pages} == {200}
    assert b"default-src 'none'" in pages[0].headers["content-security-policy"].encode()
    assert call(server.port, "GET", "/docs/none/openapi.json").status == 404
    assert call(server.port, "GET", "/docs/risk/openapi.yaml").status == 404
    assert call(server.port, "POST", "/docs/risk").status == 405


def test_a_name_that_is_html_stays_a_name(serve: Serve, bundle: Bundle) -> None:
    name = "<script>alert(1)</script>"
    server = serve(table(1, live(bundle()), passthrough=(name, 'q"\n')))
    assert {name, 'q"\n'} <= document(server.port)["components"]["schemas"]["Row"]["properties"].keys()
    page = call(server.port, "GET", "/docs/%3Cscript%3Ealert(1)")
    assert page.status == 200
    assert b"alert(1)" not in page.body
