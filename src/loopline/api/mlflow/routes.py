"""All endpoints of the protocol: importing this declares them."""

from __future__ import annotations

from loopline.api.mlflow import artifacts, experiments, metrics, runs, search, server, values
from loopline.api.mlflow.endpoints import ENDPOINTS, find

__all__ = ["ENDPOINTS", "artifacts", "experiments", "find", "metrics", "runs", "search", "server", "values"]
