"""The routes that workers answer by themselves: without a token, with a wrong one, for each role, in two projects."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from loopline.access import policy
from loopline.access.tables import tokens
from loopline.api import foreign
from loopline.api.up import Service
from loopline.operations import Body
from loopline.registry.bundle_tar import pack
from loopline.settings import load

from . import test_up

ENDPOINTS = {"default": "risk", "clinic": "clinic~risk"}
BAD = ("no token", "unknown token", "expired token", "revoked token", "broken header")
JSON, ROWS = b'{"x": 1.0}', b'{"instances": [{"x": 1.0}]}'
OIP = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]})


class Workers:
    """A worker in front of two projects, each with an endpoint, and callers with one role in the first."""

    def __init__(self, service: Service, owner: Any, platform: Any) -> None:
        self.port = service.supervisor.port
        self.headers: dict[str, str] = {"unknown token": "Bearer ll_" + "A" * 43, "broken header": "Basic !!!"}
        for role in policy.ROLES:
            name = f"p-{role.replace('_', '-')}"
            owner.access.add_principal(name)
            owner.access.grant(name, role)
            self.headers[role] = f"Bearer {owner.access.create_token(principal=name).secret}"
        for caller, column in (("expired token", "expires"), ("revoked token", "revoked")):
            made = owner.access.create_token(principal="p-operator")
            self.headers[caller] = f"Bearer {made.secret}"
            with platform.database.begin() as tx:
                tx.execute(tokens.update().where(tokens.c.id == made.token.id).values({column: made.token.created}))
        service.controller.tick()

    def ask(self, caller: str, route: foreign.ServedRoute, endpoint: str) -> int:
        # As through a proxy, so that nothing but the token counts.
        headers = {"X-Forwarded-For": "10.0.0.9", "Content-Type": "application/json"}
        if caller in self.headers:
            headers["Authorization"] = self.headers[caller]
        plain = ROWS if route.path.endswith((":predict", ":explain", "/invocations")) else JSON
        if route.path.endswith("/score"):
            plain = b"[%s]" % JSON
        if route.path.startswith("/events"):
            headers |= {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/here", "ce-type": "visit"}
        if route.path.endswith("/index"):
            plain = b"{}"
        body = None if route.method == "GET" else OIP if route.path.endswith("infer") else plain
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(route.method, route.path.replace("{endpoint}", endpoint), body, headers)
        found = connection.getresponse()
        found.read()
        connection.close()
        return found.status


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("workers")
    platform = test_up.served(folder)
    owner = platform.session()
    owner.projects.create("clinic")
    there = platform.session(project="clinic")
    there.models.draft("risk", Body(pack(folder / "1"), name="bundle.tar"))
    there.models.register("risk", 1)
    there.endpoints.create("risk", "risk@1")
    settings = load(workspace=str(folder / "workspace"), checkpoints=str(folder / "copies"), port=0)
    with Service(settings, turn=3600) as service:
        yield Workers(service, owner, platform)
    platform.close()


@pytest.mark.parametrize("route", foreign.SERVED, ids=lambda route: f"{route.method} {route.path}")
def test_a_served_route_asks_what_it_says(workers: Workers, route: foreign.ServedRoute) -> None:
    for project, endpoint in ENDPOINTS.items():
        for caller in BAD:
            assert workers.ask(caller, route, endpoint) == (200 if route.asks == "all" else 401), (caller, project)
        for role in policy.ROLES:
            predicts = policy.allows("predict", (role,), ())
            free = route.asks == "all" or (predicts and (route.asks == "any" or project == "default"))
            want = 200 if free else 403  # a token that is known is told that it may not
            assert workers.ask(role, route, endpoint) == want, (role, project)
