"""Lines over each other, such as one metric of several runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loopline.evaluation.drawing import CSS, DASHES, HAIR, LIGHT, THICK, Palette, framed, png, svg, titled
from loopline.ports.drawing import Line, PlotForm

_STYLES = ("-", DASHES, (0, (1, 2)))
_NAMED = 4 * len(_STYLES)
"""So many lines can be told apart; all further ones are faint and have no name."""

_LONGEST, _END = 40, 15


def draw(title: str, x: str, lines: Sequence[Line], form: PlotForm) -> bytes:
    """The plot as a file: a light PNG, or an SVG that follows the reader's theme."""
    return png(overlay(title, x, lines, LIGHT)) if form == "png" else svg(overlay(title, x, lines, CSS))


def overlay(title: str, x: str, lines: Sequence[Line], palette: Palette) -> Figure:
    """The lines in one pair of axes; a line of one point is a dot."""
    figure, axes = framed(palette, width=8.0, height=4.6)
    hues = (palette.blue, palette.orange, palette.green, palette.pink)
    looks = list(itertools.product(_STYLES, hues))
    for place, line in enumerate(lines):
        dot = "o" if len(line.x) == 1 else ""
        if place < _NAMED:
            style, colour = looks[place]
            look = {
                "color": colour,
                "lw": THICK,
                "ls": style,
                "label": _short(line.label),
                "zorder": 3 + _NAMED - place,
            }
        else:
            look = {"color": palette.faint, "lw": HAIR, "alpha": 0.5, "zorder": 2}
        axes.plot(line.x, line.y, marker=dot, markersize=4, **look)
    if len(lines) > _NAMED:
        axes.plot([], [], color=palette.faint, lw=HAIR, label=f"{len(lines) - _NAMED} more")
    legend = figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=palette.ink)
    for text in legend.get_texts():
        text.set_parse_math(False)
    titled(axes, palette, title, x, "")
    places = {place for line in lines for place in line.x}
    if len(places) == 1:  # a scale of parts of a step would say nothing
        axes.set_xlim(min(places) - 1, max(places) + 1)
    if all(place.is_integer() for place in places):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _short(label: str) -> str:
    """A label that fits; its end stays, for there stands what tells runs of one name apart."""
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - _END - 1]}…{label[-_END:]}"
