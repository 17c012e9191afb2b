"""A session whose platform is behind a URL: each verb is one request, its answer the declared type or the same error."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from loopline.access.peer import is_loopback, local_token_file
from loopline.catalog import Session
from loopline.client.channel import Channel
from loopline.client.wire import request
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused, Unavailable, from_dict
from loopline.hashing import digest_file
from loopline.operations import OPERATIONS, Body, Bytes, Operation
from loopline.settings import WORKSPACE

IN_MEMORY = 8 << 20
"""Raw answers larger than this, in bytes, go to a file that lives as long as the session."""

LARGE = 1 << 20
"""Bytes from which on a file is asked for by its digest before it is sent."""

PARTED = 512 << 20
"""A file of a run that has more bytes goes up in parts: a server takes no body without bounds."""

PART = 16 << 20
"""Bytes of a part, one of which is in memory at a time."""

_MOST_PARTS = 10_000


def open_session(url: str, *, token: str | None, project: str, timeout: float) -> Session:
    """See `loopline.client.connect`."""
    remote = _Remote(Channel(url.rstrip("/"), timeout), _token(url, token), project)
    return Session(remote.call, project=project, close=remote.close)


class _Remote:
    def __init__(self, channel: Channel, token: str, project: str) -> None:
        self._channel = channel
        self._project = project
        self._headers = {"Accept": "application/json", "User-Agent": "loopline"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._folder: Path | None = None

    def call(self, op: Operation, args: dict[str, Any], body: Body | None) -> Any:
        """The result of one operation. Raises what the platform raised, and `Unavailable` where none answers."""
        file = body.path if body is not None and op.name == "runs.put_artifact" else None
        if file is not None and file.is_file() and file.stat().st_size >= LARGE:
            # Bytes that the project has need not be sent. Where it has not, or something is wrong, the file is sent.
            with contextlib.suppress(NotFound, Conflict):
                return self._call(OPERATIONS["runs.copy_artifact"], {**args, "digest": digest_file(file)}, None)
            if file.stat().st_size > PARTED:
                return self._in_parts(args, file)
        return self._call(op, args, body)

    def _in_parts(self, args: dict[str, Any], file: Path) -> Any:
        """The file of a run, part by part; each is tried again by itself. An upload that fails is given up."""
        size = file.stat().st_size
        piece = max(PART, -(-size // _MOST_PARTS))
        parts = -(-size // piece)
        upload = self._call(OPERATIONS["runs.start_upload"], {**args, "parts": parts}, None).id
        here = {"run": args["run"], "upload": upload}
        put, kept = OPERATIONS["runs.put_part"], []
        try:
            for number, content in enumerate(Body(file).chunks(piece), 1):
                kept.append(self._call(put, {**here, "number": number}, Body(content)).digest)
            return self._call(OPERATIONS["runs.complete_upload"], {**here, "parts": tuple(kept)}, None)
        except BaseException:
            with contextlib.suppress(LooplineError):
                self._call(OPERATIONS["runs.abort_upload"], here, None)
            raise

    def _call(self, op: Operation, args: dict[str, Any], body: Body | None) -> Any:
        asked = request(op, args, body, self._project)
        asked.headers.update(self._headers)
        # An answer that holds a secret is kept nowhere, so such a call cannot be repeated.
        again = not op.mutates or not _secret(op)
        if op.mutates and again and not op.repeats:
            asked.headers["Idempotency-Key"] = secrets.token_hex(16)
        with self._channel.answer(asked, again=again) as response:
            if response.status >= 300:
                raise self._error(response)
            if op.out is Bytes:
                return self._bytes(response)
            content = response.read()
        if op.out is type(None):
            return None
        try:
            return msgspec.json.decode(content, type=op.out)
        except msgspec.DecodeError as e:
            raise Unavailable(
                f"{self._channel.url} answers {op.name} in a form that this program does not know: {e}.",
                code="foreign-answer",
                hint="Server and client are of different versions; install the server's.",
            ) from e

    def close(self) -> None:
        """Ends the connections and removes the files of raw answers."""
        self._channel.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _bytes(self, response: HTTPResponse) -> Bytes:
        media = response.getheader("Content-Type", "application/octet-stream")
        name = _name(response.getheader("Content-Disposition", ""))
        if (response.length or 0) <= IN_MEMORY and response.length is not None:
            return Bytes(media=media, name=name, data=response.read())
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="loopline-"))
        path = self._folder / secrets.token_hex(8)
        promised = response.length
        with path.open("xb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        if promised is not None and path.stat().st_size != promised:
            raise IncompleteRead(b"", promised - path.stat().st_size)  # http.client lets a short answer pass
        return Bytes(media=media, name=name, path=str(path))

    def _error(self, response: HTTPResponse) -> LooplineError:
        content = response.read(1 << 20)
        try:
            return from_dict(msgspec.json.decode(content, type=dict[str, Any]))
        except (msgspec.DecodeError, KeyError, AttributeError, TypeError):
            pass
        kind = {401: Refused, 403: Refused, 404: NotFound, 400: Invalid, 413: Invalid}.get(response.status, Unavailable)
        return kind(
            f"{self._channel.url} answers {response.status} {response.reason}, and not as Loopline does.",
            code="foreign-answer",
            hint="Is this the address of a Loopline server?",
        )


def _secret(op: Operation) -> bool:
    return "secret" in getattr(op.out, "__struct_fields__", ())


def _name(disposition: str) -> str:
    found = re.search(r"filename\*=utf-8''([^;]+)", disposition, re.IGNORECASE)
    if found:
        return unquote(found[1])
    found = re.search(r'filename="([^"]*)"', disposition)
    return found[1] if found else ""


def _token(url: str, given: str | None) -> str:
    """The token to send: the one given, else the environment's, else the local one of a server of this user's workspace.

    The local token goes only to the address that the workspace's server wrote down as its own.
    """
    if given is not None:
        return given
    if token := os.environ.get("LOOPLINE_TOKEN"):
        return token
    host = urlsplit(url).hostname or ""
    if not (host == "localhost" or is_loopback(host)):
        return ""
    workspace = Path(os.environ.get("LOOPLINE_WORKSPACE") or WORKSPACE)
    try:
        server = json.loads((workspace / "server.json").read_text())
        if urlsplit(server["url"]).port == urlsplit(url).port:
            return local_token_file(workspace).read_text().strip()
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""
