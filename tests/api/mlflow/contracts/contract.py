"""Calls of MLflow's protocol, and their answers in a form in which two servers can be compared.

The same list of calls is sent to MLflow's own server (scripts/mlflow_golden.py, which writes golden/) and to Loopline. What differs
between two runs of one server is put in place of by its name: ids, times, made-up names, page tokens.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

API = "/api/2.0/mlflow/"

_LATELY = 1_600_000_000_000
_TIMES = {"creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp", "creation_timestamp_ms",
          "last_updated_timestamp_ms", "start_time", "end_time"}  # fmt: skip
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")


class Call(NamedTuple):
    """One call. `{name}` in a text stands for what an earlier call kept under it (`keep`: name by path in the answer).

    `differs` says why Loopline answers otherwise on purpose; its answer is then (status, error code, or "" where it is no error).
    """

    name: str
    method: str
    path: str
    given: Any = None
    keep: Mapping[str, str] = MappingProxyType({})
    differs: str = ""
    ours: tuple[int, str] = (0, "")
    raw: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})


def post(name: str, path: str, given: Any = None, **more: Any) -> Call:
    """A call with a JSON body."""
    return Call(name, "POST", path, {} if given is None else given, **more)


def get(name: str, path: str, given: Any = None, **more: Any) -> Call:
    """A call with a query; a list is a repeated field."""
    return Call(name, "GET", path, given, **more)


class Talk:
    """A conversation with a server: calls one after the other, with what was kept of the answers."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._prefix = parts.path.rstrip("/")
        self._headers = headers or {}
        self._kept: dict[str, str] = {}

    def send(self, call: Call) -> dict[str, Any]:
        """The answer in the form in which it is compared."""
        given = _filled(call.given, self._kept)
        path = _filled(call.path, self._kept)
        target = self._prefix + (path if path.startswith("/") else API + path)
        body, headers = call.raw, {**self._headers, **call.headers}
        if call.method == "GET":
            target += "?" + urlencode(given, doseq=True) if given else ""
        elif body is None:
            body = json.dumps(given).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            self._connection.request(call.method, target, body, headers)
            response = self._connection.getresponse()
        except ConnectionError:  # gunicorn ends a connection whose last body it did not read
            self._connection.close()
            self._connection.request(call.method, target, body, headers)
            response = self._connection.getresponse()
        content = response.read()
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {"text": content.decode(errors="replace") if response.status == 200 else ""}
        for name, where in call.keep.items():
            self._kept[name] = str(_at(answer, where))
        return {"call": call.name, "status": response.status, "answer": self._plain(answer)}

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _plain(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._plain(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list):
            items = [self._plain(item, key) for item in value]
            if all(isinstance(item, dict) and {"key", "value"} >= item.keys() and "key" in item for item in items):
                return sorted(items, key=lambda item: str(item["key"]))  # tags and params have no order
            if key == "metrics" and len({item.get("key") for item in items}) == len(items):
                return sorted(items, key=lambda item: str(item["key"]))
            return items
        if key in _TIMES and isinstance(value, int) and value > _LATELY:
            return "<time>"
        if key == "next_page_token":
            return "<token>"
        if isinstance(value, str):
            return self._text(value)
        return value

    def _text(self, text: str) -> str:
        if _MADE_UP.fullmatch(text):
            return "<name>"
        for name, kept in sorted(self._kept.items(), key=lambda pair: -len(pair[1])):
            if len(kept) > 8:  # a number of an experiment is the same everywhere
                text = text.replace(kept, f"<{name}>")
        text = re.sub(r"(already exists\.).*", r"\1", text, flags=re.DOTALL)
        return re.sub(r"[{(\[]('[^'}\])]*'(?:, '[^'}\])]*')*)[})\]]", _sorted, text)


def converse(url: str, calls: Iterable[Call], headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The answers to a list of calls."""
    talk = Talk(url, headers)
    try:
        return [talk.send(call) for call in calls]
    finally:
        talk.close()


def _sorted(found: re.Match[str]) -> str:
    """A set in a message, which has another order each time."""
    return "{" + ", ".join(sorted(set(found[1].split(", ")))) + "}"


def _filled(value: Any, kept: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in kept.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: _filled(item, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, kept) for item in value]
    return value


def _at(answer: Any, where: str) -> Any:
    for part in where.split("."):
        answer = answer[int(part)] if part.isdigit() else answer[part]
    return answer
