"""Rows that an HTTP interface gives, page by page: JSON records, or files in any format that data is read from.

The next page is where the answer's `Link` header says, or its field `next` (`--option next=paging.next`), or by a cursor
(`cursor=meta.cursor`, sent as the parameter `cursor_parameter`), or by a number (`page_parameter=page`: until a page is empty;
`page_step=100` where rows are counted). Files have pages by the `Link` header alone.
Each reading is the whole table; one that is as it was by its ETag or Last-Modified gives nothing. With `grows=true` the pages are
taken to only become longer and more: reading goes on at the last page, behind the rows that it gave.

Answers lie on the disk while they are read. A page of JSON is in memory, where there are several, or where its rows stand further
in.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from loopline.adapters.http.answers import Answer, Answers, basic, credentials, origin
from loopline.errors import Invalid, Refused
from loopline.ports.files import disk_errors
from loopline.ports.source import Piece, Position, Refusal

_MOST_PAGES = 100_000
_LARGEST = 1 << 30
_LARGEST_PAGE = 64 << 20  # of JSON that is opened here, in memory
_SUFFIXES = {"text/csv": ".csv", "application/x-ndjson": ".ndjson", "application/vnd.apache.parquet": ".parquet"}
_PAGING = ("next", "cursor", "page_parameter")


class HttpSource:
    """Rows behind a URL; options are told above, each a text. `limit` is the most bytes of one answer.

    Raises `NotFound` and `Refused` as the server does, `Invalid` for what is no page of rows, `Unavailable` where it does not
    answer after six tries.
    """

    OPTIONS = (
        "rows", "next", "cursor", "cursor_parameter", "page_parameter", "first_page", "page_step", "grows",
        "bearer", "basic", "header", "limit",
    )  # fmt: skip

    def __init__(self, url: str, scratch: Path, *, sleep: Callable[[float], None] = time.sleep, **options: str) -> None:
        self._url = url
        parts = urlsplit(url)
        if not parts.hostname:
            raise Invalid(f"{self.name} names no host.", code="bad-source", hint="https://host/path")
        self._scratch = scratch
        self._options = options
        secret = credentials(options)
        self._limit = _number(options, "limit", _LARGEST)
        self._step = _number(options, "page_step", 1)
        if parts.username is not None:
            secret["Authorization"] = basic(f"{parts.username}:{parts.password or ''}")
            host = parts.netloc.rpartition("@")[2]
            self._url = urlunsplit(parts._replace(netloc=host))
        if ("cursor" in options) != ("cursor_parameter" in options):
            raise Invalid(
                f"{self.name}: a cursor needs its field and its parameter.",
                code="bad-option",
                hint="--option cursor=meta.next --option cursor_parameter=after",
            )
        self._answers = Answers(self.name, secret, self._limit, sleep)

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
        """One piece, of all pages of records that there are; of files, one a page."""
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
        first = self._get(self._start(), after, folder)
        if first is None:
            return
        if not self._is_json(first):
            yield from self._files(first, folder)
        elif self._opened(first):
            with _rows_file(folder) as out:
                refused, _, pages = self._pages(self._start(), first, 0, out, folder)
            position = _validators(first.headers) if pages == 1 else {}
            yield Piece(name=f"{self.name}.ndjson", position=position, file=_filled(folder), refused=refused)
        else:
            yield Piece(name=f"{self.name}.json", position=_validators(first.headers), file=first.file)

    def _files(self, answer: Answer, folder: Path) -> Iterator[Piece]:
        """Files that are no JSON: one, or as many as `Link` headers lead to."""
        if paged := [name for name in _PAGING if name in self._options]:
            raise Invalid(
                f"{self.name} gives {answer.kind}, and {paged[0]!r} says where the next page of JSON is.",
                code="source-refuses",
                hint="Leave the option out where it is one file; or ask for JSON: --option 'header=Accept: application/json'",
            )
        url, seen = self._start(), set[str]()
        while True:
            following = self._linked(url, answer)
            alone = not seen and following is None
            called = self.name if alone else f"{self.name}, page {len(seen) + 1}"
            position = _validators(answer.headers) if alone else {}
            yield Piece(name=called + self._suffix(answer.headers), position=position, file=answer.file)
            self._check_new(url, following, seen)
            if following is None:
                return
            url, answer = following, self._page(following, folder)

    def _behind(self, after: Position, folder: Path) -> Iterator[Piece]:
        url = self._merged(after.get("path", ""), after.get("parameters", {})) if after else self._start()
        with _rows_file(folder) as out:
            refused, (last, taken), _ = self._pages(url, None, after.get("taken", 0), out, folder)
        if (file := _filled(folder)) is not None or refused:
            position = {**self._place(last), "taken": taken}
            yield Piece(name=f"{self.name}.ndjson", position=position, file=file, refused=refused)

    def _pages(
        self, url: str, answer: Answer | None, skip: int, out: BinaryIO, folder: Path
    ) -> tuple[tuple[Refusal, ...], tuple[str, int], int]:
        """Writes the rows of a page and of all behind it; gives what is no row, the last page with its rows, and how many pages."""
        refused: list[Refusal] = []
        last, seen = (url, skip), set[str]()
        while True:
            got = answer or self._page(url, folder)
            answer = None
            document = self._document(got)
            rows = self._rows(document)
            for number, row in enumerate(rows[skip:], skip + 1):
                text = msgspec.json.format(row, indent=-1)  # on one line
                if text.startswith(b"{"):
                    out.write(text + b"\n")
                else:
                    refused.append(Refusal(f"page {len(seen) + 1}, row {number}", "it is no record", text))
            if rows or not seen:
                last = (url, len(rows))
            skip = 0
            following = self._following(url, document, got, rows)
            self._check_new(url, following, seen)
            if following is None:
                return tuple(refused), last, len(seen)
            url = following

    def _check_new(self, url: str, following: str | None, seen: set[str]) -> None:
        """Raises `Invalid` where pages go in a ring, or on and on."""
        seen.add(url)
        if following in seen:
            raise Invalid(
                f"{self.name} says that a page follows itself.", code="source-refuses", hint="Look at its paging."
            )
        if len(seen) >= _MOST_PAGES:
            raise Invalid(
                f"{self.name} has more than {_MOST_PAGES:,} pages.", code="source-large", hint="Ask for less."
            )

    def _start(self) -> str:
        if (parameter := self._options.get("page_parameter")) is not None:
            return _with(self._url, {parameter: str(_number(self._options, "first_page", 1))})
        return self._url

    def _following(self, url: str, document: bytes, answer: Answer, rows: list[msgspec.Raw]) -> str | None:
        """Where the next page is."""
        given = self._options
        if "page_parameter" in given:
            if not rows:
                return None
            number = int(dict(parse_qsl(urlsplit(url).query)).get(given["page_parameter"], "1"))
            return _with(url, {given["page_parameter"]: str(number + self._step)})
        if "cursor" in given:
            cursor = _value(document, given["cursor"])
            return (
                _with(self._url, {given["cursor_parameter"]: str(cursor)}) if cursor not in (None, "", False) else None
            )
        return self._beside(url, _value(document, given["next"])) if "next" in given else self._linked(url, answer)

    def _linked(self, url: str, answer: Answer) -> str | None:
        return self._beside(url, _link(answer.headers.get_all("Link") or []))

    def _beside(self, url: str, target: Any) -> str | None:
        """Where a page leads to, on the same host; None where it leads nowhere."""
        if not target:
            return None
        following = urljoin(url, str(target))
        if origin(following) != origin(self._url):
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

    def _get(self, url: str, known: Position, folder: Path) -> Answer | None:
        return self._answers.get(url, known, folder / "answer")

    def _page(self, url: str, folder: Path) -> Answer:
        answer = self._get(url, {}, folder)
        assert answer is not None, "nothing is known that it could be the same as"
        return answer

    def _is_json(self, answer: Answer) -> bool:
        if answer.kind in _SUFFIXES:
            return False
        said = answer.kind == "application/json" or answer.kind.endswith("+json")
        return "rows" in self._options or said or answer.first() == b"["

    def _opened(self, answer: Answer) -> bool:
        """Whether JSON is opened here: what has pages, or rows further in, or is small. Else it is a file like any other."""
        return (
            any(name in self._options for name in ("rows", *_PAGING))
            or bool(_link(answer.headers.get_all("Link") or []))
            or answer.file.stat().st_size <= _LARGEST_PAGE
        )

    def _suffix(self, headers: Any) -> str:
        return _SUFFIXES.get(headers.get_content_type(), "") or Path(urlsplit(self._url).path).suffix

    def _document(self, answer: Answer) -> bytes:
        size = answer.file.stat().st_size
        if size > max(_LARGEST_PAGE, self._limit if "limit" in self._options else 0):
            raise Invalid(
                f"{self.name} gave a page of JSON of {size:,} bytes, which is opened in memory.",
                code="source-large",
                hint="Ask for smaller pages, or for CSV, NDJSON or Parquet; or allow more: --option limit=BYTES",
            )
        return answer.file.read_bytes().removeprefix(b"\xef\xbb\xbf")

    def _rows(self, document: bytes) -> list[msgspec.Raw]:
        path = self._options.get("rows", "")
        try:
            found = _field(document, path) if path else msgspec.Raw(document)
            if found is not None and bytes(found).lstrip()[:1] == b"[":
                return msgspec.json.decode(found, type=list[msgspec.Raw])
            whole = msgspec.json.decode(document)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise Invalid(
                f"{self.name} gave a page that is no JSON: {e}.",
                code="source-refuses",
                hint="Look at it: NaN and Infinity are no JSON, null is.",
            ) from e
        fields = ", ".join(whole) if isinstance(whole, dict) else type(whole).__name__
        raise Invalid(
            f"{self.name} gives no list of rows{f' in {path!r}' if path else ''}; it has: {fields}.",
            code="source-refuses",
            hint="Say where they are: --option rows=data.items",
        )


@contextlib.contextmanager
def _rows_file(folder: Path) -> Iterator[BinaryIO]:
    """The file that the rows of all pages go to."""
    with disk_errors(folder), (folder / "rows.ndjson").open("wb") as out:
        yield out


def _filled(folder: Path) -> Path | None:
    file = folder / "rows.ndjson"
    return file if file.stat().st_size else None


def _number(options: dict[str, str], name: str, default: int) -> int:
    try:
        return int(options.get(name, default))
    except ValueError as e:
        raise Invalid(f"{name} is no number.", code="bad-option", hint=f"--option {name}={default}") from e


def _validators(headers: Any) -> Position:
    found = {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}
    return {name: text for name, text in found.items() if text}


def _field(document: bytes, path: str) -> msgspec.Raw | None:
    """What stands at a dotted path of a document, as it is spelled."""
    found: msgspec.Raw | None = msgspec.Raw(document)
    for name in path.split("."):
        if found is None or bytes(found).lstrip()[:1] != b"{":
            return None
        found = msgspec.json.decode(found, type=dict[str, msgspec.Raw]).get(name)
    return found


def _value(document: bytes, path: str) -> Any:
    found = _field(document, path)
    return None if found is None else msgspec.json.decode(found)


def _link(headers: list[str]) -> str:
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
