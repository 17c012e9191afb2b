"""Times and counts as a page tells them."""

from __future__ import annotations

import datetime

from loopline.api.pages.html import Html, element

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def ago(at: int, now: int) -> Html:
    """How long ago a time was (both in milliseconds), with the time itself to be looked up."""
    moment = datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return element("time", f"{length(now - at)} ago", datetime=moment.isoformat(timespec="seconds"), title=exact)


def length(milliseconds: int) -> str:
    """A span of time, roughly: 3 min."""
    seconds = max(0.0, milliseconds / 1000)
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def latency(microseconds: float) -> str:
    """A latency in milliseconds."""
    value = microseconds / 1000
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"
