"""LightGBM's trees as one ONNX TreeEnsembleRegressor, built from the model text so that each decision falls the same way.

A float32 feature is at or below a 64-bit threshold exactly where it is at or below that threshold rounded down to 32 bits.
LightGBM sends a missing value by the node's own rule (`NumericalDecision` in its tree.h): that rule is carried over node by node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from loopline.errors import Invalid
from loopline.packaging.graph import ML, Graph

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2
_ZERO = np.float32(1e-35)


@dataclass
class _Nodes:
    trees: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    leaf_trees: list[int] = field(default_factory=list)
    leaf_nodes: list[int] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)


def add_trees(graph: Graph, features: str, text: str) -> tuple[str, int]:
    """Add a LightGBM model to the graph: (raw scores [n, k], k). Raises `Invalid` (code `not-convertible`) for what ONNX lacks."""
    head, *trees = text.split("\nTree=")
    targets = int(_values(head)["num_tree_per_iteration"])
    nodes = _Nodes()
    for number, tree in enumerate(trees):
        _add_tree(nodes, number, number % targets, _values(tree.split("\nend of trees")[0]))
    output = graph.add(
        "TreeEnsembleRegressor",
        [features],
        domain=ML,
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=nodes.trees,
        nodes_nodeids=nodes.ids,
        nodes_featureids=nodes.features,
        nodes_modes=nodes.modes,
        nodes_values=nodes.values,
        nodes_truenodeids=nodes.yes,
        nodes_falsenodeids=nodes.no,
        nodes_missing_value_tracks_true=nodes.missing,
        target_treeids=nodes.leaf_trees,
        target_nodeids=nodes.leaf_nodes,
        target_ids=nodes.leaf_targets,
        target_weights=nodes.leaf_weights,
    )
    return output, targets


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _add_tree(nodes: _Nodes, tree: int, target: int, values: dict[str, str]) -> None:
    if values.get("is_linear", "0") != "0":
        raise _refuse("linear trees")
    splits = int(values["num_leaves"]) - 1
    leaves = [float(v) for v in values["leaf_value"].split()]
    if splits:
        features = [int(v) for v in values["split_feature"].split()]
        thresholds = _rounded_down(np.array([float(v) for v in values["threshold"].split()]))
        kinds = [int(v) for v in values["decision_type"].split()]
        left = [int(v) for v in values["left_child"].split()]
        right = [int(v) for v in values["right_child"].split()]
        for node in range(splits):
            kind, threshold = kinds[node], float(thresholds[node])
            if kind & _CATEGORICAL:
                raise _refuse("categorical splits")
            missing = kind >> 2 & 3
            if missing == _MISSING_ZERO:
                raise _refuse("zero as missing")
            # Where training saw nothing missing, LightGBM takes a missing value as 0.
            yes = bool(kind & _DEFAULT_LEFT) if missing == _MISSING_NAN else threshold >= 0
            _add_node(nodes, tree, node, features[node], "BRANCH_LEQ", threshold, yes)
            nodes.yes.append(left[node] if left[node] >= 0 else splits + ~left[node])
            nodes.no.append(right[node] if right[node] >= 0 else splits + ~right[node])
    for leaf, weight in enumerate(leaves):
        _add_node(nodes, tree, splits + leaf, 0, "LEAF", 0.0, False)
        nodes.yes.append(0)
        nodes.no.append(0)
        nodes.leaf_trees.append(tree)
        nodes.leaf_nodes.append(splits + leaf)
        nodes.leaf_targets.append(target)
        nodes.leaf_weights.append(weight)


def _add_node(nodes: _Nodes, tree: int, node: int, feature: int, mode: str, value: float, missing: bool) -> None:
    nodes.trees.append(tree)
    nodes.ids.append(node)
    nodes.features.append(feature)
    nodes.modes.append(mode)
    nodes.values.append(value)
    nodes.missing.append(int(missing))


def _rounded_down(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    narrow = np.where(narrow > values, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    # LightGBM reads a feature within 1e-35 of zero as zero.
    narrow = np.where((narrow >= -_ZERO) & (narrow < 0), np.nextafter(-_ZERO, np.float32(-1)), narrow)
    return np.where((narrow >= 0) & (narrow < _ZERO), _ZERO, narrow)


def _refuse(what: str) -> Invalid:
    return Invalid(
        f"LightGBM's {what} have no form in ONNX's TreeEnsembleRegressor.",
        code="not-convertible",
        hint="The model is served in its native form.",
        operator="TreeEnsembleRegressor",
    )
