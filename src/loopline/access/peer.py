"""Whose process is at the other end of a connection on this machine. Standard library only.

On Linux the kernel's tables of TCP sockets tell the owner of each. Where there are none, a server writes a token file that only
its own user can read (`write_local_token`), and a client of the same user sends what is in it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from pathlib import Path
from typing import Literal

from loopline.failpoints import failpoint

UNKNOWN = -1
"""The owner that is not known, and so is nobody's."""

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

Address = tuple[str, int]


def peer_uid(peer: Address, local: Address, tables: tuple[Path, ...] = _TABLES) -> int:
    """The user id that owns the peer's socket of a loopback connection, or `UNKNOWN`.

    `peer` and `local` are both ends as the server's socket names them. A socket that its process has left (inode 0) is
    nobody's: the kernel shows it as the superuser's, whoever opened it.
    """
    if not (is_loopback(peer[0]) and is_loopback(local[0])):
        return UNKNOWN
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
