"""All endpoints of the protocol: importing this declares them."""

from __future__ import annotations

from loopline.api.mlflow import server
from loopline.api.mlflow.endpoints import ENDPOINTS, find

__all__ = ["ENDPOINTS", "find", "server"]
