"""Bodies of requests: JSON into memory, raw bytes into a temporary file, both within their limits.

A body over its limit is refused at once; the server throws away what is still coming, so that the sender sees the answer.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from anyio import to_thread
from blake3 import blake3
from starlette.requests import Request

from loopline.errors import Invalid, Unavailable
from loopline.failpoints import failpoint
from loopline.operations import Body

_PIECE = 1 << 20
_SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


async def read_json(request: Request, limit: int) -> bytes:
    """The JSON body; empty where there is none. Raises `Invalid` (code "too-large") over the limit, and on another type."""
    content = await read_content(request, limit)
    if content and _media(request) != "application/json":
        raise Invalid(
            f"The body is of type {_media(request) or 'unknown'}, and JSON is wanted.",
            code="bad-media-type",
            hint="Send `Content-Type: application/json`.",
        )
    return content


async def read_content(request: Request, limit: int) -> bytes:
    """The body, of whatever type; empty where there is none. Raises `Invalid` (code "too-large") over the limit."""
    content = bytearray()
    _check_length(request, limit)
    async for piece in request.stream():
        if len(content) + len(piece) > limit:
            raise _too_large(limit)
        content += piece
    return bytes(content)


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
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}{suffix[0] if suffix else ''}"
    try:
        digest = await _spool(request, path, limit)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        yield Body(path, name=name or path.name, spooled=digest, media=media, encoding=encoding)
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def sweep(folder: Path) -> None:
    """Makes the folder for spooled bodies and removes what servers left that were killed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        number = path.name.partition("-")[0]
        if number.isdecimal() and not _alive(int(number)):
            path.unlink(missing_ok=True)


async def _spool(request: Request, path: Path, limit: int) -> str:
    """Writes the body into a new file that is read-only from then on; gives the digest of its bytes."""
    size, pieces, state = 0, bytearray(), blake3()

    def write() -> None:
        state.update(pieces)
        file.write(pieces)

    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces += piece
                if len(pieces) >= _PIECE:
                    failpoint("api.bodies.write")
                    await to_thread.run_sync(write)
                    pieces.clear()
            await to_thread.run_sync(write)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            "The disk is full, and the body was not taken.", code="disk-full", hint="Free some space and send it again."
        ) from e
    return f"blake3:{state.hexdigest()}"


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "0")
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


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
