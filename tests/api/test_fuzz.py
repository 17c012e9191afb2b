"""Made-up requests to a workspace in service, by its own OpenAPI document: the routes about models, endpoints and their answers.

What a caller sends is refused or done; a 5xx is none but the 503 that says when to come again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from loopline.api.up import Service
from loopline.settings import load

from .test_up import served

ABOUT = ("endpoints", "rollouts", "predictions", "labels", "models", "scores")
"""The groups that serving is made of. What reads from elsewhere (sources) is left out: it would ask made-up addresses."""
KNOWN: dict[str, list[str]] = {
    "project": ["default"], "endpoint": ["risk"], "name": ["risk"], "version": ["1", "2", "champion", "latest"],
    "alias": ["champion"],
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fuzz")
    served(folder).close()
    wanted = load(workspace=str(folder / "workspace"), checkpoints=str(folder / "copies"), port=0)
    with Service(wanted) as running:
        yield running


def requests(service: Service, groups: tuple[str, ...], many: int) -> set[int]:
    """Sends what the document allows of these groups, and what it does not; gives the statuses."""
    url = f"http://127.0.0.1:{service.supervisor.port}"
    with urllib.request.urlopen(f"{url}/api/openapi.json") as answer:
        document = json.load(answer)
    for path, ways in list(document["paths"].items()):
        if not any(group in way["tags"] for way in ways.values() for group in groups):
            del document["paths"][path]
    schema = schemathesis.openapi.from_dict(document)
    found = [operation.ok() for operation in schema.get_all_operations()]
    assert len(found) >= len(groups)
    chosen = random.Random(7)
    seen: set[int] = set()
    for operation, mode in itertools.product(found, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):

        @settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            for name, values in KNOWN.items():  # else nearly all would ask for what is not there
                if name in (case.path_parameters or {}) and chosen.random() < 0.8:
                    case.path_parameters[name] = chosen.choice(values)
            response = case.call(base_url=url)
            seen.add(response.status_code)
            good = response.status_code < 500 or (response.status_code == 503 and response.headers.get("retry-after"))
            assert good, (response.status_code, response.text, case.as_curl_command())

        with contextlib.suppress(Unsatisfiable):  # what has neither a body nor parameters cannot be asked wrongly
            check()
        again(url)
    assert service.supervisor.restarts == 0
    return seen


def again(url: str) -> None:
    """What was removed by a request is there again."""
    body = json.dumps({"name": "risk", "model": "model:risk@1"}).encode()
    for path, sent in (("models/risk/restore", b"{}"), ("endpoints", body)):
        asked = urllib.request.Request(
            f"{url}/api/v1/projects/default/{path}", sent, {"Content-Type": "application/json"}, method="POST"
        )
        with contextlib.suppress(urllib.error.HTTPError):  # it is there
            urllib.request.urlopen(asked).close()


def test_no_request_is_answered_by_a_5xx(service: Service) -> None:
    assert {200, 400, 404} <= requests(service, ("predictions",), 2)


def test_whole_numbers_that_json_does_not_carry_are_no_failure(service: Service) -> None:
    def status(method: str, path: str, sent: Any) -> tuple[int, str]:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{service.supervisor.port}/api/v1/projects/default/{path}",
            json.dumps(sent).encode(),
            {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(8)},
            method=method,
        )
        try:
            with urllib.request.urlopen(asked) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)["error"]["code"]

    policy = {"policy": {"rate": 1.0, "burst": 2**53 + 1}}
    assert status("PUT", "endpoints/risk/policy", policy) == (400, "inexact-number")
    assert status("POST", "endpoints/risk/expire", {"before": -(2**60)}) == (404, "no-record")


def test_what_wants_bytes_and_gets_none_says_so(service: Service) -> None:
    url = f"http://127.0.0.1:{service.supervisor.port}/api/v1/projects/default"
    for method, path in (
        ("POST", "models/risk/versions"), ("POST", "datasets/rows/versions"), ("POST", "datasets/rows/rows"),
        ("PUT", "runs/x/artifacts/a.txt"),
    ):  # fmt: skip
        asked = urllib.request.Request(f"{url}/{path}", method=method, headers={"Content-Length": "0"})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(asked)
        assert (refusal.value.code, json.load(refusal.value)["error"]["code"]) == (400, "no-body"), path


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_request_is_answered_by_a_5xx_for_ten_minutes(service: Service) -> None:
    end, seen = time.monotonic() + 600, set()
    while time.monotonic() < end:
        seen |= requests(service, ABOUT, 100)
    assert {200, 400, 404, 409} <= seen
