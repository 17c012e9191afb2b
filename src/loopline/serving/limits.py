"""How often one caller may ask: a token bucket each (it fills at a steady rate, and a request takes one token of it)."""

from __future__ import annotations

import math

from loopline.errors import Unavailable
from loopline.serving.problems import Problem


class Buckets:
    """The buckets of one endpoint's callers in one worker. Callers are known by then, so there are not more than tokens."""

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` requests a second, and `burst` at once after a pause (0: a second's worth)."""
        self.rate = rate
        self.burst = float(burst or max(1, math.ceil(rate)))
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, caller: str, now: float) -> None:
        """Takes a token; `now` in seconds, of a clock that never goes back. Raises the 429 `Problem` where there is none."""
        left, at = self._left.get(caller, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.rate)
        if left < 1:
            self._left[caller] = (left, now)
            raise too_often(self.rate, (1 - left) / self.rate)
        self._left[caller] = (left - 1, now)


def too_often(rate: float, wait: float) -> Problem:
    """The 429 that says when to come again."""
    seconds = max(1, math.ceil(wait))
    return Problem(
        429,
        Unavailable(
            f"This caller asks more often than {rate:g} times a second, which is this endpoint's limit.",
            code="rate-limit",
            hint=f"Try again in {seconds} s, or send more rows in each request.",
            limit=rate,
        ),
        ((b"retry-after", b"%d" % seconds),),
    )


def too_late() -> Problem:
    """The 503 of a request whose own deadline passed before any work was done for it."""
    return Problem(
        503,
        Unavailable(
            "The deadline of the request passed before its turn came; nothing was done.",
            code="deadline-passed",
            hint="Give it more time (x-loopline-deadline-ms), or come again when there is less to do.",
        ),
    )
