"""LightGBM's trees in the library's own text form: scored as they are, and as an ONNX graph.

https://lightgbm.readthedocs.io/en/stable/pythonapi/lightgbm.Booster.html#lightgbm.Booster.save_model; pickles of it are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid
from loopline.features.records import Signature
from loopline.packaging.frames import check_numbers
from loopline.packaging.manifest import file_of
from loopline.ports.runtime import Floats, Score, Strings

_PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
_POSITIVE = ("poisson", "gamma", "tweedie")


def read_trees(path: Path) -> Any:
    """The booster of a text file. Raises `Invalid`."""
    from loopline.training.threads import lightgbm

    hint = "Save it as text: booster.save_model('model.txt'); of an estimator it is estimator.booster_."
    try:
        text = path.read_text()
        if not text.startswith("tree\n"):
            raise ValueError("it does not begin as its text form does")
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError, OSError) as e:
        raise Invalid(f"{path} is no model of LightGBM: {str(e)[:200]}.", code="bad-model", hint=hint) from e


def check_trees(booster: Any, signature: Signature) -> None:
    """Raises `Invalid` where these columns are not what the trees take."""
    check_numbers(signature, "LightGBM")
    names = [field.name for field in signature.inputs]
    takes = booster.feature_name()
    unnamed = takes == [f"Column_{n}" for n in range(len(takes))]
    if len(takes) != len(names) or not (unnamed or takes == [name.replace(" ", "_") for name in names]):
        raise Invalid(
            f"The trees take {len(takes)} columns, {takes[:20]}, and the rows have {names[:20]}.",
            code="other-columns",
            hint="Give rows of just the columns that it was trained on, by their names, in their order, and the label.",
        )


def native(booster: Any) -> Score:
    """The booster's own scores."""

    def score(numbers: Floats, strings: Strings) -> Any:
        return booster.predict(numbers.astype(np.float64), num_threads=1)

    return score


def contributions(booster: Any, numbers: Floats) -> Any:
    """What each column added to the raw scores, with the base behind them: [n, scores * (columns + 1)]; exact Shapley values."""
    return booster.predict(numbers.astype(np.float64), pred_contrib=True, num_threads=1)


def open_trees(folder: Path) -> Score:
    """The form of a bundle."""
    return native(read_trees(folder / file_of("lightgbm")))


def graph_of(booster: Any) -> Any:
    """The ONNX graph of a booster: `numbers` in. Raises `Invalid` (code `not-convertible`) for what has none."""
    from loopline.packaging.graph import Graph
    from loopline.packaging.trees import add_trees

    text = booster.model_to_string()
    head = text.split("\nTree=")[0].splitlines()
    objective, *said = next((line[10:].split() for line in head if line.startswith("objective=")), [""])
    if "average_output" in head:
        raise _refused("trees whose outputs are averaged")
    graph = Graph(booster.num_feature(), 0)
    raw, width = add_trees(graph, "numbers", text)
    if objective == "binary" and said == ["sigmoid:1"]:
        positive = graph.add("Sigmoid", [raw])
        negative = graph.add("Sub", [graph.constant(1.0), positive])
        return graph.model(graph.add("Concat", [negative, positive], output="probabilities", axis=1), 2)
    if objective == "multiclass":
        return graph.model(graph.add("Softmax", [raw], output="probabilities", axis=1), width)
    if objective in _PLAIN and not said:
        return graph.model(graph.add("Identity", [raw], output="value"), 1)
    if objective in _POSITIVE:
        return graph.model(graph.add("Exp", [raw], output="value"), 1)
    raise _refused(f"objective {' '.join((objective, *said))!r}")


def _refused(what: str) -> Invalid:
    return Invalid(
        f"LightGBM's {what} have no ONNX form here.",
        code="not-convertible",
        hint="The model is served in its native form.",
        operator=what,
    )
