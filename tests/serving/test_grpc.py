"""gRPC: the unmodified tritonclient, and TensorFlow Serving's calls on the wire."""

from __future__ import annotations

import contextlib
import hashlib
import math
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from loopline.errors import Conflict, MissingExtra
from loopline.serving.grpc.messages import TENSORFLOW
from loopline.serving.log import read_segment, segments
from loopline.serving.records import BUCKETS, KNOWN, Policy
from loopline.serving.supervisor import Supervisor
from loopline.serving.tls import make_certificate

from .conftest import EXAMPLE, KINDS, call, expected, live, table, tensors

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [
    EXAMPLE,
    {"age": None, "visits": 0, "insured": False, "admitted": "", "ward": ""},
    {"age": 3.25, "visits": 7, "insured": True, "admitted": "1969-12-31", "ward": "wést"},
]
YES = [expected(r) for r in (EXAMPLE, {**ROWS[1], "admitted": None}, {**ROWS[2], "ward": "unknown"})]
LABELS = ["yes" if p >= 0.5 else "no" for p in YES]


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    weights = (live(bundle(version=3), 3, BUCKETS), live(bundle(version=4, bias=-9.0), 4, 0, "challenger"))
    return serve(table(1, *weights, passthrough=("patient",)), grpc_port=0, row_limit=100, body_limit=1 << 20)


@pytest.fixture
def client(server: Supervisor) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    yield made
    made.close()


@pytest.fixture
def channel(server: Supervisor) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as made:
        yield made


def inputs(rows: list[dict[str, Any]], shape: tuple[int, ...] = (-1, 1)) -> list[triton.InferInput]:
    return tensors(triton, rows, shape)


def test_a_client_finds_its_way(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("risk")
    assert client.is_model_ready("risk", "4")
    assert not client.is_model_ready("risk", "5")
    assert not client.is_model_ready("rusk")
    assert "model_repository" in client.get_server_metadata().extensions
    about = client.get_model_metadata("risk", as_json=True)
    assert (about["name"], about["versions"]) == ("risk", ["3", "4"])
    assert {i["name"]: i["datatype"] for i in about["inputs"]}["ward"] == "BYTES"
    assert [o["shape"] for o in about["outputs"]] == [["-1", "2"], ["-1"]]
    index = client.get_model_repository_index(as_json=True)["models"]
    assert [(m["name"], m["version"], m["state"]) for m in index] == [("risk", "3", "READY"), ("risk", "4", "READY")]
    for refused in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="decided where it was deployed"):
            refused("risk")


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_infer_with_the_client_s_defaults(
    client: triton.InferenceServerClient, server: Supervisor, folder: Path, shape: tuple[int, ...]
) -> None:
    answer = client.infer("risk", inputs(ROWS, shape), request_id="mine")
    assert np.allclose(answer.as_numpy("probabilities")[:, 1], YES, rtol=1e-4)
    assert [v.decode() for v in answer.as_numpy("label")] == LABELS
    said = answer.get_response()
    assert (said.id, said.model_name, said.model_version) == ("mine", "risk", "3")
    assert said.parameters["variant"].string_param == "champion"
    ids = said.parameters["prediction_ids"].string_param.split(",")
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == ids
    assert [r.row for r in records] == ROWS


def test_versions_outputs_and_statistics(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities")]
    answer = client.infer("risk", inputs(ROWS[:1]), model_version="4", outputs=wanted)
    assert answer.as_numpy("label") is None
    assert answer.as_numpy("probabilities")[0, 1] == pytest.approx(expected(EXAMPLE, -9.0), rel=1e-3)
    stats = client.get_inference_statistics("risk", "4", as_json=True)["model_stats"]
    assert [(s["version"], s["inference_count"]) for s in stats] == [("4", "1")]
    assert len(client.get_inference_statistics(as_json=True)["model_stats"]) == 2


def test_the_client_s_stream_is_answered_in_order_and_outlives_an_error(client: triton.InferenceServerClient) -> None:
    found: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    for n in range(100):
        rows = ROWS if n != 50 else [{**EXAMPLE, "ward": "x"}] * 101
        client.async_stream_infer("risk", inputs(rows), request_id=str(n), enable_empty_final_response=n % 2 == 0)
    for n in range(100):
        result, error = found.get(timeout=30)
        if n == 50:
            assert result is None
            assert "at most 100" in error.message()
            continue
        assert error is None
        said = result.get_response()
        assert (said.id, said.model_version) == (str(n), "3")
        assert said.parameters["triton_final_response"].bool_param == (n % 2 == 0)
        assert np.allclose(result.as_numpy("probabilities")[:, 1], YES, rtol=1e-4)
    client.stop_stream()
    client.infer("risk", inputs(ROWS))
    stats = client.get_inference_statistics("risk", "3", as_json=True)["model_stats"]
    assert stats[0]["inference_count"] == "300"


def test_a_stream_is_bounded_by_who_calls_and_how_often(serve: Serve, bundle: Bundle) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    limited = table(1, live(bundle()), policy=Policy(rate=0.001, burst=3))
    server = serve(limited, {"risk": (digest,), KNOWN: (digest,)}, grpc_port=0)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    for token, words in (("secret", "more often than 0.001"), ("other", "not known")):
        found: queue.Queue[Any] = queue.Queue()
        headers = {"x-forwarded-for": "192.0.2.7", "authorization": f"Bearer {token}"}
        client.start_stream(lambda result, error, found=found: found.put(error), headers=headers)
        for _ in range(5):
            client.async_stream_infer("risk", inputs(ROWS[:1]))
        errors = [found.get(timeout=30) for _ in range(5)]
        assert [error is None for error in errors] == [token == "secret"] * 3 + [False] * 2
        assert words in errors[-1].message()
        client.stop_stream()
    client.close()


def test_an_idle_stream_does_not_keep_a_worker_from_its_end(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())), grpc_port=0)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    found: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    client.async_stream_infer("risk", inputs(ROWS))
    result, _ = found.get(timeout=30)
    assert result is not None
    begun = time.monotonic()
    server.stop()
    _, error = found.get(timeout=30)
    assert error.status() == "StatusCode.UNAVAILABLE"
    assert time.monotonic() - begun < server._options.get("drain", 30.0), "it was told, and not cut off"
    client.close()


def test_what_is_no_request_ends_the_stream_by_name(channel: grpc.Channel) -> None:
    raw = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as told:
        list(raw(iter([b"\xff\xff\xff"])))
    assert (told.value.code(), "no ModelInferRequest" in told.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT, True,
    )  # fmt: skip
    assert list(raw(iter([]))) == []


def test_the_model_s_configuration_is_that_of_its_metadata(
    client: triton.InferenceServerClient, server: Supervisor
) -> None:
    by_grpc = client.get_model_config("risk", as_json=True)["config"]
    with contextlib.closing(triton_http.InferenceServerClient(f"127.0.0.1:{server.port}")) as other:
        by_http = other.get_model_config("risk", "3")
    for found in (by_grpc, by_http):
        assert (found["name"], found["backend"], found.get("max_batch_size", 0)) == ("risk", "loopline", 0)
        kinds = {
            one["name"]: (one["data_type"], [*map(int, one["dims"])]) for one in (*found["input"], *found["output"])
        }
        assert kinds["age"] == ("TYPE_FP64", [-1, 1])
        assert (kinds["ward"], kinds["visits"]) == (("TYPE_STRING", [-1, 1]), ("TYPE_INT64", [-1, 1]))
        assert (kinds["probabilities"], kinds["label"]) == (("TYPE_FP32", [-1, 2]), ("TYPE_STRING", [-1]))
    with pytest.raises(InferenceServerException, match="rusk"):
        client.get_model_config("rusk")


def typed(**changes: Any) -> Any:
    """A request with typed contents, as KServe's client sends it."""
    contents = {"FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
    request = service_pb2.ModelInferRequest(model_name="risk")
    for name in EXAMPLE:
        datatype, _ = KINDS.get(name, ("BYTES", None))
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[len(ROWS)])
        values = [math.nan if r[name] is None else r[name].encode() if datatype == "BYTES" else r[name] for r in ROWS]
        getattr(tensor.contents, contents[datatype]).extend(values)
    return request


def test_typed_contents_are_answered_alike(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer = stub.ModelInfer(typed())
    assert not answer.raw_output_contents
    outputs = {o.name: o for o in answer.outputs}
    assert list(outputs["probabilities"].contents.fp32_contents)[1::2] == pytest.approx(YES, rel=1e-4)
    assert [v.decode() for v in outputs["label"].contents.bytes_contents] == LABELS


def test_bad_requests_are_named(
    channel: grpc.Channel, client: triton.InferenceServerClient, server: Supervisor
) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def refused(request: Any) -> tuple[Any, str]:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        return caught.value.code(), caught.value.details()

    def change(which: str, **fields: Any) -> Any:
        request = typed()
        (tensor,) = (t for t in request.inputs if t.name == which)
        for field, value in fields.items():
            if isinstance(value, list):
                del getattr(tensor, field)[:]
                getattr(tensor, field).extend(value)
            else:
                setattr(tensor, field, value)
        return request

    wrong = grpc.StatusCode.INVALID_ARGUMENT
    for request, words in (
        (change("age", name="agee"), "Did you mean 'age'"),
        (change("age", shape=[2]), "the data is not that"),
        (change("age", shape=[-3]), "expected shape"),
        (change("age", shape=[]), "expected shape"),
        (change("age", shape=[3, 2]), "expected shape"),
        (change("age", datatype="FP61"), "datatype"),
        (change("age", datatype="FP16"), "raw_input_contents"),
        (change("age", datatype="INT64"), "the data is not that"),
        (change("ward", name="age"), "given twice"),
        (service_pb2.ModelInferRequest(model_name="risk"), "0 rows"),
    ):
        code, text = refused(request)
        assert (code, words in text) == (wrong, True), text
    request = typed()
    request.inputs[-1].contents.bytes_contents[0] = b"\xff"
    assert "not UTF-8" in refused(request)[1]
    request = typed()
    request.raw_input_contents.append(b"")
    assert "raw_input_contents has 1" in refused(request)[1]
    request = typed()
    request.outputs.add(name="probability")
    assert "Did you mean 'probabilities'" in refused(request)[1]
    code, text = refused(change("age", shape=[10**9]))
    assert (code, "at most 100" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    code, text = refused(service_pb2.ModelInferRequest(model_name="rusk"))
    assert (code, "Did you mean 'risk'" in text) == (grpc.StatusCode.NOT_FOUND, True)
    code, _ = refused(service_pb2.ModelInferRequest(model_name="risk", model_version="9"))
    assert code == grpc.StatusCode.NOT_FOUND
    code, _ = refused(service_pb2.ModelInferRequest(model_name="risk", id="x" * (2 << 20)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    # A megabyte at most, however small it was packed.
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(
            service_pb2.ModelInferRequest(model_name="risk", id="x" * (20 << 20)), compression=grpc.Compression.Gzip
        )
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for garbage in (b"\xff\xff\xff", b"\x0a\xff"):
        with pytest.raises(grpc.RpcError) as caught:
            infer(garbage)
        assert caught.value.code() == wrong
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert client.is_server_ready()
    counted = re.findall(
        r'^loopline_requests_total\{endpoint="risk",.*status="400"\} (\d+)$', metrics(server), re.MULTILINE
    )
    assert sum(map(int, counted)) == 13


def metrics(server: Supervisor) -> str:
    return call(server.port, "GET", "/metrics").body.decode()


def test_who_may_call(serve: Serve, bundle: Bundle) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    server = serve(table(1, live(bundle())), {"risk": (digest,)}, grpc_port=0)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    far = {"x-forwarded-for": "192.0.2.7"}
    client.infer("risk", inputs(ROWS))
    client.infer("risk", inputs(ROWS), headers={**far, "authorization": "Bearer secret"})
    for headers in (far, {**far, "authorization": "Bearer other"}):
        for ask in (
            lambda headers: client.infer("risk", inputs(ROWS), headers=headers),
            lambda headers: client.get_model_metadata("risk", headers=headers),
            lambda headers: client.get_model_repository_index(headers=headers),
            lambda headers: client.load_model("risk", headers=headers),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask(headers)
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    client.close()


def test_keys_stick_and_callers_are_batched_with_http_s(serve: Serve, bundle: Bundle) -> None:
    first, second = bundle(version=1), bundle(version=2, bias=-9.0)
    server = serve(
        table(1, live(first, 1, BUCKETS // 2), live(second, 2, BUCKETS // 2, "challenger")), grpc_port=0, workers=2
    )
    client = triton.InferenceServerClient(f"localhost:{server.grpc_port}")
    for key in map(str, range(8)):
        by_http = call(server.port, "POST", "/predict/risk", [EXAMPLE], {"x-loopline-route-key": key}).json["variant"]
        answer = client.infer("risk", inputs(ROWS), headers={"x-loopline-route-key": key}).get_response()
        named = client.infer("risk", inputs(ROWS), parameters={"route_key": key}).get_response()
        assert answer.parameters["variant"].string_param == named.parameters["variant"].string_param == by_http
    client.close()


def test_what_was_taken_is_answered_before_the_end(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle())), grpc_port=0)
    ids: list[str] = []
    failed: list[str] = []
    halt = threading.Event()

    def send() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not halt.is_set():
                try:
                    answer = stub.ModelInfer(typed(), timeout=20)
                    ids.extend(answer.parameters["prediction_ids"].string_param.split(","))
                except grpc.RpcError as e:
                    # New calls are refused while the server ends; none that it took is dropped.
                    if e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                        failed.append(str(e))
                    return

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    halt.wait(1.0)
    server.stop()
    halt.set()
    for thread in threads:
        thread.join()
    assert not failed
    records, _ = read_segment(segments(folder / "log")[0])
    assert sorted(r.id for r in records) == sorted(ids)
    assert len(ids) > 30


def test_a_port_that_is_taken_is_named(serve: Serve, bundle: Bundle) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="in use"):
            serve(table(1, live(bundle())), grpc_port=taken.getsockname()[1])


def test_without_grpcio_the_command_to_install_it_is_told(
    serve: Serve, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtra, match=r"pip install 'loopline\[grpc\]'"):
        serve(table(1, live(bundle())), grpc_port=0)


# ---------------------------------------------------------------------- TensorFlow Serving


def numbers(dtype: int, field: str, values: list[Any], shape: list[int] | None = None) -> Any:
    tensor = TENSORFLOW["TensorProto"](dtype=dtype)
    for size in [len(values)] if shape is None else shape:
        tensor.tensor_shape.dim.add(size=size)
    if field == "tensor_content":
        tensor.tensor_content = np.array(values, dtype={1: "<f4", 2: "<f8", 9: "<i8", 10: "?"}[dtype]).tobytes()
    else:
        getattr(tensor, field).extend(values)
    return tensor


def predict_request(packed: bool = False, **spec: Any) -> Any:
    def field(name: str) -> str:
        return "tensor_content" if packed else name

    request = TENSORFLOW["PredictRequest"]()
    request.model_spec.name = spec.get("name", "risk")
    given = {
        "age": numbers(2, field("double_val"), [math.nan if r["age"] is None else r["age"] for r in ROWS]),
        "visits": numbers(9, field("int64_val"), [r["visits"] for r in ROWS], [3, 1]),
        "insured": numbers(10, field("bool_val"), [r["insured"] for r in ROWS]),
        "admitted": numbers(7, "string_val", [r["admitted"].encode() for r in ROWS]),
        "ward": numbers(7, "string_val", [r["ward"].encode() for r in ROWS]),
    }
    for name, tensor in given.items():
        request.inputs[name].CopyFrom(tensor)
    return request


def ask(channel: grpc.Channel, method: str, request: Any, answer: str) -> Any:
    return channel.unary_unary(
        f"/tensorflow.serving.{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=TENSORFLOW[answer].FromString,
    )(request)


@pytest.mark.parametrize("packed", [False, True])
def test_predict(channel: grpc.Channel, server: Supervisor, folder: Path, packed: bool) -> None:
    answer = ask(channel, "PredictionService/Predict", predict_request(packed), "PredictResponse")
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("risk", 3)
    tensor = answer.outputs["probabilities"]
    assert [d.size for d in tensor.tensor_shape.dim] == [3, 2]
    assert list(tensor.float_val)[1::2] == pytest.approx(YES, rel=1e-4)
    assert [v.decode() for v in answer.outputs["label"].string_val] == LABELS
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.row for r in records] == ROWS


def test_predict_by_version_and_label_with_one_output(channel: grpc.Channel) -> None:
    low = [expected(r, -9.0) for r in (EXAMPLE, {**ROWS[1], "admitted": None}, {**ROWS[2], "ward": "unknown"})]
    for field in ("version", "version_label"):
        request = predict_request()
        if field == "version":
            request.model_spec.version.value = 4
        else:
            request.model_spec.version_label = "challenger"
        request.output_filter.append("probabilities")
        request.model_spec.signature_name = "serving_default"
        answer = ask(channel, "PredictionService/Predict", request, "PredictResponse")
        assert [*answer.outputs] == ["probabilities"]
        assert list(answer.outputs["probabilities"].float_val)[1::2] == pytest.approx(low, rel=1e-3)


def test_fewer_values_and_halves(channel: grpc.Channel) -> None:
    request = predict_request()
    request.inputs["insured"].CopyFrom(numbers(10, "bool_val", [True], [3]))
    request.inputs["age"].CopyFrom(numbers(19, "half_val", [int(np.float16(1.5).view(np.uint16))] * 3))
    answer = ask(channel, "PredictionService/Predict", request, "PredictResponse")
    rows = [{**r, "insured": True, "age": 1.5, "admitted": r["admitted"] or None} for r in ROWS]
    assert list(answer.outputs["probabilities"].float_val)[1::2] == pytest.approx([expected(r) for r in rows], rel=1e-4)


def test_status_and_metadata(channel: grpc.Channel) -> None:
    request = TENSORFLOW["GetModelStatusRequest"]()
    request.model_spec.name = "risk"
    answer = ask(channel, "ModelService/GetModelStatus", request, "GetModelStatusResponse")
    assert [(s.version, s.state) for s in answer.model_version_status] == [(3, 30), (4, 30)]
    about = TENSORFLOW["GetModelMetadataRequest"](metadata_field=["signature_def"])
    about.model_spec.name = "risk"
    answer = ask(channel, "PredictionService/GetModelMetadata", about, "GetModelMetadataResponse")
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = TENSORFLOW["SignatureDefMap"].FromString(packed.value).signature_def["serving_default"]
    assert {name: i.dtype for name, i in signature.inputs.items()} == {
        "age": 2, "visits": 9, "insured": 10, "admitted": 7, "ward": 7,
    }  # fmt: skip
    assert [d.size for d in signature.outputs["probabilities"].tensor_shape.dim] == [-1, 2]


def test_bad_predictions_are_named(channel: grpc.Channel) -> None:
    def refused(request: Any) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, "PredictionService/Predict", request, "PredictResponse")
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
        return str(caught.value.details())

    def change(name: str, tensor: Any) -> Any:
        request = predict_request()
        request.inputs[name].CopyFrom(tensor)
        return request

    assert "no endpoint ''" in refused(TENSORFLOW["PredictRequest"]())
    assert "Did you mean 'risk'" in refused(predict_request(name="rusk"))
    assert "'agee' is no input" in refused(change("agee", numbers(2, "double_val", [1.0] * 3)))
    assert "expected shape" in refused(change("age", numbers(2, "double_val", [1.0] * 3, [])))
    assert "datatype" in refused(change("age", numbers(18, "double_val", [1.0] * 3)))
    assert "24 bytes" in refused(change("age", numbers(2, "tensor_content", [1.0] * 2, [3])))
    assert "the data is not that" in refused(change("age", numbers(2, "float_val", [1.0] * 3)))
    assert "not UTF-8" in refused(change("ward", numbers(7, "string_val", [b"\xff"] * 3)))
    request = predict_request()
    request.model_spec.signature_name = "other"
    assert "not found in signature def" in refused(request)
    request = predict_request()
    request.model_spec.version.value = 9
    assert "no version '9'" in refused(request)
    request = predict_request()
    request.output_filter.append("labels")
    assert "Did you mean 'label'" in refused(request)


def test_callers_have_rates_and_deadlines_over_grpc_too(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle()), policy=Policy(rate=0.001, burst=2)), grpc_port=0)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as late:
            stub.ModelInfer(typed(), metadata=(("x-loopline-deadline-ms", "0"),))
        assert late.value.code() == grpc.StatusCode.UNAVAILABLE
        stub.ModelInfer(typed(), timeout=20)
        with pytest.raises(grpc.RpcError) as beyond:
            stub.ModelInfer(typed())
        assert beyond.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_workers_certificate_is_that_of_grpc(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "tls", ["localhost"])
    server = serve(table(1, live(bundle())), grpc_port=0, tls_cert=str(certificate), tls_key=str(key))
    address = f"localhost:{server.grpc_port}"
    with triton.InferenceServerClient(address, ssl=True, root_certificates=str(certificate)) as client:
        assert client.infer("risk", inputs([EXAMPLE])).as_numpy("label").tolist() == [LABELS[0].encode()]
    with triton.InferenceServerClient(address) as plain, pytest.raises(InferenceServerException):
        plain.is_server_live()
