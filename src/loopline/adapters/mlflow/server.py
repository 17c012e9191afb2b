"""Runs of an MLflow server, through its REST interface (MLflow 2 and 3). It is only read, and MLflow is not needed for it.

Pages of runs and of metric histories are asked for one after the other, so that a server of any size is read in bounded memory.
Deleted experiments, runs and models are left out.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import IO, Any, cast
from urllib.parse import quote, urlencode, urlsplit

from loopline.adapters.mlflow import words
from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.ports.foreign_runs import (
    ForeignDataset,
    ForeignFile,
    ForeignMeasure,
    ForeignModel,
    ForeignPoint,
    ForeignRun,
    ForeignVersion,
    Unread,
)

_API = "/api/2.0/mlflow"
_RUNS, _LOGGED, _MODELS, _EXPERIMENTS, _POINTS = 100, 50, 1000, 1000, 25_000  # of a page
_LARGEST = 256 << 20  # bytes of an answer
_TIMEOUT = 60.0
_DEEPEST = 32  # folders of artifacts in folders


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_DOOR = urllib.request.build_opener(_NoRedirect)


class _Download:
    """A file on its way; that it breaks off is said as errors of the family are."""

    def __init__(self, answer: Any, away: Callable[[object], Unavailable]) -> None:
        self._answer = answer
        self._away = away

    def read(self, size: int) -> bytes:
        try:
            found: bytes = self._answer.read(size)
        except (OSError, HTTPException) as e:
            raise self._away(e) from e
        if not found:
            self._answer.close()
        return found


class MlflowServer:
    """The runs of a server at a URL. Access as MLflow's own client has it: `MLFLOW_TRACKING_TOKEN`, or `..._USERNAME` and
    `..._PASSWORD`."""

    system = "mlflow"

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise Invalid(
                f"{url!r} is no address of an MLflow server.", code="bad-import", hint="For example http://host:5000."
            )
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "loopline", **_access()}

    def runs(self) -> Iterator[ForeignRun | Unread]:
        for experiment in self._experiments():
            name = str(experiment["name"])
            asked = {"experiment_ids": [str(experiment["experiment_id"])], "run_view_type": "ACTIVE_ONLY"}
            for run in self._pages("runs/search", "runs", asked, _RUNS):
                try:
                    yield self._run(run, "" if name == "Default" else name)
                except (KeyError, TypeError, ValueError) as e:
                    yield Unread(str(run.get("info", {}).get("run_id", "?")), f"the server tells of it oddly: {e!r}")

            logged = self._pages("logged-models/search", "models", {"experiment_ids": asked["experiment_ids"]}, _LOGGED)
            with suppress(NotFound):  # MLflow 2 knows of none
                for model in logged:
                    try:
                        yield self._logged(model, "" if name == "Default" else name)
                    except (KeyError, TypeError, ValueError) as e:
                        yield Unread(
                            str(model.get("info", {}).get("model_id", "?")), f"the server tells of it oddly: {e!r}"
                        )

    def models(self) -> Iterator[ForeignModel | Unread]:
        versions: dict[str, list[dict[str, Any]]] = {}
        for one in self._listed("model-versions/search", "model_versions"):
            versions.setdefault(str(one.get("name")), []).append(one)
        for model in self._listed("registered-models/search", "registered_models"):
            try:
                name = str(model["name"])
                yield ForeignModel(
                    name=name,
                    description=str(model.get("description") or ""),
                    tags=_pairs(model.get("tags", ())),
                    aliases={str(one["alias"]): int(one["version"]) for one in model.get("aliases", ())},
                    versions=tuple(self._version(name, one) for one in versions.get(name, ())),
                )
            except (KeyError, TypeError, ValueError) as e:
                yield Unread(f"models/{model.get('name', '?')}", f"the server tells of it oddly: {e!r}")

    def _version(self, name: str, given: dict[str, Any]) -> ForeignVersion:
        origin, number = str(given.get("source") or ""), int(given["version"])
        files = words.origin(origin)
        if files is None and origin.startswith("models:/"):
            # A copy of another version: the server knows where that has its files.
            told = self._json("model-versions/get-download-uri", query={"name": name, "version": str(number)})
            files = words.origin(str(told.get("artifact_uri") or ""))
        return ForeignVersion(
            number=number,
            run=str(given.get("run_id") or ""),
            origin=origin,
            files=files,
            description=str(given.get("description") or ""),
            tags=words.staged(_pairs(given.get("tags", ())), given.get("current_stage")),
        )

    def _listed(self, path: str, what: str) -> Iterator[dict[str, Any]]:
        """All that a search by GET finds, page by page."""
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            found = self._json(path, query={"max_results": _MODELS, **page})
            yield from found.get(what, ())
            after = found.get("next_page_token", "")
            if not after or after == token:
                return
            token = after

    def _experiments(self) -> Iterator[dict[str, Any]]:
        return self._pages("experiments/search", "experiments", {"view_type": "ACTIVE_ONLY"}, _EXPERIMENTS)

    def _pages(self, path: str, what: str, asked: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            found = self._json(path, body={**asked, "max_results": size, **page})
            yield from found.get(what, ())
            after = found.get("next_page_token", "")
            if not after or after == token:
                return
            token = after

    def _run(self, run: dict[str, Any], group: str) -> ForeignRun:
        info, data = run["info"], run.get("data", {})
        tags = _pairs(data.get("tags", ()))
        source = str(info["run_id"])
        ended = info.get("end_time")
        return ForeignRun(
            source=source,
            name=str(info.get("run_name") or tags.get("mlflow.runName") or source),
            created=int(info["start_time"]),
            status=words.ENDINGS[info.get("status", "FINISHED")],
            ended=None if ended is None else int(ended),
            group=group,
            params=dict(_pairs(data.get("params", ()))),
            tags=words.left(tags),
            points=partial(self._points, source, [str(one["key"]) for one in data.get("metrics", ())]),
            files=partial(self._files, source),
            datasets=tuple(_dataset(one) for one in run.get("inputs", {}).get("dataset_inputs", ())),
            **words.about(tags),
        )

    def _logged(self, model: dict[str, Any], group: str) -> ForeignRun:
        info, data = model["info"], model.get("data", {})
        source = str(info["model_id"])
        return ForeignRun(
            source=source,
            kind="model",
            name=str(info.get("name") or source),
            created=int(info["creation_timestamp_ms"]),
            status=words.MODEL_ENDINGS[str(info.get("status"))],
            ended=int(info["last_updated_timestamp_ms"]),
            group=group,
            parent=str(info["source_run_id"]) if info.get("source_run_id") else None,
            params=dict(_pairs(data.get("params", ()))),
            tags=words.typed(_pairs(info.get("tags", ())), info.get("model_type")),
            files=partial(self._files_of, source),
            measures=tuple(_measure(one) for one in data.get("metrics", ())),
        )

    def _files_of(self, model: str, folder: str = "", depth: int = 0) -> Iterator[ForeignFile]:
        """The files of a logged model."""
        query = {"artifact_directory_path": folder} if folder else {}
        found = self._json(f"logged-models/{quote(model, safe='')}/artifacts/directories", query=query)
        for one in found.get("files", ()) if depth < _DEEPEST else ():
            path = str(one["path"])
            if one.get("is_dir"):
                yield from self._files_of(model, path, depth + 1)
            else:
                size = one.get("file_size")
                target = f"{self._url}/ajax-api/2.0/mlflow/logged-models/{quote(model, safe='')}/artifacts/files?"
                target += urlencode({"artifact_file_path": path}, quote_via=quote)
                yield ForeignFile(path, None if size is None else int(size), partial(self._download, target))

    def _points(self, run: str, keys: list[str]) -> Iterator[ForeignPoint]:
        for key in keys:
            token = ""
            while True:
                asked = {"run_id": run, "metric_key": key, "max_results": _POINTS}
                found = self._json("metrics/get-history", query={**asked, **({"page_token": token} if token else {})})
                for one in found.get("metrics", ()):
                    try:
                        yield ForeignPoint(key, int(one.get("step", 0)), int(one["timestamp"]), float(one["value"]))
                    except (KeyError, TypeError, ValueError) as e:
                        raise Invalid(
                            f"{self._url} tells oddly of the metric {key!r} of run {run}: {e!r}.", code="bad-import"
                        ) from e
                after = found.get("next_page_token", "")
                if not after or after == token:
                    break
                token = after

    def _files(self, run: str, folder: str = "", depth: int = 0) -> Iterator[ForeignFile]:
        token = ""
        while depth < _DEEPEST:
            asked = {"run_id": run, **({"path": folder} if folder else {}), **({"page_token": token} if token else {})}
            found = self._json("artifacts/list", query=asked)
            for one in found.get("files", ()):
                path = str(one["path"])
                if one.get("is_dir"):
                    yield from self._files(run, path, depth + 1)
                else:
                    size = one.get("file_size")
                    yield ForeignFile(path, None if size is None else int(size), partial(self._file, run, path))
            token = found.get("next_page_token", "")
            if not token:
                return

    def _file(self, run: str, path: str) -> IO[bytes]:
        return self._download(
            f"{self._url}/get-artifact?" + urlencode({"path": path, "run_uuid": run}, quote_via=quote)
        )

    def _download(self, target: str) -> IO[bytes]:
        answer = self._open(urllib.request.Request(target, headers=self._headers))  # noqa: S310  # http(s), as was checked
        return cast(IO[bytes], _Download(answer, self._away))

    def _json(self, path: str, *, body: Any = None, query: dict[str, Any] | None = None) -> dict[str, Any]:
        target = f"{self._url}{_API}/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({} if data is None else {"Content-Type": "application/json"})}
        with self._open(urllib.request.Request(target, data, headers)) as answer:  # noqa: S310  # http(s), as was checked
            try:
                content = answer.read(_LARGEST + 1)
            except (OSError, HTTPException) as e:
                raise self._away(e) from e
        try:
            found = json.loads(content) if len(content) <= _LARGEST else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Unavailable(
                f"{self._url} does not answer as MLflow does.",
                code="foreign-answer",
                hint="Is this the address of a tracking server?",
            )
        return found

    def _open(self, request: urllib.request.Request) -> Any:
        try:
            return _DOOR.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as e:
            raise self._refused(e) from e
        except (OSError, HTTPException) as e:
            raise self._away(e) from e

    def _refused(self, error: urllib.error.HTTPError) -> LooplineError:
        said = error.read(2000).decode(errors="replace")
        try:
            said = str(json.loads(said)["message"])
        except (ValueError, KeyError, TypeError):
            said = error.reason
        if error.code in (401, 403):
            return Refused(
                f"{self._url} lets nobody in so: {said[:300]}",
                code="foreign-refusal",
                hint="Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
            )
        if error.code >= 500 or error.code == 429:
            return self._away(f"{error.code} {said[:300]}")
        kind = NotFound if error.code == 404 else Invalid
        return kind(f"{self._url} answers {error.code}: {said[:300]}", code="foreign-answer")

    def _away(self, why: object) -> Unavailable:
        return Unavailable(
            f"{self._url} does not answer: {why}.",
            code="source-away",
            hint="Import again when it does: it goes on where it was.",
        )


def _pairs(given: Any) -> dict[str, str]:
    return {str(one["key"]): str(one.get("value", "")) for one in given}


def _dataset(given: dict[str, Any]) -> ForeignDataset:
    about = given["dataset"]
    said = {name: str(about.get(name) or "") for name in ForeignDataset._fields if name != "context"}
    return ForeignDataset(**said, context=_pairs(given.get("tags", ())).get("mlflow.data.context", ""))


def _measure(given: dict[str, Any]) -> ForeignMeasure:
    point = ForeignPoint(str(given["key"]), int(given.get("step", 0)), int(given["timestamp"]), float(given["value"]))
    run, dataset, digest = (str(given.get(name) or "") for name in ("run_id", "dataset_name", "dataset_digest"))
    return ForeignMeasure(run, point, dataset, digest)


def _access() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}
