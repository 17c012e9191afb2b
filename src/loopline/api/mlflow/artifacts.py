"""Files of runs: listed, fetched, brought and removed, as MLflow's clients do it through its artifact proxy.

A file's address there is `<location of the experiment>/<run>/artifacts/<path>`: the run names it, and what stands before says
nothing more. A logged model is a run, too, with `m-` in front of its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from loopline.api import answers
from loopline.api.mlflow import forms, runs
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Message
from loopline.api.mlflow.problems import Problem
from loopline.errors import Invalid, LooplineError, NotFound
from loopline.operations import Body, Bytes
from loopline.tracking.paths import check_path
from loopline.tracking.records import Artifact

PROXY = "/api/2.0/mlflow-artifacts"

_ADDRESS = re.compile(
    r"(?P<before>(?:[^/]+/)*?)(?:m-)?(?P<run>[0-9A-HJKMNP-TV-Z]{26})/artifacts(?:/(?P<path>.*))?", re.DOTALL
)
_TEXTS = frozenset(
    (
        "txt", "log", "err", "cfg", "conf", "cnf", "cf", "ini", "properties", "prop", "hocon", "toml", "yaml", "yml", "xml",
        "json", "js", "py", "py3", "csv", "tsv", "md", "rst", "ipynb", "MLmodel", "MLproject",
    )
)  # fmt: skip
"""Endings of names, and names without one, that MLflow's server calls plain text."""
_LARGEST_PASTED = 10 << 20


class Listed(runs.One):
    """ListArtifacts."""

    path: str | None = None


class Below(Message):
    """ListArtifacts and the like of the proxy; `address` is the place in its path."""

    path: str | None = None
    address: str = ""


class Signed(Message):
    """CreatePresignedUploadUrl and CreatePresignedDownloadUrl."""

    run_id: str | None = None
    model_id: str | None = None
    path: str | None = None


class FileInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A file or a folder, and how many bytes a file has."""

    path: str
    is_dir: bool
    file_size: int = 0


class Place(NamedTuple):
    """A run, and a path within it; "" is all of it."""

    run: str
    path: str


@endpoint("GET /api/2.0/mlflow/artifacts/list", action="read", needed=("run_id",))
def listed(ask: Ask, given: Listed) -> dict[str, Any]:
    """The files and folders right below a path of a run; all of them, on one page."""
    path = safe(given.path or "")
    run = runs.shown(ask, given.run)
    files = below(ask.call("runs.artifacts", run=run.id), path)
    root = forms.info(run, runs.where(ask, run)).artifact_uri
    return {"root_uri": root, **({"files": files} if files else {})}


@endpoint(f"GET {PROXY}/artifacts", action="read")
def proxied(ask: Ask, given: Below) -> dict[str, Any]:
    """The same by a file's address, with names instead of paths. Where there is nothing there is nothing in the list."""
    at = place(given.path or "")
    try:
        found = below(ask.call("runs.artifacts", run=at.run), at.path)
    except NotFound as e:
        if e.code != "no-run":
            raise
        found = []
    names = [msgspec.structs.replace(file, path=file.path.rpartition("/")[2]) for file in found]
    return {"files": names} if names else {}


@endpoint(f"GET {PROXY}/artifacts/{{address:path}}", action="read", takes="raw")
def fetch(ask: Ask, given: Below) -> Response:
    """A file."""
    return sent(ask, place(given.address), given.address)


@endpoint(f"PUT {PROXY}/artifacts/{{address:path}}", action="run", takes="raw", brings="runs.put_artifact")
def bring(ask: Ask, given: Below) -> Response:
    """Keeps a file."""
    at = place(given.address)
    runs.changed(
        at.run,
        lambda: ask.send("runs.put_artifact", ask.body or Body(b""), run=at.run, path=at.path),
    )
    return Response()


@endpoint(f"DELETE {PROXY}/artifacts/{{address:path}}", action="run", takes="raw")
def remove(ask: Ask, given: Below) -> None:
    """Removes a file, or a folder with what is in it; where there is nothing, nothing happens."""
    at = place(given.address)
    try:
        whole = () if at.path else below(ask.call("runs.artifacts", run=at.run), "")
        for path in (at.path,) if at.path else (file.path for file in whole):
            ask.call("runs.remove_artifact", run=at.run, path=path)
    except LooplineError as e:
        if e.code not in ("no-run", "no-artifact"):
            raise runs.told(e, at.run) from e


@endpoint("GET /get-artifact", action="read", takes="raw")
def shown(ask: Ask, given: Listed) -> Response:
    """A file of a run, as pages ask for it."""
    if given.path is None:
        raise Problem("Request must specify path.")
    path = safe(given.path)
    run = runs.shown(ask, given.run)
    address = f"{run.group}/{run.id}/artifacts/{path}"
    return sent(ask, Place(run.id, path), address)


@endpoint("POST /ajax-api/2.0/mlflow/upload-artifact", action="run", takes="raw", brings="runs.put_artifact")
def pasted(ask: Ask, given: Listed) -> Response:
    """Keeps a small file that a page made."""
    if not given.run_uuid:
        raise Problem("Request must specify run_uuid.")
    if not given.path:
        raise Problem("Request must specify path.")
    path = safe(given.path)
    content = ask.body
    if content is None:
        raise Problem("Request must specify data.")
    if content.path is not None and content.path.stat().st_size > _LARGEST_PASTED:
        raise Problem("Artifact size is too large. Max size is 10MB.")
    runs.changed(given.run, lambda: ask.send("runs.put_artifact", content, run=given.run, path=path))
    return Response(media_type="application/json")


@endpoint(f"GET {PROXY}/presigned/{{address:path}}", action="read", takes="raw")
def presigned(ask: Ask, given: Below) -> None:
    """Refused: a file is fetched from here."""
    safe(given.address)
    raise Problem("Multipart download is not supported for the current artifact repository", "NOT_IMPLEMENTED")


@endpoint("POST /api/2.0/mlflow/artifacts/presigned-upload-url", action="run", needed=("path",))
def upload_url(ask: Ask, given: Signed) -> None:
    """Refused: a file is sent here."""
    if bool(given.run_id) == bool(given.model_id):
        raise Problem("Exactly one of run_id and model_id must be provided.")
    safe(given.path or "")
    if given.run_id:
        runs.shown(ask, given.run_id)
    raise Problem(
        "Presigned upload is not supported for proxied artifact storage (artifact URI scheme: mlflow-artifacts). This "
        "endpoint requires a direct cloud storage artifact URI."
    )


@endpoint("POST /api/2.0/mlflow/artifacts/presigned-download-url", action="read", needed=("run_id", "path"))
def download_url(ask: Ask, given: Signed) -> None:
    """Refused: a file is fetched from here."""
    safe(given.path or "")
    runs.shown(ask, given.run_id or "")
    raise Problem(
        "Presigned download is not supported for runs with proxied artifact storage (artifact URI scheme: "
        "mlflow-artifacts). This endpoint requires a run with a direct cloud storage artifact URI."
    )


def place(address: str) -> Place:
    """The run and the path that an address names. Raises `Problem`."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise Problem(
            f"Nothing can be kept at '{safe(address)}': a file belongs to a run, and its address is "
            "<experiment>/<run>/artifacts/<path>."
        )
    safe(found["before"])
    return Place(found["run"], safe(found["path"] or ""))


def safe(path: str) -> str:
    """The path without a slash at its end, where it leads nowhere but downwards. Raises `Problem`."""
    plain = path.removesuffix("/")
    try:
        return check_path(plain) if plain else ""
    except Invalid as e:
        raise Problem("Invalid path") from e


def below(files: Iterable[Artifact], path: str) -> list[FileInfo]:
    """The files and folders right below a path, by name."""
    start = f"{path}/" if path else ""
    found: dict[str, FileInfo] = {}
    for file in files:
        if file.path.startswith(start):
            name, more, _ = file.path[len(start) :].partition("/")
            size = 0 if more else file.size
            found[name] = FileInfo(path=start + name, is_dir=bool(more), file_size=size)
    return [found[name] for name in sorted(found)]


def sent(ask: Ask, at: Place, address: str) -> Response:
    """A file as a response; `address` is what the error calls it. Raises `Problem` where there is none."""
    try:
        found: Bytes = ask.call("runs.artifact", run=at.run, path=at.path)
    except (NotFound, Invalid) as e:
        if e.code not in ("no-run", "no-artifact", "bad-path"):
            raise
        if e.code != "no-run" and below(ask.call("runs.artifacts", run=at.run), at.path):
            raise Problem(f"Artifact path refers to a directory, not a file: '{address}'") from e
        raise Problem(f"No such artifact: '{address}'", "RESOURCE_DOES_NOT_EXIST") from e
    ending = found.name.rpartition(".")[2]
    media = "text/plain" if ending in _TEXTS else found.media
    response = answers.answer(
        msgspec.structs.replace(found, media=media), "runs.artifact", ask.request.headers.get("if-none-match", "")
    )
    response.headers["Content-Disposition"] = _attached(found.name)
    return response


def _attached(name: str) -> str:
    """`Content-Disposition` as MLflow writes it: the name as it is where a header can hold it."""
    if re.fullmatch(r"[\w!#$&+.^`|~-]+", name, re.ASCII):
        return f"attachment; filename={name}"
    plain = re.sub(r'[^ -~]|["\\]', "", name) or "download"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
