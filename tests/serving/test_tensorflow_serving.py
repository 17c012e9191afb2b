"""TensorFlow Serving's own stubs, unmodified, in an environment of their own without TensorFlow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import environment

from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, expected, live, table

pytestmark = pytest.mark.systems
PROGRAM = Path(__file__).with_name("tfs_client.py")
ROW = {"age": 3.25, "visits": 7, "insured": False, "admitted": "1969-12-31", "ward": "west"}


@pytest.fixture(scope="module")
def python() -> Path:
    return environment(
        "tensorflow-serving-api==2.21.0",
        "tensorflow-protobuf==2.11.0",
        "protobuf",
        "grpcio",
        "typing_extensions",
        alone=True,
    )


def test_its_stubs_work_unmodified(serve: Callable[..., Supervisor], bundle: Callable[..., Path], python: Path) -> None:
    server = serve(table(1, live(bundle(version=3), 3)), grpc_port=0)
    found = json.loads(
        subprocess.run([python, PROGRAM, str(server.grpc_port)], check=True, stdout=subprocess.PIPE).stdout
    )
    yes = [expected(EXAMPLE), expected(ROW)]
    assert found["yes"] == pytest.approx(yes, rel=1e-4)
    assert found["labels"] == ["yes" if p >= 0.5 else "no" for p in yes]
    assert (found["dtype"], found["version"]) == ("DT_FLOAT", 3)
    assert found["inputs"] == {
        "age": "DT_DOUBLE", "visits": "DT_INT64", "insured": "DT_BOOL", "admitted": "DT_STRING", "ward": "DT_STRING",
    }  # fmt: skip
    assert found["error"].startswith("NOT_FOUND: There is no endpoint 'rusk'. Did you mean 'risk'")
