"""The page of a comparison in a browser: it fits, and words stand as words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.tracking.comparison.result import page
from loopline.tracking.records import Point

pytestmark = pytest.mark.chromium


def test_a_page_of_findings_fits_its_width(browser: Any, tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "w")
    runs = platform.session().runs
    ids = []
    for rate in (0.1, 0.2, 0.3):
        run = runs.create(f"rate {rate}", params={"rate": rate})
        runs.log(run.id, [Point(key="auc", value=rate)])
        for fold in range(5):
            child = runs.create(f"fold {fold}", parent=run.id)
            runs.log(child.id, [Point(key="auc", value=rate + fold * rate / 100)])
        ids.append(run.id)
    file = tmp_path / "compared.html"
    file.write_text(page(runs.compare(ids), {}))
    platform.close()
    tab = browser.new_page(viewport={"width": 1000, "height": 800})
    tab.goto(file.as_uri())
    widths = tab.evaluate("[...document.querySelectorAll('table')].map(t => [t.scrollWidth, t.clientWidth])")
    assert all(scrolled <= seen for scrolled, seen in widths), widths
    lines = tab.evaluate("[...document.querySelectorAll('tbody th')].map(t => t.getClientRects()[0].width)")
    assert min(lines) > 20, "a word that is broken into its letters"
    tab.close()
