"""Bodies of requests: JSON into memory, raw bytes into a temporary file, both within their limits.

A body over its limit is refused at once; the server throws away what is still coming, so that the sender sees the answer. A large
one a worker of this machine has put into a file already, when it was told that it is wanted: its name is a header of the request,
and its digest the body.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request

from loopline.errors import Invalid
from loopline.failpoints import failpoint
from loopline.operations import Body
from loopline.ports.incoming import Incoming

_LARGE = 1 << 16
INCOMING = "incoming"
"""The folder of a workspace for bodies on their way in."""
FROM_WORKER = "loopline.body"
"""The ASGI extension that says that the headers below are a worker's own."""
_FILE, _FILE_SIZE = "x-loopline-body", "x-loopline-body-size"
_SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


async def read_json(request: Request, folder: Path, limit: int) -> bytes:
    """The JSON body; empty where there is none. Raises `Invalid` (code "too-large") over the limit, and on another type."""
    content = await read_content(request, folder, limit)
    if content and _media(request) != "application/json":
        raise Invalid(
            f"The body is of type {_media(request) or 'unknown'}, and JSON is wanted.",
            code="bad-media-type",
            hint="Send `Content-Type: application/json`.",
        )
    return content


async def read_content(request: Request, folder: Path, limit: int) -> bytes:
    """The body, of whatever type; empty where there is none. Raises `Invalid` (code "too-large") over the limit."""
    _check_length(request, limit)
    if _in_file(request):
        path = _fresh(folder)
        async with _taken(request, path):
            return await to_thread.run_sync(path.read_bytes)
    content = bytearray()
    async for piece in request.stream():
        if len(content) + len(piece) > limit:
            raise _too_large(limit)
        content += piece
    return bytes(content)


def is_large(request: Request) -> bool:
    """Whether the body is so large, or may be, that it is taken only of who may send it."""
    length = request.headers.get("content-length", "0")
    return _in_file(request) or "transfer-encoding" in request.headers or int(length) > _LARGE


def _in_file(request: Request) -> bool:
    """Whether a worker puts the body into a file."""
    return FROM_WORKER in request.scope.get("extensions", {}) and _FILE in request.headers


@asynccontextmanager
async def spooled(request: Request, folder: Path, limit: int) -> AsyncIterator[Body | None]:
    """The raw body in a temporary file, which is gone at the end; None where none came. Raises `Invalid`, `Unavailable`."""
    media = _media(request)
    if not media and request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        yield None
        return
    signed = "authorization" in request.headers and media == "text/plain"
    if media in _SIMPLE and request.method == "POST" and not signed:
        # These are what a foreign web page can make a browser send without being asked; but it has no token.
        raise Invalid(
            f"The body is of type {media}, and raw bytes are wanted.",
            code="bad-media-type",
            hint="Send `Content-Type: application/octet-stream`.",
        )
    _check_length(request, limit)
    name = _name(request.headers.get("content-disposition", ""))
    suffix = re.fullmatch(r"(?:\.[A-Za-z0-9]{1,8}){1,2}", "".join(PurePosixPath(name).suffixes[-2:]))
    path = _fresh(folder, suffix[0] if suffix else "")
    async with _taken(request, path) if _in_file(request) else _written(request, path, limit) as digest:
        encoding = request.headers.get("content-encoding", "").strip().lower()
        yield Body(path, name=name or path.name, spooled=digest, media=media, encoding=encoding)


def _fresh(folder: Path, suffix: str = "") -> Path:
    return folder / f"{os.getpid()}-{secrets.token_hex(8)}{suffix}"


@asynccontextmanager
async def _written(request: Request, path: Path, limit: int) -> AsyncIterator[str]:
    """The digest of the body, which is in the file, read-only, until the end of the block."""
    async with Incoming(path) as file:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            await file.add(piece)
        yield await file.end()


@asynccontextmanager
async def _taken(request: Request, path: Path) -> AsyncIterator[str]:
    """The same of a body that a worker puts into a file of its own."""
    digest = (await request.body()).decode()  # which asks for it
    with ExitStack() as ending:
        ending.callback(path.unlink, missing_ok=True)
        try:
            failpoint("api.bodies.before_rename")
            path.with_name(request.headers[_FILE]).rename(path)
        except FileNotFoundError:
            raise ClientDisconnect from None  # the worker has removed it: nobody waits for the answer
        yield digest


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get(_FILE_SIZE if _in_file(request) else "content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Invalid:
    return Invalid(
        f"The body is larger than {limit:,} bytes.",
        code="too-large",
        hint="Send less at once, or raise body_limit in the settings.",
        limit=limit,
    )


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _name(disposition: str) -> str:
    found = re.search(r"filename\*=utf-8''([^;]+)", disposition, re.IGNORECASE)
    plain = re.search(r'filename="([^"]*)"', disposition)
    name = unquote(found[1]) if found else plain[1] if plain else ""
    name = re.split(r"[/\\]", name)[-1]
    return "" if name in (".", "..") or len(name) > 255 or not name.isprintable() else name
