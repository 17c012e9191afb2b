"""Who sends a request: the holder of a token, or the server's own user on the server's own machine."""

from __future__ import annotations

import base64
import binascii
import hmac
import os

import msgspec
from starlette.requests import HTTPConnection

from loopline.access import peer
from loopline.access.records import Principal
from loopline.app import Platform
from loopline.errors import Refused

PEER = "x-loopline-peer"
PEER_UID = "x-loopline-peer-uid"
_RELAYED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What the server believes of the connection.

    `forwarded`: requests come through the workspace's own control socket, and the peer is as the serving worker's headers
    say; otherwise these headers mean nothing. `local_token` lets the own user in where the system does not tell a socket's owner.
    """

    forwarded: bool = False
    local_token: str = ""


def identify(platform: Platform, request: HTTPConnection, trust: Trust) -> Principal:
    """The principal of a request. Raises `Refused` (code "unauthenticated").

    A token that is sent counts and nothing else: a wrong one is refused even from the own user. Relayed requests (by a
    reverse proxy) are of whoever sent them to the proxy, and so never of the own user.
    """
    token = _token(request)
    if token:
        if trust.local_token and hmac.compare_digest(token.encode(), trust.local_token.encode()):
            return platform.owner
        return platform.authenticate(token)
    if _peer_uid(request, trust) == os.getuid() and not any(name in request.headers for name in _RELAYED):
        return platform.owner
    raise Refused(
        "This needs a token, and none came.",
        code="unauthenticated",
        hint="Send `Authorization: Bearer ll_...`; on the server's machine `loopline access create-token` makes one.",
    )


def _token(request: HTTPConnection) -> str:
    """The token of `Authorization: Bearer TOKEN`, or the password of a basic one (as MLflow's client sends it).

    The user name says nothing that the token does not; what cannot be read counts as a wrong token.
    """
    given = request.headers.getlist("authorization")
    if not given:
        return ""
    scheme, _, value = given[0].partition(" ")
    value = value.strip()
    if len(given) == 1 and scheme.lower() == "bearer" and value:
        return value
    if len(given) == 1 and scheme.lower() == "basic":
        try:
            pair = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            pair = ""
        # A user's name may hold a colon (os:alice), a token never does.
        return pair.rpartition(":")[2] or "unreadable"
    return "unreadable"


def _peer_uid(request: HTTPConnection, trust: Trust) -> int:
    if not trust.forwarded:
        client, server = request.client, request.scope.get("server")
        if client is None or server is None:
            return peer.UNKNOWN
        return peer.peer_uid((client.host, client.port), (server[0], server[1]))
    peers, uids = request.headers.getlist(PEER), request.headers.getlist(PEER_UID)
    if len(peers) != 1 or len(uids) != 1 or not uids[0].isdecimal():
        return peer.UNKNOWN
    host = peers[0].rpartition(":")[0].strip("[]")
    return int(uids[0]) if peer.is_loopback(host) else peer.UNKNOWN
