"""Plots and the page: real files, standing alone, safe against any name, the same bytes every time."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import matplotlib as mpl
import msgspec
import numpy as np
import polars as pl
import pytest

from loopline.evaluation.drawing import CSS, DARK, LIGHT, png
from loopline.evaluation.gates import gate, judge_all
from loopline.evaluation.measure import difference, measure
from loopline.evaluation.plots import draw, figures
from loopline.evaluation.records import Evidence
from loopline.evaluation.report import page, sentence

NASTY = ["<script>alert(1)</script>", "$\\frac{", '"><img src=x onerror=alert(1)>', "日本\n語", "a" * 300]
CLASSES = ("NO", "YES")


def evidence(task: str = "binary", n: int = 1_500) -> Evidence:
    rng = np.random.default_rng(5)
    group = rng.choice(NASTY, size=n, p=[0.5, 0.3, 0.17, 0.02, 0.01])
    frame = pl.DataFrame({"<b>race$": group, "age": rng.integers(18, 90, size=n)})
    differences = ()
    if task == "binary":
        p = rng.beta(2, 3, size=n)
        y = (rng.random(n) < p).astype(int)
        found = measure(y, p, task=task, classes=CLASSES, frame_of_slices=frame, protected=["<b>race$"], seed=1)
        other = np.clip(p + rng.normal(0, 0.1, size=n), 0, 1)
        against = difference(y, p, other, metric="roc_auc", task=task, classes=CLASSES, seed=1)
        differences = (msgspec.structs.replace(against, opponent="baseline"),)
    elif task == "regression":
        y = rng.gamma(2, 30, size=n)
        found = measure(y, y + rng.normal(0, 9, size=n), task=task, frame_of_slices=frame, seed=1)
    else:
        y = rng.choice(3, size=n)
        found = measure(y, np.eye(3)[y] * 0.4 + 0.2, task=task, classes=tuple(NASTY[:3]), frame_of_slices=frame, seed=1)
    return Evidence(
        model="model:<i>m</i>@3",
        dataset="data:visits@7",
        window="test",
        task=task,
        n=n,
        metrics=found.metrics,
        slices=found.slices,
        fairness=found.fairness,
        differences=differences,
        curves=found.curves,
        confidence=found.confidence,
        threshold=found.threshold,
        latency_p99_ms=1.5,
    )


EXPECTED = {
    "binary": ["roc", "precision-recall", "calibration", "confusion", "slices--b-race-", "slices-age"],
    "multiclass": ["confusion", "slices--b-race-", "slices-age"],
    "regression": ["agreement", "residuals", "slices--b-race-", "slices-age"],
}


@pytest.mark.parametrize("task", sorted(EXPECTED))
def test_every_plot_is_a_png_and_a_well_formed_svg(task: str) -> None:
    files = draw(evidence(task))
    assert sorted(files) == sorted(f"{name}.{form}" for name in EXPECTED[task] for form in ("png", "svg"))
    for name, data in files.items():
        if name.endswith(".png"):
            assert data[:8] == b"\x89PNG\r\n\x1a\n"
            width, height = struct.unpack(">II", data[16:24])
            assert width >= 400
            assert height >= 150
        else:
            root = ET.fromstring(data)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert b"prefers-color-scheme:dark" in data
            assert not any(stand_in.encode() in data for stand_in in CSS)
            assert root.findall(".//{http://www.w3.org/2000/svg}script") == []


def test_the_same_evidence_draws_the_same_bytes_in_many_threads_and_leaves_settings_alone() -> None:
    settings = dict(mpl.rcParams)
    found = evidence()
    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(draw, [found] * 3))
    assert drawn[0] == drawn[1] == drawn[2]
    assert dict(mpl.rcParams) == settings


def test_light_and_dark_differ_in_their_paper() -> None:
    corners = []
    for palette in (LIGHT, DARK):
        figure = figures(evidence(), palette)["roc"]
        png(figure)
        corners.append(mpl.colors.to_hex(figure.get_facecolor()))
    assert corners == [LIGHT.paper, DARK.paper]


class Page(HTMLParser):
    """Collects what a browser would see as elements, ids and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("task", sorted(EXPECTED))
def test_the_page_stands_alone_and_no_name_becomes_markup(task: str) -> None:
    found = evidence(task)
    text = page(found, judge_all([gate.latency(p99="5ms")], found))
    seen = Page(text)
    assert not {"script", "link", "iframe", "object", "b", "i"} & set(seen.tags)
    assert set(seen.tags) >= {"h1", "table", "svg"}
    assert all(a.startswith(("#", "data:image/png")) for a in seen.addresses), seen.addresses
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(seen.ids) == len(set(seen.ids))
    # Every reference inside the plots points to an id of the page.
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(seen.ids)
    assert {a[1:] for a in seen.addresses if a.startswith("#")} <= set(seen.ids)
    assert "<script>alert(1)</script>" in "".join(seen.words)
    assert "prefers-color-scheme:dark" in text
    assert page(found, judge_all([gate.latency(p99="5ms")], found)) == text


def test_the_verdict_comes_first_and_every_gate_has_its_reason() -> None:
    found = evidence()
    gates = [gate.at_least("roc_auc", 0.99), gate.latency(p99="5ms"), gate.not_worse_than("@champion", "roc_auc")]
    verdicts = judge_all(gates, found)
    text = "".join(Page(page(found, verdicts)).words)
    said = sentence(found, verdicts)
    assert said == "model:<i>m</i>@3 is refused: roc_auc at least 0.99."
    assert text.index(said) < text.index("Gates") < text.index("Metrics")
    for verdict in verdicts:
        assert verdict.reason in text
    assert sentence(found, verdicts[1:]).endswith("all 2 gates are met.")
    ask = judge_all([gate.fair("<b>race$", "equal_opportunity_difference", at_most=0.1)], found)
    assert "needs a person" in sentence(found, ask)
    assert "no gate has judged it" in sentence(found, ())


def test_the_page_shows_every_group_with_its_size() -> None:
    found = evidence()
    text = "".join(Page(page(found)).words)
    for part in found.slices:
        assert part.group in text
        assert f"{part.n:,}" in text


def test_evidence_with_nothing_but_metrics_has_a_page_too() -> None:
    bare = Evidence(model="m", dataset="d", window="w", task="binary", n=1, metrics=())
    assert "Metrics" in page(bare)
    assert draw(bare) == {}
