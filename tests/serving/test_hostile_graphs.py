"""ONNX files that are no honest model: each is refused by name, and the server that was asked to load it answers on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from loopline.errors import LooplineError
from loopline.hashing import digest_bytes
from loopline.packaging.records import Opening
from loopline.serving.model import load
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, expected, graph, live, table

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]


def custom_operator() -> bytes:
    model = graph("binary", 0.0)
    model.graph.node[0].domain = "com.example.custom"
    model.opset_import.append(helper.make_opsetid("com.example.custom", 1))
    return model.SerializeToString()


def huge_claim() -> bytes:
    model = graph("binary", 0.0)
    claim = next(one for one in model.graph.initializer if one.name == "weights")
    del claim.dims[:]
    claim.dims.extend([1 << 31, 1 << 31])
    return model.SerializeToString()


def huge_output() -> bytes:
    """A constant of terabytes, out of a few bytes."""
    model = graph("binary", 0.0)
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "far")
    model.graph.initializer.append(shape)
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["far"], ["wide"]),
            helper.make_node("ReduceSum", ["wide"], ["one_more"], keepdims=0),
            helper.make_node("Add", ["one_more", "probabilities"], ["more"]),
        ]
    )
    model.graph.output[0].name = "more"
    return model.SerializeToString()


def looping(turns: str) -> bytes:
    """The honest model, whose answer goes round in a loop for as many turns as a tensor of the graph says ("": without an end)."""
    model = graph("binary", 0.0)
    info = helper.make_tensor_value_info
    probabilities = [info(name, TensorProto.FLOAT, [None, 2]) for name in ("in", "out")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Identity", ["in"], ["out"])],
        "body",
        [info("turn", TensorProto.INT64, []), info("on", TensorProto.BOOL, []), probabilities[0]],
        [info("still", TensorProto.BOOL, []), probabilities[1]],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    nodes = [helper.make_node("Loop", [turns, "yes", "probabilities"], ["gone_round"], body=body)]
    if turns:  # the number of visits that the row says
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1]), "second"))
        nodes = [
            helper.make_node("Gather", ["filled", "second"], ["two"], axis=1),
            helper.make_node("ReduceMax", ["two"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], [turns], to=TensorProto.INT64),
            *nodes,
        ]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "gone_round"
    onnx.checker.check_model(model)
    return model.SerializeToString()


def negative_dimension() -> bytes:
    model = graph("binary", 0.0)
    next(one for one in model.graph.initializer if one.name == "weights").dims[0] = -5
    return model.SerializeToString()


def deep() -> bytes:
    """Graphs in attributes of nodes of graphs, far deeper than any model; protobuf itself does not write that."""

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    inner = b""
    for _ in range(5_000):
        inner = field(1, field(5, field(6, inner)))  # a graph's node, its attribute, that one's graph
    return graph("binary", 0.0).SerializeToString() + field(7, inner)


def outside() -> bytes:
    model = graph("binary", 0.0)
    weights = next(one for one in model.graph.initializer if one.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../../../etc/passwd"), ("length", "80")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a custom operator": custom_operator,
    "a tensor of exabytes": huge_claim,
    "an output of terabytes": huge_output,
    "a negative dimension": negative_dimension,
    "graphs 5,000 deep": deep,
    "data outside": outside,
    "a pickle": lambda: pickle.dumps({"a": 1}),
    "an old pickle": lambda: pickle.dumps(print, 0),
    "nothing": lambda: b"",
    "zeros": lambda: b"\0" * 1000,
}


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    return serve(table(1, live(bundle())))


def listed(folder: Path, data: bytes) -> None:
    """Puts a graph into a bundle; whoever made it lists it as it should be."""
    (folder / "model.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["digests"]["model.onnx"] = digest_bytes(data)
    manifest["outputs"] = [onnx.load_from_string(data).graph.output[0].name]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_graph_without_an_end_is_refused_and_one_that_a_row_keeps_busy_is_ended(serve: Serve, bundle: Bundle) -> None:
    opening = Opening(timeout=1.0)
    server = serve(table(1, live(bundle())), opening=opening)
    endless, busy = bundle(version=2), bundle(version=3)
    listed(endless, looping(""))
    with pytest.raises(LooplineError, match="no answer in 1 s") as told:
        server.push(table(2, live(endless, 2)))
    assert told.value.code == "bad-bundle"
    with pytest.raises(LooplineError, match="no answer in 1 s"):  # nor in the process that decides
        load(endless, opening)
    listed(busy, looping("turns"))
    server.push(table(3, live(busy, 3)))
    answer = call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "age": 1e18}])
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "model-slow", "1")
    assert call(server.port, "GET", "/v2/health/live").status == 200
    answer = call(server.port, "POST", "/predict/risk", [EXAMPLE])
    assert answer.json["predictions"][0]["probabilities"]["yes"] == pytest.approx(expected(EXAMPLE), rel=1e-4)
    assert server.restarts == 0


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused_and_the_server_answers_on(server: Supervisor, bundle: Bundle, what: str) -> None:
    made = bundle(version=2)
    data = HOSTILE[what]()
    (made / "model.onnx").write_bytes(data)
    manifest = json.loads((made / "manifest.json").read_bytes())
    manifest["digests"]["model.onnx"] = digest_bytes(data)  # whoever made it lists it as it should be
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LooplineError) as told:
        server.push(table(2, live(made, 2)))
    assert told.value.branch in ("invalid", "refused")
    assert "model.onnx" in told.value.message or str(made) in told.value.message
    assert server.restarts == 0
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).json["version"] == 1
