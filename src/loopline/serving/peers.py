"""Who is at the other end of a connection: its address and, on this machine, the operating-system user who owns it."""

from __future__ import annotations

from loopline.access.peer import UNKNOWN, Address, is_loopback, peer_uid


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
            self._uid = peer_uid(self._client, self._server) if self.local else UNKNOWN
        return self._uid
