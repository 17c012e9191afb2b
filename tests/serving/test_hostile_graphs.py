"""ONNX files that are no honest model: each is refused by name, and the server that was asked to load it answers on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from loopline.errors import LooplineError
from loopline.hashing import digest_bytes
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, graph, live, table

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
