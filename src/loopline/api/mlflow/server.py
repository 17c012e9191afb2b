"""What the server says of itself to MLflow's clients."""

from __future__ import annotations

from typing import Any

from starlette.responses import PlainTextResponse, Response

from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Message

VERSION = "3.17.2"
"""The version of MLflow whose protocol this is: clients choose what they ask for by it."""


@endpoint("GET /version", action=None)
def version(ask: Ask, given: Message) -> Response:
    """The version of the protocol, as bare text."""
    return PlainTextResponse(VERSION)


@endpoint("GET /api/3.0/mlflow/server-info", action=None)
def server_info(ask: Ask, given: Message) -> dict[str, Any]:
    """What the server can do. Clients read it before they have a token, so it tells nothing else."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }
