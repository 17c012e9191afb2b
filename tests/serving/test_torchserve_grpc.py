"""TorchServe's gRPC calls on the wire, in messages that are made here by their numbers; test_peers has them made by its .proto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from loopline.protobuf import classes
from loopline.serving.log import read_segment, segments
from loopline.serving.records import BUCKETS
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, expected, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
WIRE = classes(
    "tests.torchserve",
    {
        "Asked": ("1 model_name string", "2 model_version string", "3 input %bytes", "4 sequence_id |string"),
        "Status": ("1 code int32", "2 message string"),
        "Answer": ("1 prediction bytes", "2 sequence_id |string", "3 status Status"),
        "Health": ("1 health string",),
    },
    syntax="proto3",
)


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    weights = (live(bundle(version=3), 3, BUCKETS), live(bundle(version=4, bias=-9.0), 4, 0, "challenger"))
    return serve(table(1, *weights), row_limit=100, grpc_port=0)


@pytest.fixture
def channel(server: Supervisor) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as made:
        yield made


def asked(rows: Any, name: str = "risk", field: str = "data", **more: str) -> bytes:
    content = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    return bytes(WIRE["Asked"](model_name=name, input={field: content}, **more).SerializeToString())


def answered(data: bytes) -> Any:
    return WIRE["Answer"].FromString(data)


def test_rows_are_answered_as_over_http(channel: grpc.Channel, server: Supervisor, folder: Path) -> None:
    health = channel.unary_unary(f"{SERVICE}Ping")(b"")
    assert json.loads(WIRE["Health"].FromString(health).health) == {"status": "Healthy"}
    predict, stream = channel.unary_unary(f"{SERVICE}Predictions"), channel.unary_stream(f"{SERVICE}StreamPredictions")
    ids = []
    for rows, field in ((ROWS[0], "data"), (ROWS, "body"), ({"instances": ROWS}, "data")):
        one = json.loads(answered(predict(asked(rows, field=field))).prediction)
        (told,) = stream(asked(rows, field=field))
        other = json.loads(answered(told).prediction)
        http = call(server.port, "POST", "/predictions/risk", rows).json
        for found in (one, other, http):
            each = found["predictions"] if "predictions" in found else [found] if isinstance(found, dict) else found
            assert [p["probabilities"]["yes"] for p in each] == pytest.approx(
                [expected(row) for row in (ROWS if len(each) == 2 else ROWS[:1])], rel=1e-4
            )
            ids += [p["id"] for p in each]
    one = json.loads(answered(predict(asked(ROWS[0], model_version="4"))).prediction)
    assert one["model"] == "model:risk@4"
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == [*ids, one["id"]]
    assert [r.row for r in records[:6]] == [ROWS[0]] * 3 + ROWS + ROWS[:1]


def test_a_conversation_goes_on_after_an_error(channel: grpc.Channel) -> None:
    converse = channel.stream_stream(f"{SERVICE}StreamPredictions2")
    sent = [
        asked(ROWS[0], sequence_id="a"), asked(b"{", sequence_id="b"), asked(ROWS[0], name="rusk", sequence_id="c"),
        asked(ROWS[0], model_version="9"), asked(ROWS, sequence_id="a"),
    ]  # fmt: skip
    found = [answered(one) for one in converse(iter(sent))]
    assert [one.sequence_id for one in found] == ["a", "b", "c", "", "a"]
    assert [one.status.code for one in found] == [0, 3, 5, 5, 0]
    assert ["not JSON" in found[1].status.message, "rusk" in found[2].status.message] == [True, True]
    assert len(json.loads(found[4].prediction)) == 2


def test_bad_requests_are_named(channel: grpc.Channel, server: Supervisor) -> None:
    predict = channel.unary_unary(f"{SERVICE}Predictions")
    for request, code, words in (
        (asked(ROWS[0], name="rusk"), "NOT_FOUND", "rusk"),
        (asked(ROWS[0], name=""), "NOT_FOUND", ""),
        (asked(ROWS[0], model_version="9"), "NOT_FOUND", "9"),
        (asked(ROWS[0], field="image"), "INVALID_ARGUMENT", "'image'"),
        (asked(b"\xff"), "INVALID_ARGUMENT", "not JSON"),
        (asked([]), "INVALID_ARGUMENT", "0 rows"),
        (asked({**EXAMPLE, "age": "old"}), "INVALID_ARGUMENT", "age"),
        (asked(ROWS * 51), "RESOURCE_EXHAUSTED", "at most 100"),
        (b"\xff\xff", "INVALID_ARGUMENT", "no PredictionsRequest"),
    ):
        for method in (predict, lambda data: list(channel.unary_stream(f"{SERVICE}StreamPredictions")(data))):
            with pytest.raises(grpc.RpcError) as told:
                method(request)
            assert told.value.code().name == code, told.value
            assert words in told.value.details()
    assert answered(predict(asked(ROWS[0]))).prediction
