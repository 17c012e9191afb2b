"""A comparison of runs as a whole, and as a page that stands alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

import msgspec

from loopline.tracking.comparison.records import ComparedRun, Difference, MetricComparison
from loopline.tracking.comparison.tables import tables

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}
table{margin:0 0 1rem;border-collapse:collapse;display:block;overflow-x:auto}
th,td{padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #8884;max-width:20rem}
th,td{overflow-wrap:break-word}
td.n{font-variant-numeric:tabular-nums}
img{max-width:100%}
"""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Runs beside each other, the first of them being what the others are held against.

    `alike` counts the params, tags, ... and metrics that are the same everywhere and were left out, `system` the metrics of the
    machine's use that were. In a notebook it shows as a table.
    """

    runs: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    alike: int
    system: int = 0

    def _repr_html_(self) -> str:
        return tables(self)


def page(comparison: Comparison, plots: Mapping[str, bytes]) -> str:
    """The comparison as a whole HTML page. `plots`: SVG files by the metric that they show."""
    shown = "".join(
        f'<h2>{escape(key)}</h2>\n<img alt="{escape(key)} by step" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(data).decode()}">\n'
        for key, data in plots.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{len(comparison.runs)} runs compared</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{len(comparison.runs)} runs compared</h1>\n{tables(comparison)}{shown}</body></html>\n"
    )
