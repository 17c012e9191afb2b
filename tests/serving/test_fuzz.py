"""Made-up requests: by the endpoint's own OpenAPI document on a running server, and bytes for the parsers alone."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from loopline.serving import oip
from loopline.serving.contract import Contract
from loopline.serving.problems import Problem
from loopline.serving.records import Policy
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, FIELDS, call, live, table
from .test_oip import GOOD

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]
CONTRACTS = (
    Contract(FIELDS),
    Contract(FIELDS, passthrough=("patient",), route_key="patient", refuse_unknown=True, refuse_outside=True),
)
KINDS = st.sampled_from([*oip.DTYPES, "BYTES"])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*EXAMPLE, "patient", "rows", "x"]), inner)
    ),
    max_leaves=20,
)


def mutated(body: bytes, place: float, what: bytes) -> bytes:
    at = int(place * len(body))
    return body[:at] + what + body[at + len(what) :]


def asked(parse: Callable[[], Any]) -> tuple[Any, int]:
    """What a parser gives, and 200; or None, and the status of its refusal."""
    try:
        return parse(), 200
    except Problem as problem:
        return None, problem.status


BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(mutated, st.just(json.dumps([EXAMPLE]).encode()), st.floats(0, 1), st.binary(max_size=6))
)
TENSORS = st.builds(
    mutated, st.just(json.dumps({"inputs": [*GOOD.values()]}).encode()), st.floats(0, 1), st.binary(max_size=6)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONTRACTS), BODIES)
def test_rows_are_taken_or_refused(contract: Contract, body: bytes) -> None:
    rows, status = asked(lambda: contract.decode(body, 100))
    if rows is None:
        assert 400 <= status < 500
    else:
        assert all(len(row) == len(contract.fields) for row in rows.rows)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONTRACTS), BODIES | TENSORS, st.binary(max_size=40), st.none() | st.integers(0, 400))
def test_tensors_are_taken_or_refused(contract: Contract, body: bytes, tail: bytes, length: int | None) -> None:
    _, status = asked(lambda: oip.decode(contract, body + tail, length, 100))
    assert status == 200 or 400 <= status < 500


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(2**40), 2**40), max_size=3),
    st.integers(-8, 64),
    st.binary(max_size=64),
    st.sampled_from([*oip.DTYPES, "BYTES"]),
)
def test_no_claim_of_a_tensor_is_believed(shape: list[int], size: int, data: bytes, datatype: str) -> None:
    tensor = {"name": "age", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [*({**GOOD, "age": tensor}).values()]}).encode()
    _, status = asked(lambda: oip.decode(CONTRACTS[0], head + data, len(head), 100))
    assert status in (200, 400, 413)
    if status == 200:
        assert shape[0] == 1
        assert size == len(data)


# On a running server


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    from .conftest import write

    folder = tmp_path_factory.mktemp("fuzz")
    server = Supervisor(folder / "s", log=folder / "log", port=0)
    policy = Policy(unknown_category="refuse")
    server.start(table(1, live(write(folder / "b")), policy=policy, passthrough=("patient",)))
    yield server
    server.stop()


def requests(server: Supervisor, many: int) -> None:
    """Sends what the endpoint's documents allow, and what they do not: its own, and the one that Azure's clients read."""
    found = []
    for path in ("/docs/risk/openapi.json", "/swagger.json?version=3"):
        schema = schemathesis.openapi.from_dict(call(server.port, "GET", path).json)
        found += [operation.ok() for operation in schema.get_all_operations()]
    assert {operation.path for operation in found} >= {"/predict/risk", "/v2/models/risk/infer", "/score"}
    seen: set[int] = set()
    for operation, mode in itertools.product(found, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):

        @settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            response = case.call(base_url=f"http://127.0.0.1:{server.port}")
            seen.add(response.status_code)
            good = response.status_code < 500 or (response.status_code == 503 and response.headers.get("retry-after"))
            assert good, (response.status_code, response.text, case.as_curl_command())

        check()
    assert {200, 400} <= seen  # else it would have proven nothing
    assert server.restarts == 0


def test_schemathesis_finds_no_5xx(module_server: Supervisor) -> None:
    requests(module_server, 40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_schemathesis_finds_no_5xx_for_ten_minutes(module_server: Supervisor) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end:
        requests(module_server, 2000)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="atheris has wheels for Python 3.11")
def test_the_parsers_by_coverage(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows, tensors = json.dumps([EXAMPLE]).encode(), json.dumps({"inputs": [*GOOD.values()]}).encode()
    for n, data in enumerate(
        (b"\0" + rows, b"\1" + rows, b"\6\0\0" + tensors, b"\2" + struct.pack("<H", len(tensors)) + tensors)
    ):
        (corpus / str(n)).write_bytes(data)
    line = [sys.executable, str(Path(__file__).with_name("fuzz_parsers.py")), "300", str(corpus)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
