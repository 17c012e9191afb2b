"""Whose process is at the other end of a connection on this machine. Standard library only.

On Linux the kernel is asked for the owner of the one socket (netlink, sock_diag(7)); where it does not answer, its table of all
TCP sockets is read, which takes milliseconds and not microseconds. Where there is neither, a server writes a token file that only
its own user can read (`write_local_token`), and a client of the same user sends what is in it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import struct
import sys
from pathlib import Path
from typing import Literal

from loopline.failpoints import failpoint

UNKNOWN = -1
"""The owner that is not known, and so is nobody's."""

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

Address = tuple[str, int]

_FAMILY = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, of requests and answers
_ESTABLISHED = 1
_REQUEST = struct.Struct("=IHHII BBBBI")  # nlmsghdr; inet_diag_req_v2 up to the socket's id
_ENDS = struct.Struct("!HH16s16s")  # the id: both ports and addresses in network order
_MAPPED = b"\0" * 10 + b"\xff\xff"
_REST = struct.Struct("=III")  # interface, and a cookie: none
_ANSWER = struct.Struct("=BBBB 48s IIIII")  # inet_diag_msg


def peer_uid(peer: Address, local: Address, tables: tuple[Path, ...] = _TABLES) -> int:
    """The user id that owns the peer's socket of a loopback connection, or `UNKNOWN`.

    `peer` and `local` are both ends as the server's socket names them. A socket that its process has left (inode 0) is
    nobody's: the kernel shows it as the superuser's, whoever opened it.
    """
    if not (is_loopback(peer[0]) and is_loopback(local[0])):
        return UNKNOWN
    if tables and tables is _TABLES:
        with contextlib.suppress(OSError, struct.error, ValueError, AttributeError):
            if (found := _ask(peer, local)) is not None:
                return found
    ends = _plain(peer), _plain(local)
    ports = f"{peer[1]:04X}".encode(), f"{local[1]:04X}".encode()
    for table in tables:
        try:
            lines = table.read_bytes().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 10 or not (fields[1].endswith(ports[0]) and fields[2].endswith(ports[1])):
                continue
            if (_read(fields[1]), _read(fields[2])) == ends:
                return int(fields[7]) if fields[9] != b"0" else UNKNOWN
    return UNKNOWN


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
    # Where a socket of IPv6 speaks IPv4, its addresses are shown as mapped ones.
    shown = (
        wanted if family == socket.AF_INET6 else _ENDS.pack(peer[1], server[1], *(_MAPPED + ip.packed for ip in plain))
    )
    if state != _ESTABLISHED or ident[: len(wanted)] not in (wanted, shown):
        return None
    # A socket that its process has left is shown as the superuser's, whoever opened it.
    return int(uid) if inode else UNKNOWN


def can_tell() -> bool:
    """Whether this system tells the owner of a socket at all."""
    return _TABLES[0].exists()


def is_loopback(host: str) -> bool:
    """Whether the address, a number, is of this machine alone."""
    try:
        return _number(host).is_loopback
    except ValueError:
        return False


def local_token_file(workspace: Path) -> Path:
    """Where a server keeps its local token."""
    return workspace / "keys" / "local.token"


def write_local_token(workspace: Path) -> str:
    """Makes a new local token and writes it for the own user alone (mode 0600); the former one is void."""
    path = local_token_file(workspace)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = "ll_" + secrets.token_urlsafe(32)
    draft = path.with_name(f".local.token.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    failpoint("access.local_token.before_rename")
    draft.replace(path)
    return token


def _plain(address: Address) -> tuple[bytes, int]:
    return _number(address[0]).packed, address[1]


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    number = ipaddress.ip_address(host.partition("%")[0])
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    return mapped or number


def _read(field: bytes) -> tuple[bytes, int]:
    """An end as the kernel prints it: words of 32 bits in the machine's own byte order, in hex, and the port."""
    words, _, port = field.decode().partition(":")
    packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, _ORDER) for i in range(0, len(words), 8))
    return _number(str(ipaddress.ip_address(packed))).packed, int(port, 16)


_ORDER: Literal["little", "big"] = sys.byteorder
