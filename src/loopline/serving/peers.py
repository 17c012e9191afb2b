"""Who is at the other end of a connection: its address and, on this machine, the operating-system user who owns it.

The owner is asked of the kernel for this one socket (netlink, sock_diag(7)); reading the table of all sockets costs
milliseconds, which a server cannot spend on each connection. Where the kernel does not answer, the table is read all the same.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

from loopline.access.peer import UNKNOWN, is_loopback, peer_uid

Address = tuple[str, int]

_FAMILY = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, of requests and answers
_ESTABLISHED = 1
_REQUEST = struct.Struct("=IHHII BBBBI")  # nlmsghdr; inet_diag_req_v2 up to the socket's id
_ENDS = struct.Struct("!HH16s16s")  # the id: both ports and addresses in network order
_REST = struct.Struct("=III")  # interface, and a cookie: none
_ANSWER = struct.Struct("=BBBB 48s IIIII")  # inet_diag_msg


class Peer:
    """One connection's other end, as the server's socket names both ends."""

    __slots__ = ("_client", "_server", "_uid", "here", "local")

    def __init__(self, client: Address | None, server: tuple[str, int | None] | None) -> None:
        self._client = (client[0], client[1]) if client else ("", 0)
        self._server = (server[0], server[1] or 0) if server else ("", 0)
        self._uid: int | None = None
        self.here = f"{self._client[0]}:{self._client[1]}"
        self.local = is_loopback(self._client[0])
        """Whether the peer is on this machine."""

    @property
    def uid(self) -> int:
        """The user who owns the peer's socket, looked up once; -1 where it is elsewhere or the system does not tell."""
        if self._uid is None:
            self._uid = owner(self._client, self._server) if self.local else UNKNOWN
        return self._uid


def owner(peer: Address, server: Address) -> int:
    """The uid that owns the peer's socket of a loopback connection, or -1. As `loopline.access.peer.peer_uid`, but fast."""
    if not (is_loopback(peer[0]) and is_loopback(server[0])):
        return UNKNOWN
    try:
        found = _ask(peer, server)
    except (OSError, struct.error, ValueError, AttributeError):
        found = None
    return peer_uid(peer, server) if found is None else found


def _ask(peer: Address, server: Address) -> int | None:
    """The owner as the kernel says; None where it knows no such socket."""
    if sys.platform != "linux":
        return None
    ends = [ipaddress.ip_address(a.partition("%")[0]) for a, _ in (peer, server)]
    plain = [getattr(ip, "ipv4_mapped", None) or ip for ip in ends]
    family = socket.AF_INET if all(ip.version == 4 for ip in plain) else socket.AF_INET6
    packed = [ip.packed.ljust(16, b"\0") for ip in plain]
    wanted = _ENDS.pack(peer[1], server[1], *packed)
    request = _REQUEST.pack(72, _BY_FAMILY, 1, 1, 0, family, socket.IPPROTO_TCP, 0, 0, 1 << _ESTABLISHED)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _FAMILY) as asked:
        asked.settimeout(0.1)
        asked.send(request + wanted + _REST.pack(0, 0xFFFFFFFF, 0xFFFFFFFF))
        answer = asked.recv(4096)
    _, kind = struct.unpack_from("=IH", answer)
    if kind != _BY_FAMILY:
        return None
    _, state, _, _, ident, _, _, _, uid, inode = _ANSWER.unpack_from(answer, 16)
    if state != _ESTABLISHED or ident[: len(wanted)] != wanted:
        return None
    # A socket that its process has left is shown as the superuser's, whoever opened it.
    return int(uid) if inode else UNKNOWN
