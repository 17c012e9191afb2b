"""Files that come in parts through the artifact proxy, as MLflow's clients send large ones.

Such a client sends a part without a token of its own, with the headers that it was told: so it is told the `Authorization` that it
sent itself, and nothing that it has not.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from loopline.api.mlflow import runs
from loopline.api.mlflow.artifacts import PROXY, Place, place
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Int64, Message, missing
from loopline.api.mlflow.problems import Problem
from loopline.operations import Body
from loopline.tracking.records import Part, Upload

MPU = f"{PROXY}/mpu"


class Begin(Message):
    """CreateMultipartUpload: `path` is the file's path at the client, `address` the folder that it goes to."""

    path: str | None = None
    num_parts: Int64 | None = None
    address: str = ""


class Brought(Message):
    """One part of an upload; `address` is the file's."""

    upload_id: str | None = None
    part_number: Int64 | None = None
    address: str = ""


class Named(Message):
    """A part by its number, and the ETag that was answered to it."""

    part_number: Int64 | None = None
    etag: str | None = None
    url: str | None = None


class End(Message):
    """CompleteMultipartUpload and AbortMultipartUpload."""

    path: str | None = None
    upload_id: str | None = None
    parts: list[Named] | None = None
    address: str = ""


@endpoint(f"POST {MPU}/create/{{address:path}}", action="run", needed=("path",))
def create(ask: Ask, given: Begin) -> dict[str, Any]:
    """Begins an upload: its id, and where each part is sent to."""
    file = _file(given.address, given.path or "")
    count = 1 if given.num_parts is None else given.num_parts
    made: Upload = runs.changed(
        file.run, lambda: ask.call("runs.start_upload", run=file.run, path=file.path, parts=count)
    )
    where, sent = _parts_url(ask), ask.request.headers.get("authorization")
    headers = {"Authorization": sent} if sent else {}
    credentials = [
        {"url": f"{where}?upload_id={made.id}&part_number={number}", "part_number": number, "headers": headers}
        for number in range(1, made.parts + 1)
    ]
    return {"upload_id": made.id, "credentials": credentials}


@endpoint(
    f"PUT {MPU}/part/{{address:path}}",
    action="run",
    takes="raw",
    brings="runs.put_part",
    needed=("upload_id", "part_number"),
)
def part(ask: Ask, given: Brought) -> Response:
    """Keeps a part; its ETag names it when the upload is completed."""
    run = place(given.address).run
    kept: Part = runs.changed(
        run,
        lambda: ask.send(
            "runs.put_part", ask.body or Body(b""), run=run, upload=given.upload_id, number=given.part_number
        ),
    )
    return Response(headers={"ETag": f'"{kept.digest}"'})


@endpoint(f"POST {MPU}/complete/{{address:path}}", action="run", needed=("path", "upload_id", "parts"))
def complete(ask: Ask, given: End) -> None:
    """Joins the parts to the file."""
    file = _file(given.address, given.path or "")
    parts = given.parts or []
    if [one.part_number for one in parts] != list(range(1, len(parts) + 1)):
        raise Problem("The list of parts was not in ascending order, each part once, beginning with part 1.")
    digests = [(one.etag or "").strip('"') for one in parts]
    asked = {"run": file.run, "upload": given.upload_id, "parts": digests, "path": file.path}
    runs.changed(file.run, lambda: ask.call("runs.complete_upload", **asked))


@endpoint(f"POST {MPU}/abort/{{address:path}}", action="run", needed=("path", "upload_id"))
def abort(ask: Ask, given: End) -> None:
    """Gives an upload up."""
    file = _file(given.address, given.path or "")
    asked = {"run": file.run, "upload": given.upload_id, "path": file.path}
    runs.changed(file.run, lambda: ask.call("runs.abort_upload", **asked))


def _file(folder: str, path: str) -> Place:
    """Where a file goes: to a folder, by the last part of its path at the client, whatever system that is. Raises `Problem`."""
    name = re.split(r"[/\\]", path)[-1]
    if not name:
        raise missing("path")
    return place(f"{folder.removesuffix('/')}/{name}")


def _parts_url(ask: Ask) -> str:
    """The URL of parts, at the address at which the client asked; a proxy with TLS before the server says so by a header."""
    request = ask.request
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else request.url.scheme
    path = request.scope["raw_path"].decode("ascii").partition("?")[0]
    return f"{scheme}://{request.headers['host']}{path.replace('/mpu/create/', '/mpu/part/', 1)}"
