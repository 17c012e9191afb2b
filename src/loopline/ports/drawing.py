"""How a plot of lines is drawn, as a port: tracking has the lines, and the room that knows how plots look stands above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

PlotForm = Literal["png", "svg"]
"""A picture of pixels, in light colours; or one of lines, which follows the reader's light or dark."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A named line through points, finite and in the order of x."""

    label: str
    x: list[float]
    y: list[float]


class Drawing(Protocol):
    """Draws lines over each other; the first is what the others are held against."""

    def __call__(self, title: str, x: str, lines: Sequence[Line], form: PlotForm) -> bytes:
        """The file of the plot."""
        ...
