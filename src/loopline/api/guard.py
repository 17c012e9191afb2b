"""What stands before every route: the Host asked for, where a browser's request comes from, and the headers of each answer."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopline.access.peer import is_loopback
from loopline.api.answers import refusal
from loopline.api.pages.style import POLICY
from loopline.errors import Refused

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
}


class Guard:
    """Lets through what names this server by a known Host and does not come from a foreign web page.

    A foreign name for a loopback address is how a web page reaches a local server past the browser's rules (DNS rebinding), to
    be let in as the server's own user. So the name matters only where no credentials come with the request: with them it is
    the token that counts, which no foreign page has. `open_paths` answer to any name, since they tell nothing.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], open_paths: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = {host.strip().lower() for host in hosts if host.strip()} | {"localhost"}
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except Refused as e:
            await refusal(e)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        named = len(hosts) == 1 and ("authorization" in headers or self._known(hosts[0]))
        if not named and scope["path"] not in self._open:
            raise Refused(
                f"This server does not answer to the name {', '.join(hosts) or 'of nobody'!r}.",
                code="foreign-host",
                hint="Name it in allowed_hosts of the settings (LOOPLINE_ALLOWED_HOSTS) where it is yours.",
            )
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return
        site = headers.get("sec-fetch-site", "none")
        origins = headers.getlist("origin")
        if site not in ("none", "same-origin") or any(_authority(o) not in {h.lower() for h in hosts} for o in origins):
            raise Refused(
                f"A web page of another site ({', '.join(origins) or site}) asks for a change.",
                code="foreign-origin",
                hint="Open this server's own pages, or call it from a program.",
            )

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or is_loopback(name)


def _authority(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    return authority.lower() if scheme in ("http", "https") else "null"
