"""All endpoints of the protocol: importing this declares them."""

from __future__ import annotations

from loopline.api.mlflow import (
    artifacts,
    experiments,
    logged_models,
    metrics,
    models,
    runs,
    search,
    server,
    uploads,
    values,
    versions,
)
from loopline.api.mlflow.endpoints import ENDPOINTS, find

__all__ = [
    "ENDPOINTS", "artifacts", "experiments", "find", "logged_models", "metrics", "models", "runs", "search", "server", "uploads",
    "values", "versions",
]  # fmt: skip
