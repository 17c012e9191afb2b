"""A converter's ONNX graph with the two inputs that serving has: `numbers` and `strings`, and its one output by our name."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from loopline.errors import Invalid
from loopline.features.boundary import STRING_KINDS
from loopline.features.records import Signature
from loopline.packaging.graph import OPSET


def with_two_inputs(model: Any, signature: Signature) -> Any:
    """The graph with `numbers` float32 [n, a] and `strings` [n, b] in, `probabilities` [n, k] or `value` [n, 1] out, nothing else.

    A converter makes one input a column, or the matrix `numbers`; each column is cut from its matrix, as the type and rank that the
    graph takes. One output of two classes is the probability of the second. Raises `Invalid` (code `not-convertible`) for a graph
    of another shape.
    """
    graph = model.graph
    if [one.name for one in graph.input] != ["numbers"]:
        _cut_columns(graph, signature)
    if not graph.output or graph.output[-1].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise _refused("it gives no floats")
    shape = graph.output[-1].type.tensor_type.shape.dim
    last = graph.output[-1].name
    width = 1 if signature.task == "regression" else len(signature.classes)
    name = "value" if signature.task == "regression" else "probabilities"
    if len(shape) == 1:
        last = _add(graph, "Reshape", [last, _constant(graph, "column", np.array([-1, 1]))])
    if signature.task == "binary" and shape and (len(shape) == 1 or shape[-1].dim_value == 1):
        other = _add(graph, "Sub", [_constant(graph, "one", np.array(1, np.float32)), last])
        last = _add(graph, "Concat", [other, last], axis=1)
    if last != name:
        graph.node.append(helper.make_node("Identity", [last], [name]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))
    if all(one.domain for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    checker.check_model(model)
    return model


def _cut_columns(graph: Any, signature: Signature) -> None:
    """Puts the two matrices in the place of a graph's columns."""
    texts = [field.name for field in signature.inputs if field.kind in STRING_KINDS]
    floats = [field.name for field in signature.inputs if field.kind not in STRING_KINDS]
    given = {one.name: one.type.tensor_type for one in graph.input}
    kept = list(graph.node)
    del graph.node[:]
    for matrix, names in (("numbers", floats), ("strings", texts)):
        for place, name in enumerate(names):
            if name not in given:
                raise _refused(f"it does not take {name!r}")
            index = _constant(graph, f"{matrix}_{place}", np.array([place]))
            column, kind = _add(graph, "Gather", [matrix, index], axis=1), given[name].elem_type
            if kind not in (TensorProto.FLOAT, TensorProto.STRING):
                column = _add(graph, "Cast", [column], to=kind)
            if len(given[name].shape.dim) == 1:
                column = _add(graph, "Reshape", [column, _constant(graph, f"flat_{matrix}_{place}", np.array([-1]))])
            graph.node.append(helper.make_node("Identity", [column], [name]))
    graph.node.extend(kept)
    del graph.input[:]
    for matrix, kind, names in (("numbers", TensorProto.FLOAT, floats), ("strings", TensorProto.STRING, texts)):
        if names:
            graph.input.append(helper.make_tensor_value_info(matrix, kind, ["n", len(names)]))


def _add(graph: Any, operator: str, inputs: list[str], **attributes: Any) -> str:
    output = f"loopline_{operator.lower()}_{len(graph.node)}"
    graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
    return output


def _constant(graph: Any, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(value, f"loopline_{name}"))
    return f"loopline_{name}"


def _refused(why: str) -> Invalid:
    return Invalid(f"The converted graph cannot be served: {why}.", code="not-convertible", operator="graph")
