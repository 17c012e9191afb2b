"""Rows from a real HTTP server: every way of paging, unchanged ones, pauses, credentials that stay at home, answers without end."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest

from loopline.adapters.http import source
from loopline.adapters.http.source import HttpSource
from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.foreign import row_source
from loopline.ports.source import Piece, Source
from loopline.testing.source import Place, Row, SourceLaws

Answer = tuple[int, dict[str, str], bytes]
TOKEN = "hunter2"


class Server:
    """A server whose answers are a function of the path, the parameters and the headers."""

    def __init__(self, answer: Callable[[str, dict[str, str], Any], Answer]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                outer.asked.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
                status, headers, body = answer(parts.path, dict(parse_qsl(parts.query)), self.headers)
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                if "Content-Length" not in headers and status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(answer: Callable[[str, dict[str, str], Any], Answer]) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()


def as_json(value: Any, **headers: str) -> Answer:
    return 200, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


class Clinic:
    """An interface that gives visits three at a time, to those who know the token, in one of the ways that there are."""

    secret = TOKEN

    def __init__(self, way: str, scratch: Path, serve: Callable[..., Server], *, grows: bool) -> None:
        self.way, self.scratch = way, scratch
        self.rows: list[Row] = []
        self.gone = False
        self.server = serve(self.answer)
        self.options = {
            "link": {"rows": "data"},
            "next": {"rows": "data", "next": "paging.next"},
            "cursor": {"rows": "data", "cursor": "paging.cursor", "cursor_parameter": "after"},
            "page": {"rows": "data", "page_parameter": "page"},
        }[way] | {"bearer": TOKEN} | ({"grows": "true"} if grows else {})  # fmt: skip

    def answer(self, path: str, asked: dict[str, str], headers: Any) -> Answer:
        if self.gone:
            return 404, {}, b""
        if headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, {}, b""
        start = 3 * (int(asked.get("page", "1")) - 1) if self.way == "page" else int(asked.get("after", "0"))
        more = start + 3 < len(self.rows)
        answer: dict[str, Any] = {"data": self.rows[start : start + 3], "paging": {}}
        following = f"/visits?key={asked.get('key', '')}&after={start + 3}"
        if self.way == "cursor" and more:
            answer["paging"] = {"cursor": start + 3}
        if self.way == "next" and more:
            answer["paging"] = {"next": f"{self.server.url}{following}"}
        links = {"Link": f'<{following}>; rel="next", </visits>; rel="first"'} if self.way == "link" and more else {}
        return as_json(answer, **links)

    def put(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    def open(self) -> Source:
        return row_source(f"{self.server.url}/visits?key={TOKEN}", self.options, self.scratch)

    def vanish(self) -> None:
        self.gone = True


class TestHttp(SourceLaws):
    @pytest.fixture(params=["link", "next", "cursor", "page"])
    def way(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(params=[False, True], ids=["whole", "grows"])
    def place(self, request: pytest.FixtureRequest, way: str, tmp_path: Path, serve: Callable[..., Server]) -> Place:
        return Clinic(way, tmp_path, serve, grows=request.param)


def read(url: str, scratch: Path, after: Any = None, **options: str) -> list[tuple[Piece, list[dict[str, Any]]]]:
    found = []
    for piece in row_source(url, options, scratch).read(after):
        assert piece.file is not None
        content = piece.file.read_bytes()
        rows = pl.read_ndjson(content).to_dicts() if piece.name.endswith(".ndjson") else []
        found.append((piece, rows))
    assert not [path for path in scratch.iterdir() if path.is_dir()], "nothing is left of what was fetched"
    return found


def test_what_is_as_it_was_is_not_read_again(tmp_path: Path, serve: Callable[..., Server]) -> None:
    served = [{"id": 1}]

    def answer(path: str, asked: dict[str, str], headers: Any) -> Answer:
        tag = f'"{len(served)}"'
        return (304, {}, b"") if headers["If-None-Match"] == tag else as_json(served, ETag=tag)

    server = serve(answer)
    ((first, rows),) = read(server.url, tmp_path)
    assert rows == [{"id": 1}]
    assert read(server.url, tmp_path, first.position) == []
    served.append({"id": 2})
    ((_, rows),) = read(server.url, tmp_path, first.position)
    assert rows == [{"id": 1}, {"id": 2}]


def test_a_file_is_what_it_is(tmp_path: Path, serve: Callable[..., Server]) -> None:
    changed = "Wed, 21 Oct 2026 07:28:00 GMT"

    def answer(path: str, asked: dict[str, str], headers: Any) -> Answer:
        if headers["If-Modified-Since"] == changed:
            return 304, {}, b""
        kind = "text/csv; charset=utf-8" if path == "/export" else "application/octet-stream"
        return 200, {"Content-Type": kind, "Last-Modified": changed}, b"id\n1\n"

    server = serve(answer)
    for path in ("/export", "/visits.csv"):
        ((piece, _),) = read(server.url + path, tmp_path)
        assert piece.name.endswith(".csv")
        assert read(server.url + path, tmp_path, piece.position) == []


def test_a_packed_answer_is_unpacked_within_limits(tmp_path: Path, serve: Callable[..., Server]) -> None:
    bombs = {"/good": b'[{"id": 1}]', "/bomb": b"[" + b" " * 5_000_000 + b"]"}
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    server = serve(lambda path, asked, headers: (200, packed, gzip.compress(bombs[path])))
    ((_, rows),) = read(f"{server.url}/good", tmp_path, limit="100000")
    assert rows == [{"id": 1}]
    with pytest.raises(Invalid, match="unpacks to more than"):
        read(f"{server.url}/bomb", tmp_path, limit="100000")


def test_it_tries_again_and_waits_as_it_is_told(tmp_path: Path, serve: Callable[..., Server]) -> None:
    answers: list[Answer] = [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (500, {}, b""), as_json([{"id": 1}])]
    server = serve(lambda path, asked, headers: answers.pop(0))
    pauses: list[float] = []
    (piece,) = HttpSource(server.url, tmp_path, sleep=pauses.append).read(None)
    assert piece.position == {}
    assert pauses == [0.5, 7.0, 2.0]
    assert answers == []


@pytest.mark.parametrize("cut", [False, True])
def test_it_gives_up_in_the_end(tmp_path: Path, serve: Callable[..., Server], cut: bool) -> None:
    half = (200, {"Content-Type": "application/json", "Content-Length": "100", "Connection": "close"}, b'[{"id": 1}')
    server = serve(
        lambda path, asked, headers: half if cut else (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")
    )
    pauses: list[float] = []
    with pytest.raises(Unavailable, match="cannot be read") as caught:
        list(HttpSource(server.url, tmp_path, sleep=pauses.append).read(None))
    assert caught.value.code == "source-away"
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_pause_that_is_too_long_is_told(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda path, asked, headers: (429, {"Retry-After": "86400"}, b""))
    with pytest.raises(Unavailable, match="it answers 429"):
        list(HttpSource(server.url, tmp_path, sleep=lambda pause: pytest.fail("it waits")).read(None))


@pytest.mark.parametrize(
    ("options", "header", "text"),
    [
        ({"bearer": TOKEN}, "authorization", f"Bearer {TOKEN}"),
        ({"basic": f"ann:{TOKEN}"}, "authorization", "Basic YW5uOmh1bnRlcjI="),
        ({"header": f"X-Api-Key: {TOKEN}"}, "x-api-key", TOKEN),
    ],
)
def test_credentials_do_not_go_to_another_host(
    tmp_path: Path, serve: Callable[..., Server], options: dict[str, str], header: str, text: str
) -> None:
    thief = serve(lambda path, asked, headers: as_json([{"id": 1}]))

    def answer(path: str, asked: dict[str, str], headers: Any) -> Answer:
        if path == "/away":
            return 302, {"Location": f"{thief.url}/x"}, b""
        return (302, {"Location": "/there"}, b"") if path == "/near" else as_json([{"id": 2}])

    server = serve(answer)
    ((_, rows),) = read(f"{server.url}/away", tmp_path, **options)
    assert rows == [{"id": 1}]
    assert TOKEN not in str(thief.asked)
    assert server.asked[-1][1][header] == text
    read(f"{server.url}/near", tmp_path, **options)
    assert server.asked[-1] == ("/there", server.asked[-1][1])
    assert server.asked[-1][1][header] == text


def test_a_password_of_the_address_is_sent_as_such_and_told_nowhere(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(lambda path, asked, headers: (403, {}, b""))
    url = server.url.replace("http://", f"http://ann:{TOKEN}@")
    with pytest.raises(Refused, match="lets nobody in") as caught:
        read(url, tmp_path)
    assert TOKEN not in str(caught.value)
    assert server.asked[0][1]["authorization"] == "Basic YW5uOmh1bnRlcjI="


def test_a_next_page_elsewhere_is_refused(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda path, asked, headers: as_json([{"id": 1}], Link='<http://169.254.169.254/x>; rel="next"'))
    with pytest.raises(Refused, match=r"another host, 169\.254") as caught:
        read(server.url, tmp_path)
    assert caught.value.code == "source-elsewhere"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_it_leads_to_no_file(tmp_path: Path, serve: Callable[..., Server], target: str) -> None:
    server = serve(lambda path, asked, headers: (302, {"Location": target}, b""))
    with pytest.raises(LooplineError):
        list(HttpSource(server.url, tmp_path, sleep=lambda pause: None).read(None))


def test_an_answer_without_an_end_is_cut(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda path, asked, headers: (200, {"Content-Length": str(1 << 40)}, b"[" + b"1," * 4_000_000))
    with pytest.raises(Invalid, match="without an end") as caught:
        read(server.url, tmp_path, limit="1000000")
    assert caught.value.code == "source-large"


@pytest.mark.parametrize("around", [{"/x": "/x"}, {"/x": "/y", "/y": "/z", "/z": "/y"}])
def test_pages_in_a_ring_end(tmp_path: Path, serve: Callable[..., Server], around: dict[str, str]) -> None:
    server = serve(lambda path, asked, headers: as_json({"rows": [{"id": 1}], "next": around[path]}))
    with pytest.raises(Invalid, match="follows itself"):
        read(f"{server.url}/x", tmp_path, rows="rows", next="next")


def test_what_is_no_record_is_told_with_its_place(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda path, asked, headers: as_json([{"id": 1}, 7, {"id": 2}]))
    ((piece, rows),) = read(server.url, tmp_path)
    assert rows == [{"id": 1}, {"id": 2}]
    assert [(one.place, one.content) for one in piece.refused] == [("page 1, row 2", b"7")]


@pytest.mark.parametrize(
    ("answer", "options", "error", "said"),
    [
        ((404, {}, b""), {}, NotFound, "nothing at"),
        ((401, {}, b""), {}, Refused, "lets nobody in"),
        ((400, {}, b""), {}, Invalid, "answers 400"),
        (as_json({"data": {"items": []}}), {}, Invalid, "no list of rows; it has: data"),
        (as_json({"data": 1}), {"rows": "data.items"}, Invalid, "no list of rows in 'data.items'"),
        ((200, {"Content-Type": "application/json"}, b"<html>"), {}, Invalid, "no JSON"),
        (as_json([]), {"cursor": "a"}, Invalid, "needs its field and its parameter"),
        (as_json([]), {"header": "a"}, Invalid, "no header"),
        (as_json([]), {"limit": "a"}, Invalid, "no number"),
        (as_json([]), {"bearer": "a\r\nX: y"}, Invalid, "several lines"),
    ],
)
def test_what_cannot_be_taken_is_named(
    tmp_path: Path, serve: Callable[..., Server], answer: Answer, options: dict[str, str], error: type, said: str
) -> None:
    server = serve(lambda path, asked, headers: answer)
    with pytest.raises(error, match=said) as caught:
        read(server.url, tmp_path, **options)
    assert caught.value.hint


def test_files_have_pages_by_links(tmp_path: Path, serve: Callable[..., Server]) -> None:
    def answer(path: str, asked: dict[str, str], headers: Any) -> Answer:
        page = int(asked.get("page", "1"))
        link = {"Link": f'</export?page={page + 1}>; rel="next"'} if page < 3 else {}
        return 200, {"Content-Type": "text/csv", "ETag": f'"{page}"', **link}, f"id\n{page}\n".encode()

    server = serve(answer)
    pieces = []
    for piece in row_source(f"{server.url}/export", {}, tmp_path).read(None):
        assert piece.file is not None
        pieces.append((piece.name, piece.position, piece.file.read_bytes()))
    name = f"{server.url}/export, page"
    assert pieces == [(f"{name} {n}.csv", {}, f"id\n{n}\n".encode()) for n in (1, 2, 3)]
    with pytest.raises(Invalid, match="gives text/csv, and 'page_parameter' says"):
        read(f"{server.url}/export", tmp_path, page_parameter="page")


def test_pages_may_be_counted_in_rows(tmp_path: Path, serve: Callable[..., Server]) -> None:
    def answer(path: str, asked: dict[str, str], headers: Any) -> Answer:
        start = int(asked["offset"])
        return as_json([{"id": n} for n in range(start, min(start + 10, 25))])

    server = serve(answer)
    ((_, rows),) = read(server.url, tmp_path, page_parameter="offset", first_page="0", page_step="10")
    assert [row["id"] for row in rows] == [*range(25)]
    assert [path for path, _ in server.asked] == [f"/?offset={n}" for n in (0, 10, 20, 30)]


def test_a_large_array_is_a_file_and_a_large_page_is_refused(
    tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_LARGEST_PAGE", 1000)
    served = [{"id": n} for n in range(1000)]
    server = serve(lambda path, asked, headers: as_json(served if path == "/plain" else {"rows": served}))
    ((piece, _),) = read(f"{server.url}/plain", tmp_path)
    assert piece.name.endswith("/plain.json")
    with pytest.raises(Invalid, match=r"a page of JSON of 1\d,\d{3} bytes") as caught:
        read(f"{server.url}/deep", tmp_path, rows="rows")
    assert caught.value.code == "source-large"
    ((_, rows),) = read(f"{server.url}/deep", tmp_path, rows="rows", limit="100000")
    assert rows == served


def test_a_packed_answer_that_is_cut_off_is_no_answer(tmp_path: Path, serve: Callable[..., Server]) -> None:
    packed = {"Content-Type": "text/csv", "Content-Encoding": "gzip"}
    half = gzip.compress(b"id\n" + b"".join(b"%d\n" % n for n in range(10_000)))[:-100]
    server = serve(lambda path, asked, headers: (200, packed, half))
    with pytest.raises(Unavailable, match="cut off"):
        list(HttpSource(server.url, tmp_path, sleep=lambda pause: None).read(None))


def test_numbers_are_given_as_they_are_spelled(tmp_path: Path, serve: Callable[..., Server]) -> None:
    body = b'{"rows": [{"id":\n 12345678901234567890123, "share": 0.10}]}'
    server = serve(lambda path, asked, headers: (200, {"Content-Type": "application/json"}, body))
    for piece in row_source(server.url, {"rows": "rows"}, tmp_path).read(None):
        assert piece.file is not None
        assert piece.file.read_bytes() == b'{"id":12345678901234567890123,"share":0.10}\n'
