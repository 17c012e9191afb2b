"""What the models said to one call, put together over its shares: for the protocols that answer with more than plain rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopline.serving import oip
from loopline.serving.call import Call, Headers
from loopline.serving.problems import Problem


class Outcome:
    """The rows' outputs in the order of the request.

    `values` has one list a row: the probabilities in the order of `first.labels`, or the one value of a regression. `labels` are
    the decided classes ("" for a regression), `variants` and `models` who answered each row; `first` is the variant that others
    follow in form.
    """

    def __init__(self, call: Call) -> None:
        assert call.rows is not None
        shares = call.shares
        self.first = first = shares[0].variant
        self._prefix, self._start = call.request[:-8], call.first
        self.count = count = len(call.rows.rows)
        self.mixed = len(shares) > 1
        if not self.mixed:
            self.values = shares[0].output
            self.labels = [first.label(output) for output in self.values]
            self.variants = [first.name] * count
            self.models = [first.model] * count
            return
        self.values = [[]] * count
        self.labels, self.variants, self.models = [""] * count, [""] * count, [""] * count
        for share in shares:
            variant = share.variant
            order = None if variant.labels == first.labels else [variant.labels.index(c) for c in first.labels]
            for n, output in zip(share.at or (), share.output, strict=True):
                self.values[n] = output if order is None else [output[i] for i in order]
                self.labels[n], self.variants[n], self.models[n] = variant.label(output), variant.name, variant.model

    def ids(self) -> list[str]:
        """The predictions' ids, as the log has them."""
        return [f"{self._prefix}{n:08x}" for n in range(self._start, self._start + self.count)]

    def predictions(self) -> list[Any]:
        """What `predict` of a model gives: labels, or the values of a regression."""
        return [value for (value,) in self.values] if self.first.task == "regression" else self.labels

    def objects(self) -> list[dict[str, Any]]:
        """One object a row that stands for itself: id, label and probabilities, or value, and who answered."""
        found: list[dict[str, Any]] = []
        for n, id in enumerate(self.ids()):
            one: dict[str, Any] = {"id": id}
            if self.first.task == "regression":
                (one["value"],) = self.values[n]
            else:
                chances = dict(zip(self.first.labels, self.values[n], strict=True))
                one |= {"label": self.labels[n], "probability": chances[self.labels[n]], "probabilities": chances}
            found.append(one | {"model": self.models[n], "variant": self.variants[n]})
        return found

    def about(self) -> dict[str, Any]:
        """Who answered, and the predictions' ids: what other protocols have no field for."""
        first = self.first
        found: dict[str, Any] = {
            "model": first.model, "version": first.version, "variant": first.name, **first.decision, "ids": self.ids(),
        }  # fmt: skip
        if self.mixed:
            found["variants"] = self.variants
        return found


def tensors(call: Call, explanations: list[Any] | None = None, problem: Problem | None = None) -> tuple[bytes, Headers]:
    """The Open Inference Protocol's answer over REST, with the explanations of its rows, or why there are none.

    Raises `Problem` for an output that there is not.
    """
    assert call.endpoint is not None
    assert call.asked is not None
    outcome = Outcome(call)
    first = outcome.first
    parameters: dict[str, Any] = {
        "model": first.model,
        "model_version": first.version,
        "variant": first.name,
        **first.decision,
        "prediction_ids": ",".join(outcome.ids()),
    }
    if outcome.mixed:
        parameters["variants"] = ",".join(outcome.variants)
    if problem is not None:
        parameters["explanation_error"] = str(problem.error)
    values = np.array(outcome.values, dtype=np.float32)
    body, length = oip.encode(
        call.asked,
        call.endpoint.name,
        first.version,
        first.signature,
        values,
        outcome.labels,
        parameters,
        explanations,
    )
    if length is None:
        return body, ()
    return body, (
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(length).encode()),
    )
