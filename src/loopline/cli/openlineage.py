"""OpenLineage events, sent to a catalog as its own clients send them: one POST an event to `/api/v1/lineage`."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from loopline.errors import Refused, Unavailable

_TIMEOUT = 30.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_DOOR = urllib.request.build_opener(_NoRedirect)


def send(lines: bytes, url: str) -> int:
    """Sends the events, one a line, in order; how many. The key of OPENLINEAGE_API_KEY goes along where it is set.

    Raises `Refused` (code "foreign-refusal") where the catalog takes no event so, `Unavailable` (code "source-away") where it does
    not answer. Sent again, the same events are the same runs to it.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "loopline"}
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    target = f"{url.rstrip('/')}/api/v1/lineage"
    events = lines.splitlines()
    for event in events:
        try:
            with _DOOR.open(urllib.request.Request(target, event, headers), timeout=_TIMEOUT):  # noqa: S310  # http(s), as was asked
                pass
        except urllib.error.HTTPError as e:
            if e.code < 500:
                raise Refused(
                    f"{url} takes no event so: {e.code} {e.reason}.",
                    code="foreign-refusal",
                    hint="Look at the address and at OPENLINEAGE_API_KEY.",
                ) from e
            raise _away(url, e) from e
        except (OSError, HTTPException) as e:
            raise _away(url, e) from e
    return len(events)


def _away(url: str, why: object) -> Unavailable:
    return Unavailable(
        f"{url} does not answer: {why}.",
        code="source-away",
        hint="Send them again when it does: they are the same events.",
    )
