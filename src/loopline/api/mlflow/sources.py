"""Where a model version comes from: which URIs may be its source, and what of the platform holds the files.

A source is taken where it leads to a run, a logged model or a model version that the request names, or to storage elsewhere that
only clients open. A path on this machine is none: nobody else could follow it.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple, NoReturn
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from loopline.api.mlflow import limits, logged, registry, runs
from loopline.api.mlflow.endpoints import Ask
from loopline.api.mlflow.problems import Problem
from loopline.tracking.records import Run

PROMPTS = ("dummy-source", "prompt-template")
"""What prompts, which are no models, give for their source."""

_LONGEST = 8_192  # each round of decoding takes as long as the text
_HOSTS = ("http", "https", "ftp", "sftp", "hdfs", "viewfs")


class Source(NamedTuple):
    """A source that was taken. `files` is the ref of what holds the files, `path` the folder in it; None: kept elsewhere."""

    uri: str
    run: str | None
    files: str | None = None
    path: str = ""
    location: str = ""


def resolve(ask: Ask, uri: str, run: str | None, model: str | None) -> Source:
    """The source of a new version. Raises `Problem` where it is not inside of what the request names."""
    limits.check_length("Model version source", _LONGEST, uri)
    scheme = _split(uri).scheme.lower()
    if scheme in _HOSTS:
        raise Problem(
            f"'source' cannot use the '{scheme}' scheme: the '{scheme}' scheme addresses a host other than the tracking "
            "server's configured artifact storage, so the server would connect to the host named in the URI. Bring the files to "
            "the server, or name where they are in a way that does not lead there."
        )
    if scheme == "models" and not _split(uri).netloc and logged.id_in(uri) is None:
        return _version(ask, uri, run, model)
    if scheme in ("", "file"):
        return _local(ask, uri, run, model)
    _check_plain(uri)
    named = "model_id" if model else "run_id"
    if scheme in ("runs", "models") and _split(uri).netloc:
        _outside(uri, named if scheme == "runs" else "model_id")
    if scheme == "runs":
        of, _, path = _split(uri).path.lstrip("/").partition("/")
        if model or not run or of != run:
            _outside(uri, named)
        return Source(uri, run, runs.shown(ask, run).ref, unquote(path))
    if scheme == "models":
        if model is None or logged.id_in(uri) != model:
            _outside(uri, "model_id")
        found = _logged(ask, model, uri)
        return Source(uri, run or found.parent, found.ref, "", logged.location(ask, found))
    if scheme == "mlflow-artifacts":
        return _kept(ask, uri, run, model)
    return Source(uri, run)


def _version(ask: Ask, uri: str, run: str | None, model: str | None) -> Source:
    """Another version of a model: by its number, its alias, its stage, or the newest."""
    path = unquote(_split(uri).path).lstrip("/")
    found = re.fullmatch(r"([^/@]+)(?:/([^/@]+)|@([\w\-]+))", path)
    if found is None:
        _outside(uri, "model_id")
    name, suffix, alias = found.groups()
    title = registry.find(ask, name)
    if registry.is_prompt(title.tags):
        raise Problem(
            f"Invalid model version source: '{uri}'. Prompt versions cannot be used as model version sources."
        )
    if alias is not None:
        number = title.aliases.get(alias)
        if number is None:
            raise Problem(f"Registered model alias {alias} not found.")
    elif suffix.isdecimal():
        number = registry.numbered(suffix)
    else:
        versions = registry.newest(ask, title.name)[title.name]
        if suffix.lower() != "latest":
            versions = [one for one in versions if registry.stage(one) == registry.canonical(suffix)]
        if not versions:
            raise Problem(f"No versions of model with name '{name}' found", "RESOURCE_DOES_NOT_EXIST")
        number = max(one.version for one in versions)
    _, version = registry.show(ask, name, str(number))
    of = registry.run_of(version)
    if (run is not None and run != of) or model:
        raise Problem(
            f"Invalid model version source: '{uri}'. The run_id and model_id request parameters must match the referenced "
            "model version."
        )
    return Source(f"models:/{name}/{number}", of or None, version.ref, "", registry.location(version))


def _kept(ask: Ask, uri: str, run: str | None, model: str | None) -> Source:
    """Files that this server keeps, of a run or of a logged model."""
    if model:
        found = _logged(ask, model, uri)
        root = logged.location(ask, found)
        named = "model_id"
    elif run:
        try:
            found = runs.shown(ask, run)
        except Problem:
            _outside(uri, "run_id")
        root = f"{runs.where(ask, found)}/{found.id}/artifacts"
        named = "run_id"
    else:
        _outside(uri, "run_id")
    inside = _below(uri, root)
    if inside is None:
        _outside(uri, named)
    return Source(uri, run or found.parent, found.ref, "/".join(inside))


def _local(ask: Ask, uri: str, run: str | None, model: str | None) -> Source:
    """A path: it has to be where the run or the logged model keeps its files, which clients of this machine wrote."""
    root = ""
    path = posixpath.normpath(unquote(_split(uri).path))
    if model:
        root = logged.location(ask, _logged(ask, model, uri))
    elif run:
        try:
            found = runs.shown(ask, run)
        except Problem:
            _outside(uri, "run_id")
        root = f"{runs.where(ask, found)}/{found.id}/artifacts"
    kept = posixpath.normpath(unquote(_split(root).path))
    if root and _split(root).scheme in ("", "file") and (path == kept or path.startswith(f"{kept}/")):
        return Source(uri, run)
    named = "model_id" if model else "run_id"
    raise Problem(
        f"Invalid model version source: '{path if run or model else uri}'. To use a local path as a model version source, the "
        f"{named} request parameter has to be specified and the local path has to be contained within the artifact directory "
        f"of the run specified by the {named}."
    )


def _logged(ask: Ask, model: str, uri: str) -> Run:
    try:
        return logged.shown(ask, model)
    except Problem:
        _outside(uri, "model_id")


def _below(uri: str, root: str) -> tuple[str, ...] | None:
    """The parts of a path behind those of its root; None where it is not below it."""
    own, top = _parts(uri), _parts(root)
    return own[2][len(top[2]) :] if own[:2] == top[:2] and own[2][: len(top[2])] == top[2] else None


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    split = _split(uri)
    return split.scheme.lower(), split.netloc.lower(), tuple(_plain(part) for part in split.path.split("/") if part)


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as e:  # a host that is none
        raise Problem(f"Invalid model version source: '{uri}'. It is no URI: {e}.") from e


def _plain(text: str) -> str:
    while (decoded := unquote(text)) != text:
        text = decoded
    return text


def _check_plain(uri: str) -> None:
    """Raises where a URI climbs, by whatever spelling."""
    plain = uri
    while (decoded := unquote_plus(plain)) != plain:
        plain = decoded
    path = re.sub("/+", "/", _split(plain).path.rstrip("/"))
    if "\0" in path or ".." in plain.split("/") or not path.startswith("/") or posixpath.normpath(path) != path:
        raise Problem(
            f"Invalid model version source: '{uri}'. If supplying a source as an http, https, local file path, ftp, "
            "objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references "
            "present. Please provide an absolute path."
        )


def _outside(uri: str, named: str) -> NoReturn:
    raise Problem(
        f"Invalid model version source: '{uri}'. The {named} request parameter must identify the resource that contains the "
        "source."
    )
