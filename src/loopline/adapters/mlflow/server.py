"""Runs of an MLflow server, through its REST interface (MLflow 2 and 3). It is only read, and MLflow is not needed for it.

Pages of runs and of metric histories are asked for one after the other, so that a server of any size is read in bounded memory.
Deleted experiments and runs are left out, as are registered models.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from typing import IO, Any, cast
from urllib.parse import quote, urlencode, urlsplit

from loopline.adapters.mlflow import words
from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.ports.foreign_runs import ForeignFile, ForeignPoint, ForeignRun, Unread

_API = "/api/2.0/mlflow"
_RUNS, _EXPERIMENTS, _POINTS = 100, 1000, 25_000  # of a page
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
        tags = {str(one["key"]): str(one.get("value", "")) for one in data.get("tags", ())}
        source = str(info["run_id"])
        ended = info.get("end_time")
        inputs = len(run.get("inputs", {}).get("dataset_inputs", ()))
        return ForeignRun(
            source=source,
            name=str(info.get("run_name") or tags.get("mlflow.runName") or source),
            created=int(info["start_time"]),
            status=words.ENDINGS[info.get("status", "FINISHED")],
            ended=None if ended is None else int(ended),
            group=group,
            params={str(one["key"]): str(one.get("value", "")) for one in data.get("params", ())},
            tags=words.left(tags),
            points=partial(self._points, source, [str(one["key"]) for one in data.get("metrics", ())]),
            files=partial(self._files, source),
            left_out=(f"{inputs} dataset inputs",) if inputs else (),
            **words.about(tags),
        )

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
        target = f"{self._url}/get-artifact?" + urlencode({"path": path, "run_uuid": run}, quote_via=quote)
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


def _access() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}
