"""Batches: which variant scores which rows of a call, and what a model makes of the rows of several calls at once."""

from __future__ import annotations

import time
from typing import Any

from loopline.ports.runtime import ModelSlow
from loopline.serving.call import Call, Share
from loopline.serving.contract import Row
from loopline.serving.live import LiveEndpoint
from loopline.serving.model import ServedModel

Result = tuple[list[Share], Any, float]
"""The shares of a batch, its output or the exception that it failed with, and the seconds that it took."""


def split(call: Call, endpoint: LiveEndpoint, rows: list[Row]) -> list[Share]:
    """The shares of a call whose rows are routed each by its own key."""
    keys = call.keys or []
    by: dict[str, Share] = {}
    for n, row in enumerate(rows):
        variant = endpoint.route(keys[n] or f"{call.request}/{n}")
        share = by.get(variant.name)
        if share is None:
            share = by[variant.name] = Share(call, variant, [], [])
        share.rows.append(row)
        assert share.at is not None
        share.at.append(n)
    if len(by) == 1:
        next(iter(by.values())).at = None
    return list(by.values())


def score(model: ServedModel, shares: list[Share]) -> list[Result]:
    """Runs a batch; where it fails, each share alone, so that only the bad one fails."""
    rows = shares[0].rows if len(shares) == 1 else [row for share in shares for row in share.rows]
    start = time.perf_counter()
    try:
        output = model.check(model.run(rows, [len(share.rows) for share in shares]), len(rows))
        return [(shares, output, time.perf_counter() - start)]
    except Exception as e:
        if len(shares) == 1 or isinstance(e, ModelSlow):
            return [(shares, e, time.perf_counter() - start)]
        return [result for share in shares for result in score(model, [share])]


def note_run(shares: list[Share], seconds: float) -> None:
    """Notes when a batch ran, for those of its calls that are traced."""
    end = time.perf_counter()
    rows = sum(len(share.rows) for share in shares)
    for share in shares:
        if share.call.trace is not None:
            share.call.trace.runs.append((share.variant.model, share.variant.name, rows, end - seconds, end))
