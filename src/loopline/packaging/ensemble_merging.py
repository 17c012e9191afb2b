"""An ensemble as one ONNX graph: its members' graphs with what is made of their answers, where all of them are ONNX.

All members are computed for each row, those of a cascade, too: in one graph that costs less than asking twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, checker, compose, helper, numpy_helper, version_converter

from loopline.errors import Invalid
from loopline.packaging.ensemble import Adjust, Average, Calibrate, Cascade, Ensemble, Member, Node, Vote, needs
from loopline.packaging.ensemble_running import TINY, Columns, place, shapes, weights_of
from loopline.packaging.records import Manifest


def merged(ensemble: Ensemble, manifests: Mapping[str, Manifest], graphs: Mapping[str, Any], takes: Columns) -> Any:
    """One ONNX model of `takes` in, the ensemble's answer out. Raises whatever the converter of versions does, and `Invalid`."""
    return _Merging(ensemble, manifests, graphs, takes).model()


class _Merging:
    def __init__(
        self, ensemble: Ensemble, manifests: Mapping[str, Manifest], graphs: Mapping[str, Any], takes: Columns
    ) -> None:
        self._ensemble = ensemble
        self._manifests = manifests
        self._takes = takes
        self._shapes = shapes(ensemble, manifests)
        self._opset = max(_version(graph) for graph in graphs.values())
        self._graphs = {name: self._lifted(name, graph) for name, graph in graphs.items()}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: dict[str, str] = {}

    def model(self) -> Any:
        for name in self._ensemble.order:
            self._outputs[name] = self._add_node(name, self._ensemble.nodes[name])
        answer = self._ensemble.answer
        classes = self._shapes[answer].classes
        output = "probabilities" if classes else "value"
        self._nodes.append(helper.make_node("Identity", [self._outputs[answer]], [output]))
        inputs = []
        for matrix, kind, columns in (
            ("numbers", TensorProto.FLOAT, self._takes.numbers), ("strings", TensorProto.STRING, self._takes.strings)
        ):  # fmt: skip
            if columns:
                inputs.append(helper.make_tensor_value_info(matrix, kind, ["n", len(columns)]))
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", len(classes) or 1])
        graph = helper.make_graph(self._nodes, "ensemble", inputs, [given], self._constants)
        domains = {"": self._opset}
        for one in self._graphs.values():
            for opset in one.opset_import:
                if opset.domain and domains.setdefault(opset.domain, opset.version) != opset.version:
                    raise Invalid(
                        f"The members want different versions of {opset.domain!r}.",
                        code="not-convertible",
                        operator="opset",
                    )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(domains.items())],
            ir_version=max(one.ir_version for one in self._graphs.values()),
            producer_name="loopline",
        )
        checker.check_model(made)
        return made

    def _lifted(self, name: str, graph: Any) -> Any:
        """A member's graph in the version of operators that all have, with names of its own."""
        if graph.functions:
            raise Invalid(f"The graph of {name!r} has functions.", code="not-convertible", operator="function")
        if _version(graph) < self._opset:
            graph = version_converter.convert_version(graph, self._opset)
        return compose.add_prefix(graph, f"{name}/")

    def _add_node(self, name: str, one: Node) -> str:
        if isinstance(one, Member):
            return self._add_model(name, one)
        wanted = self._shapes[name].classes
        answers = [self._ordered(part, wanted) for part in needs(one)]
        match one:
            case Average():
                return self._combined(answers, weights_of(one))
            case Vote():
                votes = [self._called(part, found, wanted) for part, found in zip(one.vote, answers, strict=True)]
                return self._combined(votes, weights_of(one))
            case Cascade():
                return self._cascade(answers, one.sure, len(wanted))
            case Calibrate():
                return self._calibrated(answers[0], one, len(wanted))
            case Adjust():
                return self._adjusted(answers[0], one)

    def _add_model(self, name: str, one: Member) -> str:
        said, graph = self._manifests[name], self._graphs[name].graph
        given = {value.name for value in graph.input}
        if said.numbers and f"{name}/numbers" in given:
            parts = []
            for column in said.numbers:
                if column in one.takes:
                    source, at = place(self._ensemble.name, one.takes[column], self._shapes)
                    parts.append(self._column(self._outputs[source], at))
                else:
                    parts.append(self._column("numbers", self._takes.numbers.index(column)))
            self._op("Concat", parts, output=f"{name}/numbers", axis=1)
        if said.strings and f"{name}/strings" in given:
            places = self._constant([self._takes.strings.index(column) for column in said.strings], np.int64)
            self._op("Gather", ["strings", places], output=f"{name}/strings", axis=1)
        self._nodes.extend(graph.node)
        self._constants.extend(graph.initializer)
        return str(graph.output[0].name)

    def _ordered(self, part: str, wanted: Sequence[str]) -> str:
        own = self._shapes[part].classes
        if tuple(own) == tuple(wanted):
            return self._outputs[part]
        places = self._constant([own.index(label) for label in wanted], np.int64)
        return self._op("Gather", [self._outputs[part], places], axis=1)

    def _combined(self, answers: Sequence[str], weights: Sequence[float]) -> str:
        parts = [
            self._op("Mul", [found, self._constant(weight)]) for found, weight in zip(answers, weights, strict=True)
        ]
        return self._op("Sum", parts)

    def _called(self, part: str, found: str, wanted: Sequence[str]) -> str:
        if len(wanted) == 2:
            own = self._shapes[part]
            reverse = own.classes[1] != wanted[1]
            threshold = float(np.nextafter(1 - own.threshold, 2)) if reverse else own.threshold
            precise = self._op("Cast", [self._column(found, 1)], to=TensorProto.DOUBLE)
            second = self._op("GreaterOrEqual", [precise, self._constant(threshold, np.float64)])
            second = self._op("Cast", [second], to=TensorProto.FLOAT)
            return self._op("Concat", [self._op("Sub", [self._constant(1.0), second]), second], axis=1)
        best = self._op("ArgMax", [found], axis=1, keepdims=0)
        width = self._constant(len(wanted), np.int64)
        return self._op("OneHot", [best, width, self._constant([0.0, 1.0])], axis=-1)

    def _cascade(self, answers: Sequence[str], sure: float, width: int) -> str:
        found = answers[-1]
        for first in reversed(answers[:-1]):
            surest = self._op("Max", [self._column(first, at) for at in range(width)])
            unsure = self._op("Less", [surest, self._constant(sure)])
            found = self._op("Where", [unsure, found, first])
        return found

    def _calibrated(self, found: str, one: Calibrate, width: int) -> str:
        logs = self._op("Log", [self._op("Max", [found, self._constant(TINY)])])
        logs = self._op("Mul", [logs, self._constant(one.slope)])
        if width == 2:
            logs = self._op("Add", [logs, self._constant([0.0, one.intercept])])
        return self._op("Softmax", [logs], axis=1)

    def _adjusted(self, found: str, one: Adjust) -> str:
        found = self._op("Mul", [found, self._constant(one.factor)])
        found = self._op("Add", [found, self._constant(one.offset)])
        if one.lowest is not None:
            found = self._op("Max", [found, self._constant(one.lowest)])
        return found if one.highest is None else self._op("Min", [found, self._constant(one.highest)])

    def _column(self, matrix: str, at: int) -> str:
        return self._op("Gather", [matrix, self._constant([at], np.int64)], axis=1)

    def _op(self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        name = output or f"/{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _constant(self, value: Any, kind: Any = np.float32) -> str:
        name = f"/constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name


def _version(graph: Any) -> int:
    return max((one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")), default=1)
