"""A model that is an ONNX graph already, whatever made it: looked through, and brought to where `joined` goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopline.errors import Invalid, Refused
from loopline.features.records import Signature
from loopline.packaging.external import points_outside
from loopline.registry.formats import check_file

_HINT = (
    "It takes one float matrix [n, columns], or one input a column by its name, and gives probabilities or values last."
)


def read_graph(path: Path, signature: Signature) -> Any:
    """The graph of an `.onnx` file, its matrix of numbers named `numbers`, its last output a tensor.

    scikit-learn's converters end a classifier with maps of class and probability (ZipMap): they are taken off. Raises `Invalid`,
    and `Refused` for a graph that points at data outside of itself.
    """
    import onnx
    from google.protobuf.message import DecodeError

    data = path.read_bytes()
    check_file(path, path.name)
    try:
        if points_outside(data):
            raise Refused(
                f"{path} points at data outside itself.",
                code="bundle-external-data",
                hint="Save it whole: onnx.save(onnx.load(path), other), without external data.",
            )
        model = onnx.load_from_string(data)
    except (Invalid, DecodeError) as e:
        raise Invalid(f"{path} is no ONNX graph.", code="bad-model", hint="Is it whole?") from e
    constants = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    columns = [field.name for field in signature.inputs]
    if len(inputs) == 1 and len(inputs[0].type.tensor_type.shape.dim) == 2 and [inputs[0].name] != columns:
        _name_matrix(model.graph, len(columns))
    elif sorted(one.name for one in inputs) != sorted(columns):
        raise Invalid(
            f"The graph takes {[one.name for one in inputs][:20]}, and the rows have {columns[:20]}.",
            code="other-columns",
            hint=_HINT,
        )
    _without_maps(model.graph)
    return model


def broken(path: Path, error: Exception) -> Invalid:
    """The refusal of a graph that cannot be served; `error` is what was said of it."""
    return Invalid(f"{path} cannot be served: {' '.join(str(error).split())[:400]}.", code="bad-model", hint=_HINT)


def _name_matrix(graph: Any, columns: int) -> None:
    """Has the only input be the float32 matrix `numbers`, of any number of rows. Raises `Invalid` for another width."""
    from onnx import TensorProto, helper

    (given,) = graph.input
    kind, width = given.type.tensor_type.elem_type, given.type.tensor_type.shape.dim[1].dim_value
    if width and width != columns:
        raise Invalid(
            f"The graph takes {width} columns, and the rows have {columns}.",
            code="other-columns",
            hint="Give rows of just the columns that it takes, in their order, and the label.",
        )
    if given.name != "numbers":
        node = (
            helper.make_node("Identity", ["numbers"], [given.name])
            if kind == TensorProto.FLOAT
            else helper.make_node("Cast", ["numbers"], [given.name], to=kind)
        )
        graph.node.insert(0, node)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", columns]))


def _without_maps(graph: Any) -> None:
    from onnx import TensorProto, helper

    last = graph.output[-1].name if graph.output else ""
    node = next((node for node in graph.node if node.op_type == "ZipMap" and last in node.output), None)
    if node is not None:
        graph.node.remove(node)
        graph.output[-1].CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, ["n", None]))
