"""Every operation and every foreign route: without a token, with a wrong one, for each role, and in another project.

What is expected follows from the policy alone. Calls carry placeholders, so an authorised one may end in `NotFound` or `Invalid`,
but never in a denial; an unauthorised one is denied and leaves nothing behind but a `denied` entry. What a path of another project
names is test_other_projects.py's, what the workers answer themselves test_served_routes.py's.
"""

from __future__ import annotations

import hashlib
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import quote, urlencode

import msgspec
import pytest
import sqlalchemy as sa

from loopline.access import policy
from loopline.access.tables import tokens
from loopline.api import foreign
from loopline.api.mlflow import routes
from loopline.api.routing import PREFIX
from loopline.database import metadata
from loopline.operations import OPERATIONS, Action, Operation

DENIALS = frozenset({"unauthenticated", "forbidden", "no-project"})

# Verbs that ask for more than their declared permission, beyond what the policy says of an action.
STRICTER = {
    "access.create_token": "a token makes no other token, unless it is an unbounded one of an admin",
    "loops.declare": "a loop's file is run as the server's own user, so only that user names it, without a token",
    "sources.collect": "a source is read as the server's own user, so only that user names it, without a token",
}

HERE, ELSEWHERE = "default", "clinic"

CALLERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{role: ((role,), ()) for role in policy.ROLES},
    **{f"instance {role}": ((), (role,)) for role in policy.INSTANCE_ROLES},
    "member of nothing": ((), ()),
    "owner by a viewer's token": (("viewer",), ()),
}
"""Who calls, with their roles in HERE and in the instance; in ELSEWHERE nobody has any."""

BAD = ("no token", "unknown token", "expired token", "revoked token", "broken header")


class Matrix:
    """The platform with all callers, and requests in their names."""

    def __init__(self, served: Any) -> None:
        self.served = served
        self.platform = served.platform
        owner = self.platform.session()
        owner.projects.create(ELSEWHERE)
        self.headers: dict[str, dict[str, str]] = {"no token": {}}
        for number, (caller, (roles, instance)) in enumerate(CALLERS.items()):
            if caller == "owner by a viewer's token":
                owner.access.grant(owner.access.whoami().name, "viewer")
                self._keep(caller, owner.access.create_token(project=HERE, roles=["viewer"]).secret)
                continue
            owner.access.add_principal(f"p{number}")
            for role in roles:
                owner.access.grant(f"p{number}", role)
            for role in instance:
                owner.access.appoint(f"p{number}", role)
            self._keep(caller, owner.access.create_token(principal=f"p{number}").secret)
        for caller in ("expired token", "revoked token"):
            made = owner.access.create_token()
            self._keep(caller, made.secret)
            values = {"expires": made.token.created} if caller == "expired token" else {"revoked": made.token.created}
            with self.platform.database.begin() as tx:
                tx.execute(tokens.update().where(tokens.c.id == made.token.id).values(values))
        self._keep("unknown token", "ll_" + "A" * 43)
        self.headers["broken header"] = {"Authorization": "Basic !!!"}

    def _keep(self, caller: str, secret: str) -> None:
        self.headers[caller] = {"Authorization": f"Bearer {secret}"}

    def ask(self, caller: str, op: Operation, project: str) -> Any:
        method, target, named = placeholder(op, project)
        # The peer is another user of this machine, so that nothing but the token counts.
        headers = {**self.headers[caller], "x-loopline-peer": "127.0.0.1:50000", "x-loopline-peer-uid": "54321"}
        if "body" in named:
            headers["Content-Type"] = "application/octet-stream"
        return self.served.ask(method, target, headers=headers, **named)

    def state(self) -> tuple[str, int, int]:
        """A digest of all that is kept (the ledger apart), and how many entries there are, in all and denied."""
        digest = hashlib.blake2b()
        with self.platform.database.snapshot() as connection:
            for table in metadata.sorted_tables:
                if not table.name.startswith("ledger_"):
                    columns = [c for c in table.c if c.name != "last_used"]
                    for row in connection.execute(sa.select(*columns).order_by(*table.primary_key)):
                        digest.update(repr((table.name, *row)).encode())
        for path in files(self.platform.settings.workspace):
            digest.update(path.encode())
        entries = self.platform.session().ledger.entries(limit=10_000)
        return digest.hexdigest(), len(entries), sum(e.record == "denied" for e in entries)


def files(workspace: Path) -> list[str]:
    kept = (p for p in workspace.rglob("*") if p.is_file() and ".db" not in p.name)
    return sorted(str(p.relative_to(workspace)) for p in kept)


@pytest.fixture(scope="module")
def matrix(controlled: Any) -> Matrix:
    return Matrix(controlled)


def placeholder(op: Operation, project: str) -> tuple[str, str, dict[str, Any]]:
    """A request that the operation can read, and that names nothing which is there."""
    fields = {field.name: field for field in msgspec.structs.fields(op.args)}
    path = op.path.replace("{project}", project)
    for name in op.placed:
        word = quote(str(value(fields[name].type)))
        path = re.sub(rf"{{{name}(:path)?}}", word, path)
    rest = {n: value(f.type) for n, f in fields.items() if n not in op.placed and f.required}
    target = PREFIX + path
    if op.body:
        query = "?" + urlencode({n: text(v) for n, v in rest.items()}) if rest else ""
        return op.method, target + query, {"body": b"\x00"}
    if op.method == "GET":
        return op.method, target + ("?" + urlencode({n: text(v) for n, v in rest.items()}) if rest else ""), {}
    return op.method, target, {"json": rest} if rest else {}


def text(found: Any) -> str:
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def value(kind: Any) -> Any:
    """Some value of a type, in builtins."""
    origin = get_origin(kind)
    if origin is Literal:
        return get_args(kind)[0]
    if origin in (Union, types.UnionType):
        return value(next(part for part in get_args(kind) if part is not type(None)))
    if origin is not None and str(origin).endswith("Annotated'>"):
        return value(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        made = {f.encode_name: value(f.type) for f in msgspec.structs.fields(kind) if f.required}
        config = kind.__struct_config__
        return {config.tag_field: config.tag, **made} if config.tag_field else made
    plain = {str: "absent-thing", int: 1, float: 0.5, bool: False, bytes: ""}
    if kind in plain:
        return plain[kind]
    if (origin or kind) in (list, tuple, set, frozenset):
        parts = [part for part in get_args(kind) if part is not ...]
        return [value(parts[0])] if parts else []
    if (origin or kind) is dict:
        return {}
    return "absent-thing"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_says_what_it_is(name: str) -> None:
    op = OPERATIONS[name]
    assert op.action in get_args(Action), "no permission"
    assert len(op.summary) >= 8, "no summary"
    assert op.summary.endswith((".", ":")), f"the summary is no sentence: {op.summary!r}"
    assert policy.who_may(op.action) or policy.who_may(op.action, instance=True) or op.action == "any", "nobody may"
    if op.scope == "instance" and op.action != "any":
        assert policy.who_may(op.action, instance=True), "no role of the instance may"
    assert op.path.startswith("/")
    assert op.method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    assert set(op.placed) <= set(op.args.__struct_fields__)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_nobody_without_the_role_gets_through(matrix: Matrix, name: str) -> None:
    op = OPERATIONS[name]
    before = matrix.state()
    denied = 0
    for caller in BAD:
        for project in (HERE, ELSEWHERE, "absent"):
            reply = matrix.ask(caller, op, project)
            assert (reply.status, reply.code) == (401, "unauthenticated"), (caller, project)
            assert reply.headers["WWW-Authenticate"]
    for caller, (roles, instance) in CALLERS.items():
        for project in (HERE, ELSEWHERE):
            if expected(op, roles, instance, project) == "yes":
                continue
            reply = matrix.ask(caller, op, project)
            want = expected(op, roles, instance, project)
            assert reply.code == want, (caller, project, reply.content)
            assert reply.status == {"forbidden": 403, "no-project": 404}[want]
            denied += want == "forbidden"
    after = matrix.state()
    assert after[0] == before[0], "a denied call left something"
    assert (after[1] - before[1], after[2] - before[2]) == (denied, denied), "a denied call is on the ledger, once"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_who_has_the_role_gets_through(matrix: Matrix, name: str) -> None:
    op = OPERATIONS[name]
    for caller, (roles, instance) in CALLERS.items():
        for project in (HERE, ELSEWHERE):
            if expected(op, roles, instance, project) == "yes" and name not in STRICTER:
                reply = matrix.ask(caller, op, project)
                assert reply.code not in DENIALS, (caller, project, reply.content)
                assert reply.code != "internal", (caller, project, reply.content)


def expected(op: Operation, roles: tuple[str, ...], instance: tuple[str, ...], project: str) -> str:
    """What the policy says: "yes", or the code of the denial."""
    if op.scope == "instance":
        return "yes" if policy.allows(op.action, (), instance) else "forbidden"
    held = roles if project == HERE else ()
    if not (held or instance):
        return "no-project"
    return "yes" if policy.allows(op.action, held, instance) else "forbidden"


def test_a_token_makes_a_token_only_as_an_unbounded_one_of_an_admin(matrix: Matrix) -> None:
    op = OPERATIONS["access.create_token"]
    for caller, (_, instance) in CALLERS.items():
        reply = matrix.ask(caller, op, HERE)
        assert (reply.code or "yes") == ("yes" if "admin" in instance else "forbidden"), caller


@pytest.mark.parametrize("route", foreign.ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_foreign_route_asks_what_it_says(matrix: Matrix, route: foreign.ForeignRoute) -> None:
    assert len(route.reason) > 20
    path = route.path.replace("{project}", HERE).replace("{", "").replace("}", "").replace(":path", "")
    peer = {"x-loopline-peer": "127.0.0.1:50000", "x-loopline-peer-uid": "54321"}
    for caller in BAD:
        reply = matrix.served.ask(route.method, path, headers={**matrix.headers[caller], **peer})
        assert (reply.status == 401) == (route.action is not None), caller
    for caller, (roles, instance) in CALLERS.items():
        reply = matrix.served.ask(route.method, path, headers={**matrix.headers[caller], **peer})
        allowed = route.action is None or policy.allows(route.action, roles, instance)
        assert (reply.status >= 400 and reply.code in DENIALS) != allowed, caller


@pytest.mark.parametrize("route", routes.ENDPOINTS, ids=lambda route: f"{route.method} {route.path}")
def test_an_endpoint_of_mlflow_asks_what_it_says(matrix: Matrix, route: Any) -> None:
    """Whatever it is asked, also in another project and under the paths of MLflow's own page."""
    assert route.work.__doc__, "no documentation"
    brings = route.takes == "raw" and route.method in ("PUT", "POST")
    assert not brings or OPERATIONS[route.brings].action == route.action, "a large body would be taken of anybody"
    path = re.sub(r"{\w+(:path)?}", "absent-thing", route.path)
    peer = {"x-loopline-peer": "127.0.0.1:50000", "x-loopline-peer-uid": "54321"}
    sent = {"body": b"\0"} if route.takes == "raw" else {"json": {}} if route.method != "GET" else {}
    media = {"Content-Type": "application/octet-stream"} if route.takes == "raw" else {}
    paths = [path, path.replace("/api/", "/ajax-api/", 1)] if path.startswith("/api/") else [path]
    for place in paths:
        for caller in BAD:
            reply = matrix.served.ask(route.method, place, headers={**matrix.headers[caller], **peer, **media}, **sent)
            assert (reply.status == 401) == (route.action is not None), caller
            assert reply.status != 401 or reply.json["error_code"] == "UNAUTHENTICATED"
    if route.action is None:
        return
    for project, prefix in ((HERE, ""), (HERE, f"/t/{HERE}"), (ELSEWHERE, f"/{ELSEWHERE}.mlflow")):
        for caller, (roles, instance) in CALLERS.items():
            headers = {**matrix.headers[caller], **peer, **media}
            reply = matrix.served.ask(route.method, prefix + path, headers=headers, **sent)
            held = roles if project == HERE else ()
            if not (held or instance):
                assert reply.status == 404, (caller, project, reply.content)
                assert "no project" in reply.json["message"]
            else:
                allowed = policy.allows(route.action, held, instance)
                assert (reply.status == 403) != allowed, (caller, project, reply.content)
                assert reply.status < 500 or reply.status == 501, reply.content


def test_no_path_is_reached_past_the_declared_ones(matrix: Matrix) -> None:
    for path in (
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/projects",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/static/x",
        "//health",
    ):
        assert matrix.served.ask("GET", path, headers=matrix.headers["no token"]).status == 401, path
