"""The verbs of a platform, in this process or over HTTP: `connect()` and `connect(url)` give the same object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopline.catalog import Session


def connect(
    url: str | None = None, token: str | None = None, project: str | None = None, timeout: float = 300.0
) -> Session:
    """The verbs of the platform that answers at `url`, for who holds the token; without a URL, of the workspace here.

        with connect("https://ml.example.org", token="ll_...", project="clinic") as platform:
            platform.access.whoami().name

    Without a token, `LOOPLINE_TOKEN` of the environment is sent where it is set; on the server's own machine its user needs
    none. Nothing is sent yet: a server that is away shows at the first call. `timeout`, in seconds, is for each silence of the
    server. Raises `Invalid` on a URL that is none.
    """
    if url is None:
        from loopline.app import Platform

        return Platform.open(project=project).session()
    from loopline.client.remote import open_session  # a program that never connects pays nothing

    return open_session(url, token=token, project=project or "default", timeout=timeout)
