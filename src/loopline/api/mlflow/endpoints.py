"""How an endpoint of MLflow's is declared, and how a path finds it.

    @endpoint("POST /api/2.0/mlflow/runs/set-tag", action="run", needed=("run_id", "key"))
    def set_tag(ask: Ask, given: SetTag) -> None:
        ask.call("runs.tag", run=given.run_id, tags={given.key: given.value})

The second argument's type says what is read of the body or the query; a place in the path (`{model_id}`) fills the field of its
name. What is given back is a Struct or a mapping (None: `{}`), or a response as it is. Each path under /api/ is there under
/ajax-api/ as well, and all of them behind a prefix that names a project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_type_hints
from urllib.parse import unquote

import msgspec
from starlette.requests import Request

from loopline.access.records import Principal
from loopline.api.mlflow.messages import Message
from loopline.api.mlflow.problems import Problem
from loopline.api.pages.links import SUFFIX
from loopline.app import Platform
from loopline.operations import Action, Body

Takes = Literal["json", "raw"]

_PREFIXED = re.compile(
    r"(?P<prefix>(?:/[^/]+){0,2}?)(?P<path>/(?:ajax-)?api/(?:2\.0/?|3\.0/)mlflow.*|/version|/get-artifact"
    r"|/model-versions/get-artifact|/__reset__)",
    re.DOTALL,
)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One declared endpoint. `action` is the permission that its verbs ask for; None: open to all. `brings`: the operation
    that takes its raw body, where it has one."""

    method: str
    path: str
    action: Action | None
    takes: Takes
    brings: str
    needed: tuple[str, ...]
    kind: type[Message]
    work: Callable[[Ask, Any], Any]


class Ask:
    """One request: who asks, in which project, and what came with it."""

    def __init__(
        self, platform: Platform, principal: Principal | None, project: str, request: Request, body: Body | None = None
    ) -> None:
        self.platform = platform
        self.project = project
        self.request = request
        self.body = body
        self._principal = principal
        self.called = False
        """Whether a verb was let through, and so that the caller has the permission."""

    @property
    def principal(self) -> Principal:
        """Who asks; there is somebody on every endpoint that is not open to all."""
        assert self._principal is not None
        return self._principal

    def call(self, operation: str, **args: Any) -> Any:
        """The result of one of the platform's own operations, as the one who asks."""
        result = self.platform.call(operation, args, principal=self.principal, project=self.project)
        self.called = True
        return result

    def send(self, operation: str, body: Body, **args: Any) -> Any:
        """The same of an operation that takes raw bytes."""
        result = self.platform.call(operation, args, principal=self.principal, project=self.project, body=body)
        self.called = True
        return result


class Found(msgspec.Struct, frozen=True):
    """What a path names: the endpoint, what its places hold, and the project ("": the server's own)."""

    endpoint: Endpoint
    placed: dict[str, str]
    project: str


ENDPOINTS: list[Endpoint] = []

_exact: dict[str, dict[str, Endpoint]] = {}
_patterns: list[tuple[re.Pattern[str], Endpoint]] = []


def endpoint(
    route: str, *, action: Action | None, needed: tuple[str, ...] = (), takes: Takes = "json", brings: str = ""
) -> Callable[[Callable[[Ask, Any], Any]], Callable[[Ask, Any], Any]]:
    """Declares an endpoint ("METHOD /path"); `needed`: fields that must be given, in the order in which they are missed.

    `takes` "raw": the body is bytes (`ask.body`, for the operation that `brings` names), and what else is given stands in the
    query.
    """
    method, path = route.split()

    def declare(work: Callable[[Ask, Any], Any]) -> Callable[[Ask, Any], Any]:
        kind = list(get_type_hints(work).values())[1]
        ENDPOINTS.append(
            made := Endpoint(
                method=method,
                path=path,
                action=action,
                takes=takes,
                brings=brings,
                needed=needed,
                kind=kind,
                work=work,
            )
        )
        for own in (path, path.replace("/api/", "/ajax-api/", 1)) if path.startswith("/api/") else (path,):
            if "{" in own:
                parts = re.split(r"({\w+(?::path)?})", own)
                pattern = "".join(_place(part) if part[:1] == "{" else re.escape(part) for part in parts)
                _patterns.append((re.compile(pattern, re.DOTALL), made))
            else:
                _exact.setdefault(own, {})[method] = made
        return work

    return declare


def find(method: str, target: str) -> Found | None:
    """The endpoint of a raw path; None where the path is not of this protocol. Raises `Problem`."""
    split = _PREFIXED.fullmatch(target)
    if split is None:
        return None
    path = split["path"]
    project = unquote(split["prefix"].rpartition("/")[2]).removesuffix(SUFFIX)
    here = _exact.get(path)
    if here is not None and method in here:
        return Found(here[method], {}, project)
    allowed = set(here or ())
    for pattern, made in _patterns:
        if found := pattern.fullmatch(path):
            if made.method == method:
                return Found(made, {name: _decoded(text) for name, text in found.groupdict().items()}, project)
            allowed.add(made.method)
    if not allowed and not path.startswith(("/api/", "/ajax-api/")):
        return None
    if allowed:
        raise Problem(f"{path} does not take {method}.", "ENDPOINT_NOT_FOUND", 405)
    raise Problem(f"There is no endpoint {path!r} here.", "ENDPOINT_NOT_FOUND")


def _place(part: str) -> str:
    name, _, rest = part.strip("{}").partition(":")
    return f"(?P<{name}>{'.*' if rest else '[^/]+'})"


def _decoded(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError as e:
        raise Problem(f"{text!r} is not UTF-8.") from e
    if "\0" in plain:
        raise Problem("A NUL character stands in the address.")
    return plain
