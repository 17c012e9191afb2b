"""A small builder of ONNX graphs: nodes and initialisers by name, one operator at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# What onnxruntime 1.13 and every later runtime reads.
OPSET = 15
ML_OPSET = 3
IR_VERSION = 8
ML = "ai.onnx.ml"


class Graph:
    """Nodes are added in order; each `add` gives the name of its output."""

    def __init__(self, numbers: int, strings: int) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        if numbers:
            self._inputs.append(helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", numbers]))
        if strings:
            self._inputs.append(helper.make_tensor_value_info("strings", TensorProto.STRING, ["n", strings]))

    def add(
        self, operator: str, inputs: Sequence[str], *, domain: str = "", output: str | None = None, **attributes: Any
    ) -> str:
        """One node with one output."""
        name = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, values: npt.ArrayLike, kind: Any = np.float32) -> str:
        """An initialiser."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def take(self, table: str, places: Iterable[int]) -> str:
        """Columns of a matrix, by their places."""
        return self.add("Gather", [table, self.constant(list(places), np.int64)], axis=1)

    def cast(self, name: str, kind: int) -> str:
        """The values as another type."""
        return self.add("Cast", [name], to=kind)

    def join(self, names: Sequence[str]) -> str:
        """Matrices side by side."""
        return names[0] if len(names) == 1 else self.add("Concat", names, axis=1)

    def model(self, output: str, columns: int) -> Any:
        """The whole as a checked ONNX model; without the producer's version or a date, so that equal graphs are equal bytes."""
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", columns])
        graph = helper.make_graph(self._nodes, "model", self._inputs, [given], self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="loopline")
        onnx.checker.check_model(model, full_check=True)
        return model
