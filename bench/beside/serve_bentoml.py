"""A service of BentoML with one worker.

BENCH_MODEL=FILE bentoml serve serve_bentoml:Bench --port PORT
"""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Bench:
    """Rows as lists of numbers in, probabilities out."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        """Probabilities of each row."""
        return self.model.predict_proba(np.array(rows, np.float32)).tolist()
