"""Who may call: the checks that every request passes before anything else is looked at.

The same operating-system user on this machine needs no token; everybody else sends a bearer token, whose SHA-256 digest the
control process has put beside the routing table. A Host or Origin header of a foreign name is refused, so that a page in a
browser cannot reach the server through DNS rebinding or a cross-site request.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping

from loopline.access.peer import is_loopback
from loopline.errors import Invalid
from loopline.serving.live import Live
from loopline.serving.peers import Peer
from loopline.serving.problems import Problem, foreign, no_token, wrong_token
from loopline.serving.records import KNOWN

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
PROXIES = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
"""What a proxy adds: who sent such a request is at the proxy's other end."""


class Gate:
    """The checks, with the further host names that are answered to."""

    def __init__(self, allowed_hosts: Iterable[str] = (), *, open: bool = False) -> None:
        """`open`: whoever reaches this server may call; a token that is sent must be a good one all the same."""
        self._open = open
        self._allowed = frozenset(h.strip().lower() for h in allowed_hosts if h.strip())

    def check_host(self, headers: Mapping[bytes, bytes], peer: Peer) -> None:
        """Raises `Problem` for a foreign Host or Origin. HTTP/1.0 clients without a Host header are let through."""
        host = headers.get(b"host")
        if host is not None and not self._known(host, peer):
            raise foreign("Host", host.decode("latin-1")[:100])
        origin = headers.get(b"origin")
        if origin is not None:
            scheme, _, rest = origin.partition(b"://")
            same = host is not None and rest.lower() == host.lower() and scheme in (b"http", b"https")
            if not same and (_name(rest) not in self._allowed or _is_here(_name(rest))):
                raise foreign("Origin", origin.decode("latin-1")[:100])

    def _known(self, host: bytes, peer: Peer) -> bool:
        name = _name(host)
        if name in self._allowed or (name in LOCAL and peer.local):
            return True
        # From elsewhere any name reaches us while none is configured: such callers need a token anyway.
        return not peer.local and not self._allowed

    def allow(self, live: Live, endpoint: str | None, headers: Mapping[bytes, bytes], peer: Peer) -> None:
        """Raises `Problem` unless this caller may use the endpoint (None: anything of the worker, with any token)."""
        digest = _digest(headers)
        if digest:
            if digest in live.tokens.get("*", ()) or (endpoint and digest in live.tokens.get(endpoint, ())):
                return
            named = [name for name, digests in live.tokens.items() if digest in digests]
            if endpoint is None and any(name != KNOWN for name in named):
                return
            raise wrong_token(endpoint) if named else no_token()
        if not self._open and peer_uid(headers, peer) != os.geteuid():
            raise no_token()

    def manage(self, live: Live, headers: Mapping[bytes, bytes], peer: Peer) -> None:
        """Raises `Problem` unless this caller may change what is served: this user on this machine, or a token for everything.

        Whoever reaches an open server may call its models, and not take them away.
        """
        if digest := _digest(headers):
            if digest not in live.tokens.get("*", ()):
                raise wrong_token(None) if any(digest in known for known in live.tokens.values()) else no_token()
        elif peer_uid(headers, peer) != os.geteuid():
            raise no_token()

    def served(self, live: Live, headers: Mapping[bytes, bytes], peer: Peer, *, failed: bool = False) -> list[str]:
        """The endpoints that this caller may use, with `failed` those that cannot be served or are not loaded, too.

        Raises `Problem`.
        """
        self.allow(live, None, headers, peer)
        names = (*live.endpoints, *((*live.failed, *live.table.idle) if failed else ()))
        return [name for name in names if self._may(live, name, headers, peer)]

    def _may(self, live: Live, endpoint: str, headers: Mapping[bytes, bytes], peer: Peer) -> bool:
        try:
            self.allow(live, endpoint, headers, peer)
        except Problem:
            return False
        return True


def caller(headers: Mapping[bytes, bytes]) -> str:
    """What tells one allowed caller from another: the beginning of its token's digest; "" without a token, as this user."""
    return _digest(headers)[:16]


def _digest(headers: Mapping[bytes, bytes]) -> str:
    """The SHA-256 of the bearer token in hex; "" without one: a signature of AWS, say, is another one each time."""
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    return hashlib.sha256(token.strip()).hexdigest() if kind.lower() == b"bearer" and token else ""


def peer_uid(headers: Mapping[bytes, bytes], peer: Peer) -> int:
    """The user on this machine who sent the request; -1: somebody elsewhere, or behind a proxy on this machine."""
    return -1 if any(name in headers for name in PROXIES) else peer.uid


def unique(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name. Raises `Problem` where one that decides something is given twice."""
    found = dict(headers)
    if len(found) != len(headers):
        seen: set[bytes] = set()
        for name, _ in headers:
            if name in seen and name in (b"host", b"origin", b"authorization", b"content-length"):
                raise Problem(400, Invalid(f"The header {name.decode()} is given twice.", code="duplicate-header"))
            seen.add(name)
    return found


def _name(host: bytes) -> str:
    """The name in `name:port`, lower case; an IPv6 address keeps its brackets."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0].rstrip(".")


def _is_here(name: str) -> bool:
    """Whether a page of this name is of this machine, where every port may be another user's."""
    return name in (*LOCAL, "0.0.0.0", "[::]") or is_loopback(name.strip("[]"))  # noqa: S104 (compared, not bound to)
