"""The HTTP door as an ASGI application: guard -> caller -> arguments -> the bound operation -> answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from loopline.access.records import Principal
from loopline.api import foreign
from loopline.api.answers import answer, refusal
from loopline.api.arguments import JSON_LIMIT, arguments
from loopline.api.bodies import FROM_WORKER, INCOMING, is_large, read_content, read_json, spooled
from loopline.api.caller import Trust, identify
from loopline.api.guard import Guard
from loopline.api.mlflow import door as mlflow
from loopline.api.mlflow import problems, routes
from loopline.api.mlflow.endpoints import Ask, Found
from loopline.api.routing import PREFIX, Routes
from loopline.app import Platform
from loopline.errors import Invalid, NotFound, Refused
from loopline.operations import OPERATIONS, Body, Operation
from loopline.ports.incoming import sweep

THREADS = 32
"""How many calls are worked on at once; the others wait."""

T = TypeVar("T")

_KEY = re.compile(r"[\x21-\x7e]{1,128}")


def build(platform: Platform, trust: Trust | None = None) -> Guard:
    """The application that answers for the platform under `/api/v1`, and on the foreign routes.

    `trust` says what it believes of a connection; by default nothing but the connection itself.
    """
    door = Door(platform, trust or Trust())
    routes = [Route(route.path, door.foreign(route), methods=[route.method]) for route in foreign.ROUTES]
    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    application = Starlette(routes=[*routes, Route("/{path:path}", door.answer, methods=every)])
    application.router.redirect_slashes = False  # a path is what it is
    application.router.default = request_response(door.answer)  # what no pattern matches: `*`, a line break in the path
    settings = platform.settings
    return Guard(
        _to_workers(application) if door.forwarded else application,
        hosts=[*settings.allowed_hosts.split(","), settings.host],
        open_paths=[route.path for route in foreign.ROUTES if route.action is None],
    )


def _to_workers(application: ASGIApp) -> ASGIApp:
    """The application for workers on this machine, which take a file by its path, and send one by its name."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "extensions": {"http.response.pathsend": {}, FROM_WORKER: {}}}, receive, send)

    return called


class Door:
    """Answers requests with the bound operations; blocking work goes to a bounded number of threads."""

    def __init__(self, platform: Platform, trust: Trust) -> None:
        self.platform = platform
        self._trust = trust
        self.forwarded = trust.forwarded
        self._routes = Routes(OPERATIONS.values())
        self._limiter = CapacityLimiter(THREADS)
        self._incoming = platform.settings.workspace / INCOMING
        sweep(self._incoming)

    async def answer(self, request: Request) -> Response:
        """The answer to any request under `/api/v1`, or of MLflow's protocol."""
        path = _raw_path(request)
        if path.startswith(f"{PREFIX}/"):
            return await self._guarded(request, lambda: self._operation(request, path))
        try:
            found = routes.find(request.method, path)
            if found is not None:
                return await self._mlflow(request, found)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as e:
            return problems.refusal(e)
        return await self._guarded(request, lambda: self._operation(request, path))

    def foreign(self, route: foreign.ForeignRoute) -> Callable[[Request], object]:
        """The endpoint of a foreign route: who is calling is found first, unless it is open to all."""

        async def work(request: Request) -> Response:
            principal = await self.principal(request) if route.action is not None else None
            return await self.run(lambda: route.endpoint(request, self.platform, principal))

        async def endpoint(request: Request) -> Response:
            return await self._guarded(request, lambda: work(request))

        return endpoint

    async def principal(self, request: Request) -> Principal:
        """Who sends the request. Raises `Refused`."""
        return await self.run(lambda: identify(self.platform, request, self._trust))

    async def _mlflow(self, request: Request, found: Found) -> Response:
        project = found.project or self.platform.settings.project
        limit = self.platform.settings.body_limit

        def work(content: bytes, body: Body | None, principal: Principal | None = None) -> Response:
            if principal is None and found.endpoint.action is not None:
                principal = identify(self.platform, request, self._trust)
            return mlflow.answer(found, Ask(self.platform, principal, project, request, body), content)

        if found.endpoint.takes == "json":
            asks = found.endpoint.action is not None and is_large(request)
            principal = await self.principal(request) if asks else None  # before the body
            content = await read_content(request, self._incoming, min(JSON_LIMIT, limit))
            return await self.run(lambda: work(content, None, principal))
        principal = await self.principal(request)
        await self._admit(request, found.endpoint.brings, principal, project)
        async with spooled(request, self._incoming, limit) as body:
            return await self.run(lambda: work(b"", body, principal))

    async def _operation(self, request: Request, path: str) -> Response:
        principal = await self.principal(request)
        if not path.startswith(f"{PREFIX}/"):
            raise NotFound(f"There is nothing at {path!r}.", code="no-route", hint="/api/docs lists what there is.")
        op, placed = self._routes.find(request.method, path.removeprefix(PREFIX))
        project = placed.pop("project", self.platform.settings.project)
        key = _key(op, request)
        query = request.scope["query_string"]
        if op.body is None:
            content = await read_json(request, self._incoming, min(JSON_LIMIT, self.platform.settings.body_limit))
            args = arguments(op, placed, query, content)
            return await self._call(op, args, principal, project, None, key, request.headers.get("if-none-match", ""))
        args = arguments(op, placed, query, b"")
        await self._admit(request, op.name, principal, project)
        async with spooled(request, self._incoming, self.platform.settings.body_limit) as body:
            return await self._call(op, args, principal, project, body, key)

    async def _admit(self, request: Request, operation: str, principal: Principal, project: str) -> None:
        """Refuses a large body of who may not send it, before it is taken; a small one, the operation itself."""

        def work(op: Operation) -> None:
            try:
                self.platform.allow(op.action, principal, project)
            except Refused as e:
                if e.code == "forbidden":
                    self.platform.deny(op, principal, project)
                raise

        if operation and is_large(request):
            await self.run(lambda: work(OPERATIONS[operation]))

    async def _call(
        self,
        op: Operation,
        args: dict[str, Any],
        principal: Principal,
        project: str,
        body: Body | None,
        key: str | None,
        known: str = "",
    ) -> Response:
        def work() -> Response:
            result = self.platform.call(
                op.name, args, principal=principal, project=project, body=body, idempotency_key=key
            )
            return answer(result, op.name, known)

        return await self.run(work)

    async def _guarded(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        try:
            return await work()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as e:
            return refusal(e, accept=request.headers.get("accept", ""))

    async def run(self, work: Callable[[], T]) -> T:
        """Runs blocking work in one of the threads."""
        return await to_thread.run_sync(work, limiter=self._limiter)


def _raw_path(request: Request) -> str:
    """The path as it came, so that an encoded slash stays part of a name."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    return str(raw.decode("ascii", errors="replace").partition("?")[0])


def _key(op: Operation, request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if not keys or not op.mutates:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Invalid(
            "The Idempotency-Key cannot be read.",
            code="bad-key",
            hint="Send one, of 1 to 128 visible ASCII characters.",
        )
    if "secret" in getattr(op.out, "__struct_fields__", ()):
        # The answer would have to be kept to be given again, and its secret is kept nowhere.
        raise Invalid(
            f"{op.name} takes no Idempotency-Key: its answer is not kept.", code="bad-key", hint="Leave it out."
        )
    return keys[0]
