"""A Model as one ONNX graph, preprocessing included."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopline.packaging.graph import Graph
from loopline.packaging.preprocessing import category_means, category_scores, numeric_features
from loopline.packaging.trees import add_trees
from loopline.training.estimators import Boosted, Linear
from loopline.training.model import Model


def to_onnx(model: Model) -> Any:
    """An onnx.ModelProto: `numbers` float32 [n, a] and `strings` [n, b] -> `probabilities` [n, k] or `value` [n, 1], float32.

    Columns stand in the order of the signature's fields; either input is left out where the model has no such column. Raises
    `Invalid` (code `not-convertible`, the operator in its details) for what ONNX cannot say.
    """
    transform = model.transform
    graph = Graph(len(transform.number_fields), len(transform.string_fields))
    if isinstance(model.estimator, Boosted):
        raw, columns = _boosted(graph, model, model.estimator)
    else:
        raw, columns = _linear(graph, model, model.estimator)
    if model.task == "regression":
        return graph.model(graph.add("Identity", [raw], output="value"), 1)
    if model.task == "multiclass":
        return graph.model(graph.add("Softmax", [raw], output="probabilities", axis=1), columns)
    positive = graph.add("Sigmoid", [raw])
    negative = graph.add("Sub", [graph.constant(1.0), positive])
    return graph.model(graph.add("Concat", [negative, positive], output="probabilities", axis=1), 2)


def _boosted(graph: Graph, model: Model, estimator: Boosted) -> tuple[str, int]:
    numeric = numeric_features(graph, model.transform)
    means = category_means(graph, model.transform)
    features = graph.join([name for name in (numeric, means) if name is not None])
    return add_trees(graph, features, estimator.text)


def _linear(graph: Graph, model: Model, estimator: Linear) -> tuple[str, int]:
    weights = estimator.coefficients.T.astype(np.float32)  # [features, k]
    numeric = numeric_features(graph, model.transform)
    first = sum(1 + number.indicator for number in model.transform.plan.numbers)
    scores = []
    if numeric is not None:
        scores.append(graph.add("MatMul", [numeric, graph.constant(weights[:first])]))
    categorical = category_scores(graph, model.transform, weights[first:])
    if categorical is not None:
        scores.append(categorical)
    total = scores[0] if len(scores) == 1 else graph.add("Add", scores)
    return graph.add("Add", [total, graph.constant(estimator.intercepts.astype(np.float32)[None, :])]), weights.shape[1]
