"""The connections to one server: one a thread, kept open; what may be sent again is, with growing pauses."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from loopline.client.wire import Request
from loopline.errors import Invalid, Unavailable
from loopline.operations import Body

PAUSES = (0.1, 0.4, 1.6)
"""Seconds to wait before each further attempt."""

_LONGEST_WAIT = 10.0


class Channel:
    """The way to one server, for all threads of this process. `close` ends every connection."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as e:
            raise _bad(url, str(e)) from e
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _bad(url, "it needs http:// or https:// and a host")
        if parts.username or parts.query or parts.fragment:
            raise _bad(url, "it may have no user, query or fragment")
        self.url = url
        self.host = parts.hostname
        self._secure = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._secure else 80)
        self._base = parts.path.rstrip("/")
        self._timeout = timeout
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def answer(self, request: Request, *, again: bool) -> Iterator[http.client.HTTPResponse]:
        """The server's answer; with `again` a call that got none, or a 503, is repeated.

        The answer is to be read to its end inside the block, else its connection is given up. Raises `Unavailable`.
        """
        response = self._attempts(request, again and not (isinstance(request.body, Body) and request.body.once))
        try:
            yield response
        except (OSError, http.client.HTTPException) as e:
            raise self._away(e, "ended in the midst of its answer") from e
        finally:
            if response.will_close or not response.isclosed():
                self._drop()

    def close(self) -> None:
        """Ends the connections of all threads."""
        with self._lock:
            self._closed = True
            for connection in self._all:
                connection.close()
            self._all.clear()

    def _attempts(self, request: Request, again: bool) -> http.client.HTTPResponse:
        pauses = iter(PAUSES if again else ())
        while True:
            try:
                response = self._try(request, again)
            except ssl.SSLCertVerificationError as e:
                raise Unavailable(
                    f"{self.url} shows a certificate that is not trusted: {e.verify_message}.",
                    code="untrusted-certificate",
                    hint="Set SSL_CERT_FILE to the certificate of its authority.",
                ) from e
            except TimeoutError as e:
                raise Unavailable(
                    f"{self.url} was silent for {self._timeout:g} s.",
                    code="server-silent",
                    hint="It may still be working; look before you call again.",
                ) from e
            except (OSError, http.client.HTTPException) as e:
                pause = next(pauses, None)
                if pause is None:
                    raise self._away(e, "does not answer") from e
            else:
                pause = next(pauses, None) if response.status == 503 else None
                if pause is None:
                    return response
                pause = max(pause, _asked(response))
                response.read()
                if response.will_close:
                    self._drop()
            time.sleep(pause)

    def _try(self, request: Request, again: bool) -> http.client.HTTPResponse:
        connection, kept = self._connection()
        try:
            return self._send(connection, request)
        except (ConnectionError, http.client.HTTPException):
            self._drop()
            # A server may end a kept connection at any time: that is no failure, and a fresh one is tried at once.
            if not (kept and again):
                raise
        except BaseException:
            self._drop()
            raise
        try:
            return self._send(self._connection()[0], request)
        except BaseException:
            self._drop()
            raise

    def _send(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        body, headers = request.body, dict(request.headers)
        refused: OSError | None = None
        try:
            if isinstance(body, Body):
                if body.path is not None:
                    headers["Content-Length"] = str(body.path.stat().st_size)
                connection.request(
                    request.method,
                    self._base + request.target,
                    body.chunks(),
                    headers,
                    encode_chunked=body.path is None,
                )
            else:
                connection.request(request.method, self._base + request.target, body, headers)
        except (BrokenPipeError, ConnectionResetError) as e:
            refused = e  # a server may refuse a body before it is through; its answer says why
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            raise refused or e from e

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        if self._closed:
            raise Invalid(f"The session with {self.url} is closed.", code="session-closed", hint="Connect again.")
        found: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if found is not None:
            return found, True
        connection = (
            http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout, context=self._secure)
            if self._secure
            else http.client.HTTPConnection(self.host, self._port, timeout=self._timeout)
        )
        self._own.connection = connection
        with self._lock:
            self._all.append(connection)
        return connection, False

    def _drop(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is not None:
            self._own.connection = None
            connection.close()
            with self._lock:
                if connection in self._all:
                    self._all.remove(connection)

    def _away(self, error: Exception, what: str) -> Unavailable:
        return Unavailable(
            f"{self.url} {what}: {error or type(error).__name__}.",
            code="server-away",
            hint="Is it up? `loopline up` starts a server; `loopline doctor` shows its address.",
        )


def _asked(response: http.client.HTTPResponse) -> float:
    after = response.getheader("Retry-After", "")
    return min(float(after), _LONGEST_WAIT) if after.isdecimal() else 0.0


def _bad(url: str, why: str) -> Invalid:
    return Invalid(
        f"{url!r} is no address of a server: {why}.", code="bad-url", hint="For example http://127.0.0.1:8400."
    )
