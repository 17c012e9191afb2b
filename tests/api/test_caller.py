"""Who is let in through the HTTP door, and as whom."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

import loopline.client
from loopline.access import peer
from loopline.api import server
from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.errors import Refused

WHO = "/api/v1/access/whoami"


def test_the_servers_own_user_needs_no_token(served: Any) -> None:
    assert served.ask("GET", WHO).json["name"] == served.platform.owner.name


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
def test_a_relayed_request_is_not_the_own_users(served: Any, header: str) -> None:
    assert served.ask("GET", WHO, headers={header: "10.0.0.1"}).status == 401


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can act as another user")
def test_another_user_of_the_machine_needs_a_token(served: Any) -> None:
    connection = served.connection()
    os.seteuid(12345)
    try:
        connection.connect()
    finally:
        os.seteuid(0)
    connection.request("GET", WHO)
    assert connection.getresponse().status == 401
    connection.close()


def test_headers_of_the_forwarder_mean_nothing_on_tcp(served: Any) -> None:
    given = {"x-loopline-peer": "127.0.0.1:1", "x-loopline-peer-uid": "54321", "X-Forwarded-For": "127.0.0.1"}
    assert served.ask("GET", WHO, headers=given).status == 401
    del given["X-Forwarded-For"]
    assert served.ask("GET", WHO, headers=given).status == 200


@pytest.mark.parametrize(
    ("peer", "uid", "status"),
    [
        ("127.0.0.1:5", str(os.getuid()), 200),
        ("[::1]:5", str(os.getuid()), 200),
        ("127.0.0.1:5", str(os.getuid() + 1), 401),
        ("127.0.0.1:5", "-1", 401),
        ("127.0.0.1:5", "", 401),
        ("10.0.0.1:5", str(os.getuid()), 401),
        ("", str(os.getuid()), 401),
        ("localhost:5", str(os.getuid()), 401),
    ],
)
def test_behind_the_control_socket_the_forwarder_says_who(controlled: Any, peer: str, uid: str, status: int) -> None:
    assert controlled.ask("GET", WHO, headers={"x-loopline-peer": peer, "x-loopline-peer-uid": uid}).status == status
    assert controlled.ask("GET", WHO).status == 401


def test_the_control_socket_is_for_the_own_user(controlled: Any) -> None:
    assert controlled.control.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("user", ["", "token", "ann", "os:ann", "anything"])
def test_a_token_as_bearer_or_as_the_password_of_mlflows_client(served: Any, user: str) -> None:
    owner = served.platform.session()
    owner.access.add_principal("ann")
    secret = owner.access.create_token(principal="ann").secret
    basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
    for given in (f"Bearer {secret}", f"bearer {secret}", f"Basic {basic}"):
        assert served.ask("GET", WHO, headers={"Authorization": given}).json["name"] == "ann"


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer ",
        "Bearer ll_x",
        "Basic",
        "Basic !!!",
        "Basic YQ==",
        "Digest x",
        "ll_x",
        "Basic Og==",
        "Bearer \xff",
    ],
)
def test_a_wrong_token_is_refused_even_from_the_own_user(served: Any, given: str) -> None:
    reply = served.ask("GET", WHO, headers={"Authorization": given})
    assert reply.status == 401
    schemes = [challenge.partition(" ")[0] for challenge in reply.headers.get_all("WWW-Authenticate")]
    assert schemes == ["Bearer", "Basic"]


def test_without_the_kernels_tables_the_local_token_lets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(server, "can_tell", lambda: False)
    monkeypatch.setattr(peer, "_TABLES", ())
    monkeypatch.setattr(peer.peer_uid, "__defaults__", ((),))
    monkeypatch.setenv("LOOPLINE_WORKSPACE", str(tmp_path / "w"))
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "out"))
    with ApiServer(platform) as running:
        with loopline.client.connect(running.url) as session, pytest.raises(Refused):
            session.access.whoami()
        (tmp_path / "w" / "server.json").write_text(f'{{"url": "{running.url}"}}')
        with loopline.client.connect(running.url) as session:
            assert session.access.whoami().name == platform.owner.name
    platform.close()
