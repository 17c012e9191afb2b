"""Who is at the other end of a connection: its address and, on this machine, the operating-system user who owns it."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

_STATE = b" 01 "  # TCP_ESTABLISHED, as /proc/net/tcp shows it


class Peer:
    """One connection's other end. `uid` is looked up once, when it is first asked for."""

    __slots__ = ("_uid", "address", "here", "local", "port", "server", "server_port")

    def __init__(self, client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> None:
        self.address, self.port = client if client else ("", 0)
        self.server, self.server_port = (server[0], server[1] or 0) if server else ("", 0)
        self.local = _loopback(self.address)
        """Whether the peer is on this machine."""
        self.here = f"{self.address}:{self.port}"
        self._uid: int | None = None

    @property
    def uid(self) -> int:
        """The user who owns the peer's socket; -1 where the peer is elsewhere or the system does not tell."""
        if self._uid is None:
            self._uid = owner(self.address, self.port, self.server, self.server_port) if self.local else -1
        return self._uid


def _loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def owner(address: str, port: int, server: str, server_port: int) -> int:
    """The owner's uid of the socket `address:port` that is connected to `server:server_port` on this machine; -1: unknown."""
    try:
        peer, ours = ipaddress.ip_address(address), ipaddress.ip_address(server)
    except ValueError:
        return -1
    forms = []
    if peer.version == 6 and peer.ipv4_mapped and ours.version == 6 and ours.ipv4_mapped:
        # A dual-stack listener shows an IPv4 client so; the client's own socket is of either family.
        forms.append(("tcp", peer.ipv4_mapped.packed, ours.ipv4_mapped.packed))
    forms.append(("tcp" if peer.version == 4 else "tcp6", peer.packed, ours.packed))
    if peer.version == 4 and ours.version == 4:
        mapped = b"\0" * 10 + b"\xff\xff"
        forms.append(("tcp6", mapped + peer.packed, mapped + ours.packed))
    for table, local, remote in forms:
        wanted = b" %s:%04X %s:%04X" % (_hex(local), port, _hex(remote), server_port) + _STATE
        try:
            data = Path(f"/proc/net/{table}").read_bytes()
        except OSError:
            continue
        at = data.find(wanted)
        if at >= 0:
            rest = data[at + len(wanted) : data.find(b"\n", at)].split()
            try:
                return int(rest[3])  # tx:rx, tr:when, retransmits, uid
            except (IndexError, ValueError):
                return -1
    return -1


def _hex(packed: bytes) -> bytes:
    """An address as the kernel prints it: 32-bit words in the machine's own order."""
    words = [packed[i : i + 4] for i in range(0, len(packed), 4)]
    return b"".join(b"%08X" % socket.htonl(int.from_bytes(w, "big")) for w in words)
