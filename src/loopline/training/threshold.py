"""The probability from which on a row is called positive, chosen on validation rows."""

from __future__ import annotations

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.training.estimators import Doubles


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What errors cost: a false alarm, and a positive that was missed, in any one unit."""

    false_positive: float
    false_negative: float


def choose_threshold(probabilities: Doubles, labels: Doubles, *, cost: Cost | None = None) -> float:
    """The threshold with the greatest F1, or with the least cost where one is declared.

    It lies half-way between two neighbouring probabilities, so that few rows are near it; of equals, the highest. Labels are
    0/1. Raises `Invalid` where they are all the same.
    """
    if labels.min() == labels.max():
        raise Invalid("The validation rows are all of one class: no threshold can be chosen.", code="constant-label")
    order = np.argsort(-probabilities, kind="stable")
    ranked, positive = probabilities[order], labels[order]
    hits = np.cumsum(positive)
    called = np.arange(1, len(ranked) + 1)
    if cost is None:
        worth = 2 * hits / (called + positive.sum())
    else:
        worth = -(cost.false_positive * (called - hits) + cost.false_negative * (positive.sum() - hits))
    # A cut is possible only where the next probability is another one (as 32-bit floats, which is what is served).
    narrow = ranked.astype(np.float32)
    cuts = np.append(narrow[1:] != narrow[:-1], True)
    best = int(np.argmax(np.where(cuts, worth, -np.inf)))
    if cost is not None and worth[best] < -cost.false_negative * positive.sum():
        return 1.0  # calling nobody positive is cheapest
    below = float(ranked[best + 1]) if best + 1 < len(ranked) else 0.0
    return (float(ranked[best]) + below) / 2
