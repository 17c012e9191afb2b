"""Plots of what was measured, in the house's style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopline.evaluation.drawing import DASHES, LIGHT, THICK, framed, png, titled

HUES = (LIGHT.blue, LIGHT.orange, LIGHT.green, LIGHT.pink)
STYLES = ("-", DASHES, (0, (1, 2)))


def draw_lines(file: Path, title: str, x: str, y: str, lines: dict[str, list[tuple[float, float]]]) -> None:
    """Points of (x, y) by name, both axes by powers of ten."""
    figure, axes = framed(LIGHT, width=8.0, height=4.6)
    for place, (name, points) in enumerate(lines.items()):
        axes.plot(
            *zip(*points, strict=True),
            color=HUES[place % len(HUES)], ls=STYLES[place // len(HUES)], lw=THICK, marker="o", markersize=4, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=LIGHT.ink)
    titled(axes, LIGHT, title, x, y)
    file.write_bytes(png(figure))


def draw_bars(file: Path, title: str, x: str, groups: dict[str, dict[str, float]]) -> None:
    """A value for each name, in groups that have one colour each; by powers of ten, least on top."""
    figure, axes = framed(LIGHT, width=8.0, height=5.2)
    names = sorted(
        {name for some in groups.values() for name in some}, key=lambda n: -min(g[n] for g in groups.values() if n in g)
    )
    each = 0.8 / len(groups)
    for place, (group, values) in enumerate(groups.items()):
        there = [name for name in names if name in values]
        at = [names.index(name) + 0.4 - (place + 0.5) * each for name in there]
        bars = axes.barh(
            at, [values[name] for name in there], height=each * 0.9, color=HUES[place], label=group, log=True
        )
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, color=LIGHT.faint, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=LIGHT.ink)
    titled(axes, LIGHT, title, x, "")
    file.write_bytes(png(figure))


def draw_serving(file: Path, found: dict[str, Any]) -> None:
    """What `bench/serving.py` found for one row and 16 connections."""
    groups = {
        kind: {name: one["us"] for name, one in some["points"]["1 rows, 16 connections"].items()}
        for kind, some in found.items()
    }
    draw_bars(file, "One row, 16 connections", "server's processor time a request, µs", groups)
