"""A scoring script for azureml-inference-server-http, that answers `input_data` as models of MLflow do there.

Its model is the line of conftest's hand-made graph: what it says is what `expected` reckons, cut at a half.
"""

from __future__ import annotations

import json
import math
from datetime import date

COLUMNS = ("age", "visits", "insured", "admitted", "ward")


def init() -> None:
    """Nothing to load."""


def run(raw: str) -> list[str]:
    """The labels of the rows in `input_data`."""
    given = json.loads(raw)["input_data"]
    return [_label(dict(zip(given["columns"], row, strict=True))) for row in given["data"]]


def _label(row: dict[str, object]) -> str:
    days = 0 if row["admitted"] is None else (date.fromisoformat(str(row["admitted"])) - date(1970, 1, 1)).days
    ward = {"east": 0.25, "north": 0.5, "west": -0.75}.get(str(row["ward"] or ""), -0.125)
    values = [row["age"] or 0.0, row["visits"], float(bool(row["insured"])), days, ward]
    score = sum(w * float(v) for w, v in zip((0.02, 0.4, -0.5, 0.0001, 1.0), values, strict=True))  # type: ignore[arg-type]
    return "yes" if 1 / (1 + math.exp(-score)) >= 0.5 else "no"
