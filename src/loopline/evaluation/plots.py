"""The plots of an evaluation, drawn from its evidence alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loopline.evaluation.catalogue import METRICS
from loopline.evaluation.drawing import CSS, DASHES, HAIR, LIGHT, THICK, Palette, framed, png, shaded, svg, titled
from loopline.evaluation.records import CalibrationBin, Confusion, Curve, Evidence, Grid, Slice

_MOST_NAMED_CLASSES = 30


def draw(evidence: Evidence) -> dict[str, bytes]:
    """Every plot of the evidence as files by name: {"roc.png": ..., "roc.svg": ..., ...}.

    The PNG files are light; the SVG files follow the reader's theme.
    """
    files = {f"{name}.png": png(figure) for name, figure in figures(evidence, LIGHT).items()}
    return files | {f"{name}.svg": svg(figure) for name, figure in figures(evidence, CSS).items()}


def figures(evidence: Evidence, palette: Palette) -> dict[str, Figure]:
    """The plots that the evidence has data for, by name, in reading order."""
    curves, confidence = evidence.curves, evidence.confidence
    found: dict[str, Figure] = {}
    if curves.roc is not None:
        found["roc"] = roc(curves.roc, palette)
    if curves.precision_recall is not None:
        found["precision-recall"] = precision_recall(curves.precision_recall, curves.positive_share, palette)
    if curves.calibration:
        found["calibration"] = calibration(curves.calibration, confidence, palette)
    if curves.confusion is not None:
        found["confusion"] = confusion(curves.confusion, palette)
    if curves.agreement is not None:
        found["agreement"] = agreement(curves.agreement, palette)
    if curves.residuals is not None:
        found["residuals"] = residuals(curves.residuals, palette)
    main = main_metric(evidence)
    whole = next((m.value for m in evidence.metrics if m.name == main), None)
    for column in dict.fromkeys(one.column for one in evidence.slices):
        parts = [one for one in evidence.slices if one.column == column]
        name = f"slices-{re.sub(r'[^A-Za-z0-9_.-]+', '-', column)}"
        # Two columns may differ in signs only that no file name should hold.
        while name in found:
            name += "-"
        found[name] = by_slice(column, parts, main, whole, confidence, palette)
    return found


def main_metric(evidence: Evidence) -> str:
    """The metric that slices are drawn by: the first that was measured, or the first of the task."""
    if evidence.metrics:
        return evidence.metrics[0].name
    return next(name for name, kind in METRICS.items() if evidence.task in kind.tasks)


def roc(curve: Curve, palette: Palette = LIGHT) -> Figure:
    """The ROC curve against the diagonal of guessing."""
    figure, axes = framed(palette)
    axes.plot([0, 1], [0, 1], color=palette.faint, lw=HAIR, ls=DASHES)
    axes.plot(curve.x, curve.y, color=palette.blue, lw=THICK)
    axes.text(0.98, 0.04, f"area {curve.area:.3f}", ha="right", color=palette.ink, fontsize=10)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    titled(
        axes,
        palette,
        "ROC curve",
        "False positive rate (share of negatives)",
        "True positive rate (share of positives)",
    )
    return figure


def precision_recall(curve: Curve, positive_share: float | None, palette: Palette = LIGHT) -> Figure:
    """Precision against recall, with the share of positives that guessing reaches."""
    figure, axes = framed(palette)
    if positive_share is not None:
        axes.axhline(positive_share, color=palette.faint, lw=HAIR, ls=DASHES)
    axes.plot(curve.x, curve.y, color=palette.blue, lw=THICK)
    axes.text(0.98, 0.94, f"area {curve.area:.3f}", ha="right", color=palette.ink, fontsize=10)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    titled(
        axes,
        palette,
        "Precision and recall",
        "Recall (share of positives found)",
        "Precision (share of calls that are right)",
    )
    return figure


def calibration(bins: tuple[CalibrationBin, ...], confidence: float = 0.95, palette: Palette = LIGHT) -> Figure:
    """The observed share of positives by predicted probability, with the interval of each bin."""
    figure, axes = framed(palette)
    axes.plot([0, 1], [0, 1], color=palette.faint, lw=HAIR, ls=DASHES)
    for one in bins:
        axes.plot([one.predicted] * 2, [one.low, one.high], color=palette.blue, lw=1.25, solid_capstyle="butt")
    axes.plot([b.predicted for b in bins], [b.observed for b in bins], "o", ms=5, color=palette.blue)
    # Rare events sit in one corner of the unit square: the axes reach as far as the data.
    top = min(1.0, 1.08 * max(max(b.high, b.predicted) for b in bins))
    axes.set(xlim=(-0.01 * top, 1.01 * top), ylim=(-0.01 * top, 1.01 * top))
    titled(
        axes,
        palette,
        "Calibration",
        f"Predicted probability ({len(bins)} bins of like size)",
        f"Observed share of positives, {confidence * 100:.4g} % interval",
    )
    return figure


def confusion(table: Confusion, palette: Palette = LIGHT) -> Figure:
    """Rows by true and predicted class: counts, and the share of the true class as shade."""
    counts = np.array(table.counts, dtype=np.float64)
    k = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(8.0, 3.6 + 0.4 * max(0, k - 2))
    figure, axes = framed(palette, width=side + 0.9, height=side)
    axes.grid(visible=False)
    # The first class is at the top, as the table is read. At most 0.75 deep, so that the ink stays readable.
    shaded(axes, palette.blue, 0.75 * share[::-1], (-0.5, k - 0.5, k - 0.5, -0.5))
    axes.set_ylim(k - 0.5, -0.5)
    if k <= 10:
        for (i, j), count in np.ndenumerate(counts):
            text = f"{int(count):,}\n{share[i, j]:.0%}" if k <= 5 else f"{int(count):,}"
            axes.text(j, i, text, ha="center", va="center", color=palette.ink, fontsize=11 if k <= 4 else 7)
    names = [_short(name, 16) for name in table.classes]
    if k <= _MOST_NAMED_CLASSES:
        axes.set_xticks(range(k), names, parse_math=False, rotation=0 if k <= 4 else 90)
        axes.set_yticks(range(k), names, parse_math=False)
    titled(axes, palette, "Confusion matrix", "Predicted class (rows)", "True class (shade: share of its rows)")
    return figure


def agreement(grid: Grid, palette: Palette = LIGHT) -> Figure:
    """Actual against predicted values: deeper cells hold more rows."""
    figure, axes = framed(palette)
    _density(axes, grid, palette)
    ends = (max(grid.x[0], grid.y[0]), min(grid.x[-1], grid.y[-1]))
    if ends[0] < ends[1]:
        axes.plot(ends, ends, color=palette.orange, lw=1.25, ls=DASHES)
    titled(
        axes,
        palette,
        "Predicted and actual",
        "Predicted value (units of the label)",
        "Actual value (units of the label)",
    )
    return figure


def residuals(grid: Grid, palette: Palette = LIGHT) -> Figure:
    """Residuals by predicted value: a sound model leaves a level band around zero."""
    figure, axes = framed(palette)
    _density(axes, grid, palette)
    axes.axhline(0, color=palette.orange, lw=1.25, ls=DASHES)
    titled(
        axes,
        palette,
        "Residuals",
        "Predicted value (units of the label)",
        "Actual minus predicted (units of the label)",
    )
    return figure


def by_slice(
    column: str,
    slices: list[Slice],
    metric: str,
    whole: float | None,
    confidence: float = 0.95,
    palette: Palette = LIGHT,
) -> Figure:
    """A metric in each group of a column with its interval and the group's size; dashed: the whole window."""
    figure, axes = framed(palette, width=6.8, height=1.5 + 0.32 * len(slices))
    axes.grid(axis="y", visible=False)
    names = []
    for place, part in enumerate(slices):
        names.append(f"{_short(part.group, 28)}  (n = {part.n:,})")
        found = next((m for m in part.metrics if m.name == metric), None)
        if found is None:
            continue
        # A hollow point says little: its slice has a note.
        face = palette.paper if part.note else palette.blue
        axes.plot([found.low, found.high], [place] * 2, color=palette.blue, lw=1.5, solid_capstyle="butt", zorder=3)
        axes.plot([found.value], [place], "o", ms=6, mfc=face, mec=palette.blue, mew=1.25, zorder=4)
    if whole is not None:
        axes.axvline(whole, color=palette.faint, lw=HAIR, ls=DASHES, zorder=2)
    axes.set_yticks(range(len(slices)), names, parse_math=False)
    axes.set_ylim(len(slices) - 0.5, -0.5)
    kind = METRICS[metric]
    unit = (
        " (0 to 1)" if (kind.low, kind.high) == (0, 1) else " (units of the label)" if metric in ("mae", "rmse") else ""
    )
    titled(
        axes,
        palette,
        f"{kind.title} by {_short(column, 40)}",
        f"{kind.title}{unit}, {confidence * 100:.4g} % interval",
        "",
    )
    return figure


def _density(axes: Any, grid: Grid, palette: Palette) -> None:
    counts = np.array(grid.counts, dtype=np.float64).T
    # A root, so that thin cells are seen beside full ones.
    depth = np.sqrt(counts / max(counts.max(), 1))
    shaded(axes, palette.blue, depth, (grid.x[0], grid.x[-1], grid.y[0], grid.y[-1]))
    axes.set(xlim=(grid.x[0], grid.x[-1]), ylim=(grid.y[0], grid.y[-1]))


def _short(name: str, longest: int) -> str:
    # Control characters and line breaks have no place in a label.
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
