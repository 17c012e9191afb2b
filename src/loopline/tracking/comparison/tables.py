"""A comparison in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Protocol

import msgspec

from loopline.tracking.comparison.records import ComparedRun, Delta, Difference, MetricComparison, Summary
from loopline.tracking.records import Real

_LONGEST = 200
_NAMED = 5  # metrics in a sentence


class Compared(Protocol):
    """What is shown of a comparison (`result.Comparison`)."""

    @property
    def runs(self) -> tuple[ComparedRun, ...]: ...
    @property
    def differences(self) -> tuple[Difference, ...]: ...
    @property
    def metrics(self) -> tuple[MetricComparison, ...]: ...
    @property
    def alike(self) -> int: ...
    @property
    def system(self) -> int: ...


def names(comparison: Compared) -> list[str]:
    """What the runs are called over their columns: name, and the end of the id."""
    return [f"{run.name} ({run.id[-6:]})" for run in comparison.runs]


def tables(comparison: Compared) -> str:
    """The comparison as HTML tables, every text in them escaped."""
    heads = names(comparison)
    parts = []
    if comparison.metrics:
        rows = [[one.key, *metric(one)] for one in comparison.metrics]
        parts.append(_table(["metric", *heads], rows))
    if comparison.differences:
        rows = [[f"{one.of}: {one.key}", *map(written, one.values)] for one in comparison.differences]
        parts.append(_table(["", *heads], rows))
    parts.append(f"<p>{escape(left_out(comparison))}</p>\n")
    return "".join(parts)


def metric(one: MetricComparison) -> list[str]:
    """A metric of each run in a few words: its last value, else the mean of its folds, and how it stands beside the first run."""
    means = one.folds or (None,) * len(one.values)  # an older server says nothing of them
    return [_said(value, folds, delta) for value, folds, delta in zip(one.values, means, one.deltas, strict=True)]


def _said(value: Summary | None, folds: float | None, delta: Delta | None) -> str:
    if value is None and folds is None:
        return ""
    text = number(value.last) if value is not None else f"{number(folds or 0.0)} by folds"
    told = [] if delta is None or delta.value is None else [number(delta.value, signed=True)]
    if delta is not None and delta.mean is not None and delta.low is not None and delta.high is not None:
        between = f"{number(delta.low, signed=True)} to {number(delta.high, signed=True)}"
        told.append(f"{delta.finding}: mean {number(delta.mean, signed=True)} [{between}], n = {delta.n}, {delta.m}")
    return f"{text} ({'; '.join(told)})" if told else text


def left_out(comparison: Compared) -> str:
    """What a comparison does not show, and what is not known, in a sentence each."""
    told = [f"{comparison.alike} values that are the same in all are not shown."] if comparison.alike else []
    if comparison.system:
        told.append(f"{comparison.system} metrics of the machine's use are not shown.")
    deltas = [(one.key, delta) for one in comparison.metrics for delta in one.deltas if delta is not None]
    unknown: dict[str, dict[str, None]] = {}  # of each reason the metrics, each once
    for key, delta in deltas:
        if delta.finding == "not known":
            unknown.setdefault(delta.basis, {})[key] = None
    told += [
        f"What chance alone makes of a difference in {_some(list(keys))} is not known: {basis}."
        for basis, keys in unknown.items()
    ]
    tested = dict.fromkeys((delta.basis, delta.method) for _, delta in deltas if delta.method)
    told += [f"Means over {basis}, by the {_NAMES[method]}." for basis, method in tested]
    return " ".join(told)


_NAMES = {
    "welch": "t-test of Welch (1947)",
    "corrected resampled t": "corrected resampled t-test of Nadeau and Bengio (2003)",
}


def _some(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + rest


def number(value: Real, *, signed: bool = False) -> str:
    """A number in four digits."""
    return value if isinstance(value, str) else f"{value:{'+' if signed else ''}.4g}"


def written(value: Any) -> str:
    """A value as people read it; empty where there is none."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>\n"
