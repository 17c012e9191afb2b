"""What the server says of itself to MLflow's clients."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import PlainTextResponse, Response

from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Message
from loopline.api.mlflow.problems import Problem

VERSION = "3.17.2"
"""The version of MLflow whose protocol this is: clients choose what they ask for by it."""


@endpoint("GET /version", action=None)
def version(ask: Ask, given: Message) -> Response:
    """The version of the protocol, as bare text."""
    return PlainTextResponse(VERSION)


class Reset(Message):
    """What a test suite would have its server keep things in; passed over, as everything is in the workspace."""

    backend_uri: str | None = None
    artifact_root: str | None = None


@endpoint("POST /__reset__", action="any")
def reset(ask: Ask, given: Reset) -> dict[str, Any]:
    """The address of a new, empty project, so that test suites run side by side; in test mode only."""
    if not ask.platform.settings.test_mode:
        raise Problem("There is no endpoint '/__reset__' here.", "ENDPOINT_NOT_FOUND")
    name = f"t{secrets.token_hex(8)}"
    ask.call("projects.create", name=name)
    return {"url": f"{ask.request.url.scheme}://{ask.request.headers['host']}/t/{name}"}


@endpoint("GET /api/3.0/mlflow/server-info", action=None)
def server_info(ask: Ask, given: Message) -> dict[str, Any]:
    """What the server can do. Clients read it before they have a token, so it tells nothing else."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": True,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }
