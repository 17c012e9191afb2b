from __future__ import annotations

import re

import numpy as np
import polars as pl

from loopline.quality.drift import compare
from loopline.quality.drift_page import HEAD, page, rows
from loopline.quality.profile import profile


def _frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)

    def frame(shift: float, town: str) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "<i>x</i>": rng.normal(size=2000) + shift,
                "town": rng.choice(["Ulm", town], 2000),
                "visits": rng.poisson(3, 2000),
                "day": pl.Series(rng.integers(0, 500, 2000)).cast(pl.Date),
                "label": rng.random(2000) < 0.4 + shift / 10,
            }
        )

    return frame(0, "Rom"), frame(1, "<script>1</script>")


def test_the_page_leads_with_the_verdict_and_ranks_the_worst_first() -> None:
    before, now = _frames()
    reference = profile(before, label="label").freeze()
    report = compare(reference, profile(now, reference=reference))
    text = page(report, title="a & b", since="Monday")
    assert text.index(" of 5 columns: ") < text.index("The label, label") < text.index("Before and now")
    assert "a &amp; b" in text
    assert "Since about Monday." in text
    assert "<script" not in text
    assert "<i>" not in text
    assert "new values: &lt;script&gt;1&lt;/script&gt;" in text
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", text)
    assert "prefers-color-scheme:dark" in text
    table = rows(report)
    assert all(len(row) == len(HEAD) for row in table)
    assert [row[1] for row in table] == sorted((row[1] for row in table), reverse=True)


def test_pages_without_labels_drift_or_rows() -> None:
    before, _ = _frames()
    reference = profile(before, label="label").freeze()
    same = page(compare(reference, profile(before.drop("label"), reference=reference)))
    assert "No drift in 4 columns" in same
    assert "have not come yet" in same
    assert "Too few rows" in page(compare(reference, profile(before[:5], reference=reference)))
