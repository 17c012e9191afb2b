"""What a browser is told and refused: foreign names, foreign pages, headers."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

WHO = "/api/v1/access/whoami"
PRINCIPALS = "/api/v1/access/principals"


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "LOCALHOST:8400", "[::1]:8400", "ml.example.org", "other.example:443"]
)
def test_known_hosts_are_answered(served: Any, host: str) -> None:
    assert served.ask("GET", WHO, headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.org",
        "localhost.evil.org",
        "127.0.0.1.evil.org",
        "10.0.0.1",
        "",
        "[",
        "ml.example.org@evil.org",
        "localhost evil",
    ],
)
def test_a_foreign_host_is_refused(served: Any, host: str) -> None:
    reply = served.ask("GET", WHO, headers={"Host": host})
    assert reply.status in (400, 403)
    if reply.status == 403:
        assert reply.code == "foreign-host"


def test_with_a_token_the_name_does_not_matter(served: Any) -> None:
    secret = served.platform.session().access.create_token().secret
    for given, status in ((secret, 200), ("ll_wrong", 401)):
        headers = {"Host": "10.0.0.1:8400", "Authorization": f"Bearer {given}"}
        assert served.ask("GET", WHO, headers=headers).status == status


def test_health_answers_to_any_name(served: Any) -> None:
    assert served.ask("GET", "/health", headers={"Host": "10.0.0.1:8400"}).content == b"OK"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost.evil.org"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_change_asked_by_a_foreign_page_is_refused(served: Any, method: str, headers: dict[str, str]) -> None:
    reply = served.ask(method, PRINCIPALS, json={"name": "mallory"}, headers=headers)
    assert (reply.status, reply.code) == (403, "foreign-origin")
    assert "mallory" not in served.ask("GET", PRINCIPALS).content.decode()


def test_the_own_page_may_change(served: Any) -> None:
    headers = {"Origin": f"http://127.0.0.1:{served.port}", "Sec-Fetch-Site": "same-origin"}
    assert served.ask("POST", PRINCIPALS, json={"name": "page"}, headers=headers).status == 200


@pytest.mark.parametrize("target", ["/api/docs", "/api/openapi.json", WHO, "/nothing", "/health"])
def test_every_answer_carries_the_headers_that_keep_a_browser_safe(served: Any, target: str) -> None:
    headers = served.ask("GET", target, headers={"Origin": "https://evil.org"}).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "script" not in headers["Content-Security-Policy"]
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_a_websocket_is_not_opened(served: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request(
        "GET",
        WHO,
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "x",
            "Sec-WebSocket-Version": "13",
        },
    )
    assert connection.getresponse().status != 101
    connection.close()
