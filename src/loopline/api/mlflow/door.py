"""One request of MLflow's protocol, from its content to its answer; called in a worker thread."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from loopline.api.mlflow import messages
from loopline.api.mlflow.endpoints import Ask, Found
from loopline.api.mlflow.problems import Problem


def answer(found: Found, ask: Ask, content: bytes) -> Response:
    """The response of an endpoint. Raises `Problem`, and what its verbs raise.

    Who may not call it is told that before what is wrong with the request.
    """
    try:
        result = found.endpoint.work(ask, _given(found, ask, content))
    except Problem:
        _allow(found, ask)
        raise
    _allow(found, ask)
    if isinstance(result, Response):
        return result
    return Response(msgspec.json.encode({} if result is None else result), media_type="application/json")


def _allow(found: Found, ask: Ask) -> None:
    """Where no verb has asked for the permission, it is asked for here."""
    action = found.endpoint.action
    if action is not None and not ask.called:
        ask.platform.allow(action, ask.principal, ask.project)


def _given(found: Found, ask: Ask, content: bytes) -> messages.Message:
    endpoint, request = found.endpoint, ask.request
    query = request.scope["query_string"]
    needed = tuple(name for name in endpoint.needed if name not in found.placed)
    if endpoint.takes == "raw" or (request.method == "GET" and query):
        given = messages.read_query(endpoint.kind, query, needed)
    else:
        if request.method in ("POST", "PUT"):
            _check_media(request.headers.get("content-type"))
        given = messages.read(endpoint.kind, content, needed)
    for name, text in found.placed.items():
        setattr(given, name, text)
    return given


def _check_media(media: str | None) -> None:
    if media is None:
        raise Problem("Bad Request. Content-Type header is missing.")
    if media != "application/json" and media.partition(";")[0] != "application/json":
        raise Problem("Bad Request. Content-Type must be one of ['application/json'].")
