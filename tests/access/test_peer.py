"""The owner of the other end of a connection, asked of the real kernel."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from loopline.access import peer

linux = pytest.mark.skipif(not peer.can_tell(), reason="this system has no /proc/net/tcp")


@linux
@pytest.mark.parametrize(
    ("family", "host", "dialled"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "localhost4"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
)
def test_the_own_connection_is_ones_own(family: int, host: str, dialled: str) -> None:
    dialled = dialled.replace("localhost4", "127.0.0.1")
    try:
        server = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except OSError as e:
        pytest.skip(f"this machine has no such address: {e}")
    with server, socket.create_connection((dialled, server.getsockname()[1])):
        served, _ = server.accept()
        with served:
            assert peer.peer_uid(served.getpeername()[:2], served.getsockname()[:2]) == os.getuid()
            other = (served.getpeername()[0], served.getpeername()[1] ^ 1)
            assert peer.peer_uid(other, served.getsockname()[:2]) == peer.UNKNOWN


@linux
def test_a_socket_that_was_left_is_nobodys() -> None:
    """The kernel prints user 0 for it, which would let anybody in where the server runs as the superuser."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        served, _ = server.accept()
        with served:
            ends = served.getpeername(), served.getsockname()
            assert peer.peer_uid(*ends) == os.getuid()
            client.close()
            assert peer.peer_uid(*ends) == peer.UNKNOWN


@linux
@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can act as another user")
def test_another_users_connection_is_theirs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.seteuid(12345)
        try:
            client = socket.create_connection(server.getsockname())
        finally:
            os.seteuid(0)
        with client:
            served, _ = server.accept()
            with served:
                assert peer.peer_uid(served.getpeername(), served.getsockname()) == 12345


@pytest.mark.parametrize("host", ["10.0.0.1", "::2", "example.org", "", "127.0.0.1.evil.org", "0.0.0.0"])
def test_no_other_address_has_an_owner(host: str) -> None:
    assert not peer.is_loopback(host)
    assert peer.peer_uid((host, 1), ("127.0.0.1", 2)) == peer.UNKNOWN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses(host: str) -> None:
    assert peer.is_loopback(host)


def test_without_the_kernels_tables_nobody_is_known(tmp_path: Path) -> None:
    ends = ("127.0.0.1", 1), ("127.0.0.1", 2)
    assert peer.peer_uid(*ends, tables=(tmp_path / "tcp",)) == peer.UNKNOWN
    (tmp_path / "tcp").write_text("sl local rem\n  nonsense\n")
    assert peer.peer_uid(*ends, tables=(tmp_path / "tcp",)) == peer.UNKNOWN


def test_the_local_token_is_for_the_own_user_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        first = peer.write_local_token(tmp_path)
        second = peer.write_local_token(tmp_path)
    finally:
        os.umask(umask)
    path = peer.local_token_file(tmp_path)
    assert first != second == path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["local.token"]
