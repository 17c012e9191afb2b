"""How plots look, and how they become files: one palette a theme, thin lines, system fonts.

Figures are matplotlib's Figure objects, without pyplot and its global state; a server may draw from many threads.
An SVG names its colours as CSS variables and brings them along for light and dark; in a page that sets the same
variables it follows the page.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

HAIR = 0.75
"""The line width in points of one CSS pixel."""

THICK = 1.75
DASHES = (0, (4, 4))


class Palette(NamedTuple):
    """The colours of a theme. The hues are Okabe and Ito's, told apart with any colour vision."""

    ink: str
    faint: str
    hair: str
    paper: str
    blue: str
    orange: str
    green: str
    pink: str


LIGHT = Palette("#1b1d1f", "#6a6f75", "#d9dcdf", "#ffffff", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
DARK = Palette("#e7e8ea", "#9aa0a6", "#3a3f45", "#16181b", "#56b4e9", "#e69f00", "#00b386", "#e39bc4")
CSS = Palette("#0a0b0c", "#8a8b8d", "#c1c2c3", "#fdfefd", "#0172b3", "#d65e01", "#019e74", "#cd79a8")
"""Stand-ins that no other part of a plot uses; an SVG has the CSS variable of the field's name in their place."""

# Warning filters and matplotlib's settings are the process's: one thread at a time changes them and puts them back.
_ALONE = threading.Lock()


def variables() -> str:
    """The CSS that sets the palettes' variables, dark where the reader prefers dark."""
    light, dark = (
        " ".join(f"--{name}:{colour};" for name, colour in palette._asdict().items()) for palette in (LIGHT, DARK)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def framed(palette: Palette, *, width: float = 5.0, height: float = 4.6) -> tuple[Figure, Any]:
    """An empty figure (inches) with one pair of axes in the house's style."""
    room = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=room, facecolor=palette.paper)
    axes = figure.add_subplot(facecolor=palette.paper)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=palette.faint, linewidth=HAIR)
    axes.tick_params(colors=palette.faint, labelcolor=palette.ink, width=HAIR, length=3, labelsize=9)
    axes.grid(color=palette.hair, linewidth=HAIR)
    axes.set_axisbelow(True)
    return figure, axes


def titled(axes: Any, palette: Palette, title: str, x: str, y: str) -> None:
    """Title and axis titles; a dollar sign in a name is a dollar sign and starts no formula."""
    axes.set_title(title, color=palette.ink, fontsize=11, fontweight="bold", loc="left", parse_math=False)
    axes.set_xlabel(x, color=palette.ink, fontsize=9, parse_math=False)
    axes.set_ylabel(y, color=palette.ink, fontsize=9, parse_math=False)


def shaded(axes: Any, colour: str, share: NDArray[np.float64], extent: tuple[float, float, float, float]) -> None:
    """Cells of one colour, from nothing (0) to full (1): right on any paper. `share` is [row from below, column]."""
    pixels = np.zeros((*share.shape, 4))
    pixels[..., :3] = to_rgb(colour)
    pixels[..., 3] = share
    axes.imshow(pixels, extent=extent, origin="lower", aspect="auto", interpolation="nearest", zorder=1)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 144 pixels an inch."""
    stream = io.BytesIO()
    with _ALONE, warnings.catch_warnings():
        # A name in a script that the built-in font lacks is drawn as boxes; it is no reason to have no plot.
        warnings.filterwarnings("ignore", message="Glyph")
        FigureCanvasAgg(figure).print_figure(stream, format="png", dpi=144, metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure, *, inline: str = "") -> bytes:
    """A figure drawn with the palette `CSS` as an SVG file.

    With `inline` it is an element for a page that has `variables()`; the given name keeps its ids apart from those
    of the page's other plots.
    """
    stream = io.BytesIO()
    # The salt makes ids, and so the bytes, the same every time.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"loopline {inline}"}
    with _ALONE, mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        FigureCanvasSVG(figure).print_figure(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue().decode()
    for name, stand_in in CSS._asdict().items():
        text = text.replace(stand_in, f"var(--{name})")
    # matplotlib names its own font: the reader's is better.
    text = re.sub(r"(font: (?:\w+ )*[\d.]+px )[^;\"]*", r"\1system-ui, sans-serif", text)
    if not inline:
        return text.replace("<defs>", f"<style>{variables()}</style><defs>", 1).encode()
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", inline)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return text[text.index("<svg") :].encode()
