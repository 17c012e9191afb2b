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

    A converter makes one input a column; each is cut from its matrix. Raises `Invalid` (code `not-convertible`) for a graph of
    another shape.
    """
    graph = model.graph
    texts = [field.name for field in signature.inputs if field.kind in STRING_KINDS]
    floats = [field.name for field in signature.inputs if field.kind not in STRING_KINDS]
    given = [one.name for one in graph.input]
    if given != ["numbers"]:
        nodes = []
        for matrix, names in (("numbers", floats), ("strings", texts)):
            for place, name in enumerate(names):
                if name not in given:
                    raise _refused(f"it does not take {name!r}")
                index = f"loopline_{matrix}_{place}"
                graph.initializer.append(numpy_helper.from_array(np.array([place], np.int64), index))
                nodes.append(helper.make_node("Gather", [matrix, index], [name], axis=1))
        kept = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes, *kept])
        del graph.input[:]
        for matrix, kind, names in (("numbers", TensorProto.FLOAT, floats), ("strings", TensorProto.STRING, texts)):
            if names:
                graph.input.append(helper.make_tensor_value_info(matrix, kind, ["n", len(names)]))
    width = 1 if signature.task == "regression" else len(signature.classes)
    name = "value" if signature.task == "regression" else "probabilities"
    if not graph.output or graph.output[-1].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise _refused("it gives no floats")
    last = graph.output[-1].name
    if last != name:
        graph.node.append(helper.make_node("Identity", [last], [name]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))
    if all(one.domain for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    checker.check_model(model)
    return model


def _refused(why: str) -> Invalid:
    return Invalid(f"The converted graph cannot be served: {why}.", code="not-convertible", operator="graph")
