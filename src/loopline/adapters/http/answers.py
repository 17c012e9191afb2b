"""Answers of an HTTP interface, on the disk: asked for with what proves who asks, and again as long as that may help."""

from __future__ import annotations

import base64
import contextlib
import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.ports.files import disk_errors
from loopline.ports.source import Position

_TRIES = 6
_LONGEST_PAUSE = 120.0
_TIMEOUT = 60.0
_LONGEST_ANSWER = 1800.0  # seconds: also an answer that comes drop by drop ends
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_PIECE = 1 << 20


class Answer(NamedTuple):
    """The body of an answer, as a file, and its headers."""

    file: Path
    headers: Any

    @property
    def kind(self) -> str:
        """What it says that it is: `text/csv`."""
        return str(self.headers.get_content_type())

    def first(self) -> bytes:
        """Its first byte that is no space, as far as one comes soon."""
        with self.file.open("rb") as file:
            return file.read(1 << 10).lstrip()[:1]


class Answers:
    """What is asked of an interface that messages call `name`, with headers of which `secret` ones go to its own host alone.

    `limit` is the most bytes of an answer. Raises `NotFound` and `Refused` as the server does, `Invalid` (code
    "source-large") for an answer without an end, `Unavailable` where there is none after six tries.
    """

    def __init__(self, name: str, secret: Mapping[str, str], limit: int, sleep: Callable[[float], None]) -> None:
        self._name = name
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "loopline", **secret}
        self._limit = limit
        self._sleep = sleep
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(), _Redirects(set(secret)),
        ):  # fmt: skip
            self._opener.add_handler(handler)

    def get(self, url: str, known: Position, file: Path) -> Answer | None:
        """The answer, written to a file; None where nothing has changed since what is `known` of an earlier one."""
        headers = dict(self._headers)
        headers |= {"If-None-Match": known["etag"]} if "etag" in known else {}
        headers |= {"If-Modified-Since": known["modified"]} if "modified" in known else {}
        why = ""
        for turn in range(_TRIES):
            pause = min(0.5 * 2**turn, _LONGEST_PAUSE)
            try:
                with contextlib.closing(self._open(url, headers)) as answer:
                    self._save(answer, file)
                    return Answer(file, answer.headers)
            except urllib.error.HTTPError as e:
                with contextlib.closing(e):
                    if e.code == 304:
                        return None
                    if e.code not in _AGAIN:
                        raise self._refused(e.code) from e
                    why, pause = f"it answers {e.code}", max(pause, _asked_pause(e.headers))
            except (OSError, http.client.HTTPException, zlib.error, EOFError) as e:
                why = str(getattr(e, "reason", e)) or type(e).__name__
            if turn + 1 == _TRIES or pause > _LONGEST_PAUSE:
                break
            self._sleep(pause)
        raise Unavailable(
            f"{self._name} cannot be read: {why}.", code="source-away", hint="Try again later: loopline data sync"
        )

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - the opener knows http and https alone
        return self._opener.open(asked, timeout=_TIMEOUT)

    def _save(self, answer: Any, file: Path) -> None:
        packed = answer.headers.get("Content-Encoding") == "gzip"
        file.unlink(missing_ok=True)  # who reads an earlier one reads on in it
        with file.open("wb") as out:
            for piece in self._unpacked(answer) if packed else self._pieces(answer):
                with disk_errors(file):
                    out.write(piece)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        """The body as it comes. Raises where it is cut off, or has no end."""
        ends, size = time.monotonic() + _LONGEST_ANSWER, 0
        while chunk := answer.read1(_PIECE):
            size += len(chunk)
            if size > self._limit or time.monotonic() > ends:
                raise Invalid(
                    f"{self._name} answers without an end: {size:,} bytes came.", code="source-large", hint=_LESS
                )
            yield chunk
        if answer.headers.get("Content-Length", str(size)) != str(size):
            raise http.client.IncompleteRead(b"")

    def _unpacked(self, answer: Any) -> Iterator[bytes]:
        unpacking, size = zlib.decompressobj(31), 0
        for chunk in self._pieces(answer):
            rest = chunk
            while rest:
                piece = unpacking.decompress(rest, _PIECE)
                size += len(piece)
                if size > self._limit:
                    raise Invalid(
                        f"{self._name} unpacks to more than {self._limit:,} bytes.", code="source-large", hint=_LESS
                    )
                yield piece
                rest = unpacking.unconsumed_tail
        if not unpacking.eof:
            raise EOFError("it is packed, and was cut off")

    def _refused(self, status: int) -> LooplineError:
        if status in (401, 403):
            return Refused(
                f"{self._name} lets nobody in so (it answers {status}).",
                code="source-forbidden",
                hint="Give --option 'bearer=${TOKEN}', 'basic=ann:${PASSWORD}' or 'header=X-Key: ${KEY}', and set that name.",
            )
        if status in (404, 410):
            return NotFound(
                f"There is nothing at {self._name} (it answers {status}).",
                code="no-source",
                hint="Look at the address.",
            )
        return Invalid(
            f"{self._name} answers {status}.", code="source-refuses", hint="Look at the address and its parameters."
        )


_LESS = "Ask for pages, or for smaller ones; or allow more: --option limit=BYTES"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other pages; to another host without what proves who asks."""

    def __init__(self, secret: set[str]) -> None:
        self._secret = {name.lower() for name in secret}

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and origin(newurl) != origin(req.full_url):
            made.headers = {name: text for name, text in made.headers.items() if name.lower() not in self._secret}
        return made


def credentials(options: Mapping[str, str]) -> dict[str, str]:
    """The headers that prove who asks, by the options `bearer`, `basic` and `header`. Raises `Invalid` for what is none."""
    found = {}
    if "bearer" in options:
        found["Authorization"] = f"Bearer {options['bearer']}"
    if "basic" in options:
        found["Authorization"] = basic(options["basic"])
    if "header" in options:
        name, colon, text = options["header"].partition(":")
        if not (name.strip() and colon):
            raise Invalid("A header is no header.", code="bad-option", hint="--option 'header=X-Key: ${KEY}'")
        found[name.strip()] = text.strip()
    if any("\n" in text or "\r" in text for text in found.values()):
        raise Invalid("A header goes over several lines.", code="bad-option", hint="Look at the environment.")
    return found


def basic(text: str) -> str:
    """The header of `user:password`."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def origin(url: str) -> tuple[str, str | None, int | None]:
    """The scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _asked_pause(headers: Any) -> float:
    """The seconds of a Retry-After header: a number, or a date."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0
