"""The OpenAPI document: well-formed by the specification's own shape, complete, and unchanged unless on purpose.

`LOOPLINE_GOLDEN=write pytest tests/api/test_openapi.py` writes the golden files anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from loopline import catalog  # noqa: F401  (fills the operations)
from loopline.api import openapi, page
from loopline.api.routing import PREFIX, Routes
from loopline.errors import Invalid, NotFound
from loopline.operations import OPERATIONS

GOLDEN = Path(__file__).parent / "openapi"
DOCUMENT = openapi.document(OPERATIONS.values())
GROUPS = sorted({op.group for op in OPERATIONS.values()})


# The shape of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), as far as the document uses it; any other field is an error.


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class Media(Strict):
    schema: dict[str, Any] | bool = True


class Parameter(Strict):
    name: str
    where: Literal["path", "query", "header"] = msgspec.field(name="in")
    required: bool = False
    description: str = ""
    schema: dict[str, Any] | None = None
    content: dict[str, Media] | None = None


class RequestBody(Strict):
    content: dict[str, Media]
    required: bool = False


class Response(Strict):
    description: str
    content: dict[str, Media] | None = None


class Reference(Strict):
    ref: str = msgspec.field(name="$ref")


class Described(Strict):
    operationId: str
    tags: list[str]
    summary: str
    action: str = msgspec.field(name="x-loopline-action")
    parameters: list[Parameter]
    responses: dict[str, Any]
    requestBody: RequestBody | None = None


class License(Strict):
    name: str
    identifier: str


class Info(Strict):
    title: str
    version: str
    license: License


class Security(Strict):
    type: Literal["http"]
    scheme: Literal["bearer", "basic"]
    description: str


class Components(Strict):
    schemas: dict[str, dict[str, Any]]
    responses: dict[str, Response]
    securitySchemes: dict[str, Security]


class Document(Strict):
    openapi: Literal["3.1.0"]
    info: Info
    security: list[dict[str, list[str]]]
    paths: dict[str, dict[Literal["get", "post", "put", "patch", "delete"], Described]]
    components: Components


def test_the_document_is_of_the_specifications_shape() -> None:
    document = msgspec.convert(json.loads(json.dumps(DOCUMENT)), Document)
    ids = [described.operationId for item in document.paths.values() for described in item.values()]
    assert sorted(ids) == sorted(OPERATIONS)
    for path, item in document.paths.items():
        assert path.startswith("/")
        for method, described in item.items():
            places = re.findall(r"{(\w+)}", path)
            named = [p.name for p in described.parameters if p.where == "path"]
            assert sorted(places) == sorted(named), (path, method)
            assert all(p.required for p in described.parameters if p.where == "path")
            assert all((p.schema is None) != (p.content is None) for p in described.parameters)
            assert len({(p.name, p.where) for p in described.parameters}) == len(described.parameters)
            assert method != "get" or described.requestBody is None
            for status, response in described.responses.items():
                assert re.fullmatch(r"[1-5]\d\d|default", status)
                msgspec.convert(response, Reference if "$ref" in response else Response)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "$ref" and isinstance(part, str):
                yield part
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    unused = set(DOCUMENT["components"]["schemas"]) - {r.rpartition("/")[2] for r in found}
    assert not unused


def test_no_two_operations_answer_to_one_address() -> None:
    routes = Routes(OPERATIONS.values())
    for op in OPERATIONS.values():
        path = re.sub(r"{\w+(:path)?}", "x", op.path)
        assert routes.find(op.method, path)[0] is op
    with pytest.raises(NotFound):
        routes.find("GET", "/")
    with pytest.raises(Invalid):
        routes.find("PATCH", "/projects")


@pytest.mark.parametrize("group", GROUPS)
def test_the_wire_form_has_not_changed_unnoticed(group: str) -> None:
    shown = {
        f"{method.upper()} {path}": described
        for path, item in DOCUMENT["paths"].items()
        for method, described in item.items()
        if described["tags"] == [group]
    }
    text = json.dumps({"operations": shown, "schemas": _closure(shown)}, indent=1, sort_keys=True) + "\n"
    path = GOLDEN / f"{group}.json"
    if os.environ.get("LOOPLINE_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), "LOOPLINE_GOLDEN=write makes the golden file of a new group"
    assert path.read_text() == text, "the API changed: a new field needs a default; LOOPLINE_GOLDEN=write accepts it"


def _closure(shown: dict[str, Any]) -> dict[str, Any]:
    """The schemas that these operations lead to."""
    schemas, found = DOCUMENT["components"]["schemas"], {}
    left = list(references(shown))
    while left:
        name = left.pop().rpartition("/")[2]
        if name in schemas and name not in found:
            found[name] = schemas[name]
            left += references(schemas[name])
    return found


def test_no_golden_file_is_left_of_a_group_that_is_gone() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == GROUPS


def test_the_server_shows_document_and_page(served: Any) -> None:
    assert served.ask("GET", "/api/openapi.json").json == json.loads(json.dumps(DOCUMENT))
    reply = served.ask("GET", "/api/docs")
    assert reply.headers["Content-Type"].startswith("text/html")
    assert all(name in reply.content.decode() for name in OPERATIONS)


def test_the_page_fetches_nothing_and_escapes_what_it_shows() -> None:
    html = page.render(OPERATIONS.values())
    assert not re.search(r"""<(script|link|img|iframe)|(src|href)=["']?(https?:)?//|@import|url\(""", html)
    op = msgspec.structs.replace(OPERATIONS["projects.show"], summary="<script>alert(1)</script>")
    assert "<script>" not in page.render([op])
    assert PREFIX in html
