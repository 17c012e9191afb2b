"""The same verbs over HTTP: `connect(url)` gives the session that a platform in process gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopline.catalog import Session


def connect(url: str, token: str | None = None, project: str = "default", timeout: float = 300.0) -> Session:
    """The verbs of the platform that answers at `url`, for who holds the token.

        with connect("https://ml.example.org", token="ll_...", project="clinic") as platform:
            platform.access.whoami().name

    Without a token, `LOOPLINE_TOKEN` of the environment is sent where it is set; on the server's own machine its user needs
    none. Nothing is sent yet: a server that is away shows at the first call. `timeout`, in seconds, is for each silence of the
    server. Raises `Invalid` on a URL that is none.
    """
    from loopline.client.remote import open_session  # a program that never connects pays nothing

    return open_session(url, token=token, project=project, timeout=timeout)
