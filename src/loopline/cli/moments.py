"""Times as people type them: "2h" and "7d" from now, "2026-01-31", "2026-01-31T08:30", milliseconds since 1970."""

from __future__ import annotations

import time

import click


def now() -> int:
    """This machine's time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Moment(click.ParamType[int]):
    """A time in milliseconds since 1970 UTC; a duration counts from now, backwards or (`ahead`) forwards."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self.ahead = ahead

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time that a text names."""
        import datetime

        from loopline.errors import Invalid
        from loopline.loop.durations import milliseconds

        if isinstance(value, int):
            return value
        text = str(value)
        if text.isascii() and text.isdecimal() and len(text) < 19:  # a number of 64 bits at most
            return int(text)
        try:
            return int(datetime.datetime.fromisoformat(text).astimezone().timestamp() * 1000)
        except ValueError:
            pass
        try:
            return now() + milliseconds(text, "a time") * (1 if self.ahead else -1)
        except Invalid:
            self.fail(f'{text!r} is no time. Write "2h", "7d", "2026-01-31" or "2026-01-31T08:30".', param, ctx)
