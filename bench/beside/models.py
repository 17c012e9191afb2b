"""The models that the servers of bench/serving.py serve: the same for each, of 20 numbers, fitted by scikit-learn.

    python models.py KIND FILE

keeps one for a server that reads pickles, in that server's own environment. Needs numpy, scikit-learn and joblib alone.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

WIDTH = 20
NAMES = [f"x{n:02d}" for n in range(WIDTH)]
KINDS = ("logistic", "boosting", "neural")


def fitted(kind: str) -> Any:
    """A classifier of two classes: logistic regression, 100 boosted trees of depth 3, or a net of 64 and 32 units."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(1)
    x = rng.normal(size=(2_000, WIDTH)).astype(np.float32)
    y = (x @ rng.normal(size=WIDTH) + rng.normal(size=2_000) > 0).astype(np.int64)
    models = {
        "logistic": LogisticRegression(),
        "boosting": GradientBoostingClassifier(random_state=1),
        "neural": MLPClassifier((64, 32), max_iter=60, tol=1e-2, random_state=1),
    }
    return models[kind].fit(x, y)


def rows(count: int) -> list[list[float]]:
    """Values to be sent."""
    return [[round(float(v), 6) for v in row] for row in np.random.default_rng(2).normal(size=(count, WIDTH))]


if __name__ == "__main__":
    import joblib

    joblib.dump(fitted(sys.argv[1]), sys.argv[2])
