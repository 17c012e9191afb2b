"""What a contract asks beyond the table. Nothing in this room reads a clock or a dataset: the caller hands both in."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import polars as pl

from loopline.quality.profile import Profile


class Beyond(msgspec.Struct, frozen=True):
    """The time, in milliseconds since 1970, and two functions: `column(ref, name)` gives the values of a dataset's column,
    `profile(ref)` the frozen profile of a dataset."""

    now: int
    column: Callable[[str, str], pl.Series]
    profile: Callable[[str], Profile]
