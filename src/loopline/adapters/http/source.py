"""Rows that an HTTP interface gives, page by page: JSON records, or a file in any format that data is read from.

The next page is where the answer's `Link` header says, or its field `next` (`--option next=paging.next`), or by a cursor
(`cursor=meta.cursor`, sent as the parameter `cursor_parameter`), or by a number (`page_parameter=page`: until a page is empty).
Each reading is the whole table; one that is as it was by its ETag or Last-Modified gives nothing. With `grows=true` the pages are
taken to only become longer and more: reading goes on at the last page, behind the rows that it gave.

An answer 429 or 5xx, and a broken connection, are tried again with growing pauses, as long as `Retry-After` says. Credentials
(`bearer`, `basic`, `header`) go to the host of the address alone, whatever it redirects to.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from loopline.errors import Invalid, NotFound, Refused, Unavailable
from loopline.ports.source import Piece, Position, Refusal

_TRIES = 6
_LONGEST_PAUSE = 120.0
_TIMEOUT = 60.0
_LONGEST_ANSWER = 1800.0  # seconds: also an answer that comes drop by drop ends
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MOST_PAGES = 100_000
_SUFFIXES = {"text/csv": ".csv", "application/x-ndjson": ".ndjson", "application/vnd.apache.parquet": ".parquet"}


class HttpSource:
    """Rows behind a URL; options are told above, each a text. `limit` is the most bytes of one answer.

    Raises `NotFound` and `Refused` as the server does, `Invalid` for what is no page of rows, `Unavailable` where it does not
    answer after six tries.
    """

    OPTIONS = (
        "rows", "next", "cursor", "cursor_parameter", "page_parameter", "first_page", "grows", "bearer", "basic", "header", "limit",
    )  # fmt: skip

    def __init__(self, url: str, scratch: Path, *, sleep: Callable[[float], None] = time.sleep, **options: str) -> None:
        self._url = url
        parts = urlsplit(url)
        if not parts.hostname:
            raise Invalid(f"{self.name} names no host.", code="bad-source", hint="https://host/path")
        self._scratch = scratch
        self._sleep = sleep
        self._options = options
        self._headers = _credentials(options)
        self._limit = _number(options, "limit", 1 << 30)
        if parts.username is not None:
            self._headers["Authorization"] = _basic(f"{parts.username}:{parts.password or ''}")
            host = parts.netloc.rpartition("@")[2]
            self._url = urlunsplit(parts._replace(netloc=host))
        if ("cursor" in options) != ("cursor_parameter" in options):
            raise Invalid(
                f"{self.name}: a cursor needs its field and its parameter.",
                code="bad-option",
                hint="--option cursor=meta.next --option cursor_parameter=after",
            )
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(), _Redirects(set(self._headers)),
        ):  # fmt: skip
            self._opener.add_handler(handler)

    @property
    def name(self) -> str:
        """The address without who asks and what."""
        parts = urlsplit(self._url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def grows(self) -> bool:
        """Whether rows are only added."""
        return self._options.get("grows", "false").lower() == "true"

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """One piece, of all pages that there are."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="http-", dir=self._scratch) as folder:
            if self.grows:
                yield from self._behind(after or {}, Path(folder))
            else:
                yield from self._whole(after or {}, Path(folder))

    def done(self, position: Position) -> None:
        """Nothing: rows stay where they are."""

    def close(self) -> None:
        """Nothing: no connection is kept."""

    def _whole(self, after: Position, folder: Path) -> Iterator[Piece]:
        first = self._get(self._start(), after)
        if first is None:
            return
        body, headers = first
        if not self._is_json(body, headers):
            file = folder / ("answer" + self._suffix(headers))
            file.write_bytes(body)
            yield Piece(name=f"{self.name}{self._suffix(headers)}", position=_validators(headers), file=file)
            return
        with (folder / "rows.ndjson").open("wb") as out:
            refused, _, pages = self._pages(self._start(), first, 0, out)
        position = _validators(headers) if pages == 1 else {}
        yield Piece(name=f"{self.name}.ndjson", position=position, file=_filled(folder), refused=refused)

    def _behind(self, after: Position, folder: Path) -> Iterator[Piece]:
        url = self._merged(after.get("path", ""), after.get("parameters", {})) if after else self._start()
        with (folder / "rows.ndjson").open("wb") as out:
            refused, (last, taken), _ = self._pages(url, None, after.get("taken", 0), out)
        if (file := _filled(folder)) is not None or refused:
            position = {**self._place(last), "taken": taken}
            yield Piece(name=f"{self.name}.ndjson", position=position, file=file, refused=refused)

    def _pages(
        self, url: str, answer: tuple[bytes, Any] | None, skip: int, out: Any
    ) -> tuple[tuple[Refusal, ...], tuple[str, int], int]:
        """Writes the rows of a page and of all behind it; gives what is no row, the last page with its rows, and how many pages."""
        refused: list[Refusal] = []
        last = (url, skip)
        for page in range(1, _MOST_PAGES):
            got = answer if answer is not None else self._get(url, {})
            assert got is not None
            answer = None
            body, headers = got
            document = self._document(body)
            rows = self._rows(document)
            for number, row in enumerate(rows[skip:], skip + 1):
                text = json.dumps(row, ensure_ascii=False).encode()
                if isinstance(row, dict):
                    out.write(text + b"\n")
                else:
                    refused.append(Refusal(f"page {page}, row {number}", "it is no record", text))
            if rows or page == 1:
                last = (url, len(rows))
            skip = 0
            following = self._following(url, document, headers, rows)
            if following is None:
                return tuple(refused), last, page
            if following == url:
                raise Invalid(
                    f"{self.name} says that a page follows itself.", code="source-refuses", hint="Look at its paging."
                )
            url = following
        raise Invalid(f"{self.name} has more than {_MOST_PAGES:,} pages.", code="source-large", hint="Ask for less.")

    def _start(self) -> str:
        if (parameter := self._options.get("page_parameter")) is not None:
            return _with(self._url, {parameter: str(_number(self._options, "first_page", 1))})
        return self._url

    def _following(self, url: str, document: Any, headers: Any, rows: list[Any]) -> str | None:
        """Where the next page is."""
        given = self._options
        if "page_parameter" in given:
            if not rows:
                return None
            number = int(dict(parse_qsl(urlsplit(url).query)).get(given["page_parameter"], "1"))
            return _with(url, {given["page_parameter"]: str(number + 1)})
        if "cursor" in given:
            cursor = _field(document, given["cursor"])
            return (
                _with(self._url, {given["cursor_parameter"]: str(cursor)}) if cursor not in (None, "", False) else None
            )
        found = _field(document, given["next"]) if "next" in given else _linked(headers.get_all("Link") or [])
        if not found:
            return None
        following = urljoin(url, str(found))
        if _origin(following) != _origin(self._url):
            raise Refused(
                f"{self.name} says that its next page is on another host, {urlsplit(following).hostname}.",
                code="source-elsewhere",
                hint="Name that host as the source, if it is one of yours.",
            )
        return following

    def _place(self, url: str) -> Position:
        """A page as it stands in a position: what of its address is not in that of the source, which may hold a secret."""
        parts, ours = urlsplit(url), dict(parse_qsl(urlsplit(self._url).query, keep_blank_values=True))
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        return {"path": parts.path, "parameters": {k: v for k, v in asked.items() if ours.get(k) != v}}

    def _merged(self, path: str, parameters: dict[str, str]) -> str:
        parts = urlsplit(self._url)
        return _with(urlunsplit(parts._replace(path=path)), parameters)

    def _is_json(self, body: bytes, headers: Any) -> bool:
        kind = headers.get_content_type()
        if kind in _SUFFIXES:
            return False
        return (
            "rows" in self._options or kind == "application/json" or kind.endswith("+json") or body.lstrip()[:1] == b"["
        )

    def _suffix(self, headers: Any) -> str:
        return _SUFFIXES.get(headers.get_content_type(), "") or Path(urlsplit(self._url).path).suffix

    def _document(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError as e:
            raise Invalid(
                f"{self.name} gave a page that is no JSON: {e}.", code="source-refuses", hint="Look at it."
            ) from e

    def _rows(self, document: Any) -> list[Any]:
        path = self._options.get("rows", "")
        found = _field(document, path) if path else document
        if not isinstance(found, list):
            fields = ", ".join(document) if isinstance(document, dict) else type(document).__name__
            raise Invalid(
                f"{self.name} gives no list of rows{f' in {path!r}' if path else ''}; it has: {fields}.",
                code="source-refuses",
                hint="Say where they are: --option rows=data.items",
            )
        return found

    def _get(self, url: str, known: Position) -> tuple[bytes, Any] | None:
        """The body and the headers of an answer; None where nothing has changed. Tried again as long as that may help."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "loopline", **self._headers}
        headers |= {"If-None-Match": known["etag"]} if "etag" in known else {}
        headers |= {"If-Modified-Since": known["modified"]} if "modified" in known else {}
        why = ""
        for turn in range(_TRIES):
            pause = min(0.5 * 2**turn, _LONGEST_PAUSE)
            try:
                with contextlib.closing(self._open(url, headers)) as answer:
                    return self._body(answer), answer.headers
            except urllib.error.HTTPError as e:
                with contextlib.closing(e):
                    if e.code == 304:
                        return None
                    if e.code not in _AGAIN:
                        raise self._refused(e.code) from e
                    why, pause = f"it answers {e.code}", max(pause, _asked_pause(e.headers))
            except (OSError, http.client.HTTPException) as e:
                why = str(getattr(e, "reason", e)) or type(e).__name__
            if turn + 1 == _TRIES or pause > _LONGEST_PAUSE:
                break
            self._sleep(pause)
        raise Unavailable(
            f"{self.name} cannot be read: {why}.", code="source-away", hint="Try again later: loopline data sync"
        )

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - the opener knows http and https alone
        return self._opener.open(asked, timeout=_TIMEOUT)

    def _body(self, answer: Any) -> bytes:
        ends, parts, size = time.monotonic() + _LONGEST_ANSWER, [], 0
        while chunk := answer.read1(1 << 20):
            parts.append(chunk)
            size += len(chunk)
            if size > self._limit or time.monotonic() > ends:
                raise Invalid(
                    f"{self.name} answers without an end: {size:,} bytes came.",
                    code="source-large",
                    hint="Ask for pages, or allow more: --option limit=BYTES",
                )
        body = b"".join(parts)
        if answer.headers.get("Content-Length", str(size)) != str(size):
            raise http.client.IncompleteRead(body)
        if answer.headers.get("Content-Encoding") == "gzip":
            unpacking = zlib.decompressobj(31)
            body = unpacking.decompress(body, self._limit + 1)
            if len(body) > self._limit:
                raise Invalid(f"{self.name} unpacks to more than {self._limit:,} bytes.", code="source-large")
        return body

    def _refused(self, status: int) -> Exception:
        if status in (401, 403):
            return Refused(
                f"{self.name} lets nobody in so (it answers {status}).",
                code="source-forbidden",
                hint="Give --option 'bearer=${TOKEN}', 'basic=ann:${PASSWORD}' or 'header=X-Key: ${KEY}', and set that name.",
            )
        if status in (404, 410):
            return NotFound(
                f"There is nothing at {self.name} (it answers {status}).", code="no-source", hint="Look at the address."
            )
        return Invalid(
            f"{self.name} answers {status}.", code="source-refuses", hint="Look at the address and its parameters."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other pages; to another host without what proves who asks."""

    def __init__(self, secret: set[str]) -> None:
        self._secret = {name.lower() for name in secret}

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and _origin(newurl) != _origin(req.full_url):
            made.headers = {name: text for name, text in made.headers.items() if name.lower() not in self._secret}
        return made


def _credentials(options: dict[str, str]) -> dict[str, str]:
    found = {}
    if "bearer" in options:
        found["Authorization"] = f"Bearer {options['bearer']}"
    if "basic" in options:
        found["Authorization"] = _basic(options["basic"])
    if "header" in options:
        name, colon, text = options["header"].partition(":")
        if not (name.strip() and colon):
            raise Invalid("A header is no header.", code="bad-option", hint="--option 'header=X-Key: ${KEY}'")
        found[name.strip()] = text.strip()
    if any("\n" in text or "\r" in text for text in found.values()):
        raise Invalid("A header goes over several lines.", code="bad-option", hint="Look at the environment.")
    return found


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def _number(options: dict[str, str], name: str, default: int) -> int:
    try:
        return int(options.get(name, default))
    except ValueError as e:
        raise Invalid(f"{name} is no number.", code="bad-option", hint=f"--option {name}={default}") from e


def _filled(folder: Path) -> Path | None:
    file = folder / "rows.ndjson"
    return file if file.stat().st_size else None


def _validators(headers: Any) -> Position:
    found = {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}
    return {name: text for name, text in found.items() if text}


def _field(document: Any, path: str) -> Any:
    """What stands at a dotted path of a document."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _linked(headers: list[str]) -> str:
    """The target of `rel="next"` in Link headers (RFC 8288)."""
    for part in ",".join(headers).split("<")[1:]:
        target, _, parameters = part.partition(">")
        named = dict(p.strip().partition("=")[::2] for p in parameters.rstrip(", ").split(";") if "=" in p)
        if "next" in named.get("rel", "").strip('"').lower().split():
            return target
    return ""


def _with(url: str, parameters: dict[str, str]) -> str:
    parts = urlsplit(url)
    kept = [(name, text) for name, text in parse_qsl(parts.query, keep_blank_values=True) if name not in parameters]
    return urlunsplit(parts._replace(query=urlencode([*kept, *parameters.items()])))


def _origin(url: str) -> tuple[str, str | None, int | None]:
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
