"""The card: it says what is on record and nothing else, in three forms, and nothing in a record becomes markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import msgspec

from loopline.app import Platform
from loopline.catalog import Session
from loopline.evaluation.records import Difference, Evidence, Fairness, GroupRates, Judgement, Metric, Slice, Verdict
from loopline.testing.clock import FakeClock
from loopline.tracking.records import Point

Bundle = Callable[..., bytes]


def evidence(group: str = "Asian") -> dict[str, Any]:
    auc = Metric(name="roc_auc", value=0.6612, low=0.6431, high=0.6793, n=9000)
    rates = [
        GroupRates(group=g, n=n, positives=9, selection_rate=0.2, true_positive_rate=0.4, false_positive_rate=0.1)
        for g, n in (("Caucasian", 7000), ("AfricanAmerican", 1900))
    ]
    found = Evidence(
        model="model:readmission@1",
        dataset="data:visits.test@1",
        window="encounters 5 to 9",
        task="binary",
        n=9000,
        metrics=(auc, Metric(name="log_loss", value=1.73, low=1.6, high=1.9, n=9000)),
        slices=(
            Slice(column="race", group="Caucasian", n=7000, metrics=(auc,)),
            Slice(column="race", group=group, n=12, metrics=(), note="too few rows"),
        ),
        fairness=(
            Fairness(
                column="race", metric="equal_opportunity_difference", value=0.04, low=0.0, high=0.09,
                groups=tuple(rates), too_few=(group,),
            ),
        ),
        differences=(
            Difference(metric="roc_auc", a=0.66, b=0.64, value=0.02, low=0.01, high=0.03, n=9000, opponent="baseline"),
        ),
        latency_p99_ms=1.25,
        looks=2,
        confidence=0.975,
    )  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(found))


def full(session: Session, bundle: Bundle, group: str = "Asian", reason: str = "better") -> None:
    run = session.runs.create("fit trees", params={"leaves": 31}, environment={"python": "3.11.2", "dirty": True})
    session.runs.log(run.id, [Point(key="valid/auc", value=0.7)])
    facts = {
        "data": "synthetic",
        "loop": "readmission",
        "purpose": "Who comes back within 30 days",
        "limits": "Adults only.",
    }
    session.models.draft("readmission", bundle(), run=run.id, inputs=("data:visits.train@1",), facts=facts)
    session.models.attach("readmission", 1, "evaluation", evidence(group))
    verdicts = Judgement(
        evaluation="evaluation:1",
        gates="sha256:0",
        outcome="ask",
        verdicts=(
            Verdict(gate="roc_auc >= 0.62", outcome="pass", reason="0.643 is at least 0.62", measured={"low": 0.643}),
            Verdict(gate="fair by race", outcome="ask", reason=f"too few rows of {group}", measured={}),
        ),
    )
    session.models.attach("readmission", 1, "verdicts", msgspec.to_builtins(verdicts))
    session.models.attach("readmission", 1, "training", {"trials": 20, "seed": 0})
    session.models.register("readmission", 1)
    session.models.set_alias("readmission", "champion", 1, reason=reason)


def test_all_forms_say_what_is_on_record(platform: Platform, bundle: Bundle, clock: FakeClock) -> None:
    session = platform.session()
    full(session, bundle)
    version = session.models.show("readmission", "champion")
    card = msgspec.json.decode(session.models.card("readmission", "champion", "json").read())
    assert card["data"]["synthetic"] is True
    assert card["data"]["inputs"] == ["data:visits.train@1"]
    assert card["evaluation"] == {key: value for key, value in evidence().items() if key in card["evaluation"]}
    assert card["training"]["params"] == {"leaves": 31}
    assert card["signature"]["key"] == version.signature
    assert card["forms"]["files"] == version.forms
    assert [move["alias"] for move in card["aliases"]] == ["champion"]

    text = session.models.card("readmission", 1).read().decode()
    page = session.models.card("readmission", 1, "html").read().decode()
    for form in (re.sub(r"\\(.)", r"\1", text), page):
        for said in (
            "model:readmission@1", "Who comes back within 30 days", "synthetic", "data:visits.train@1", "data:visits.test@1",
            "0.6612", "0.6431", "0.6793", "Caucasian", "7000", "equal_opportunity_difference", "baseline", "roc_auc",
            "leaves", "3.11.2", version.signature, version.bundle, "@champion", "better", "2023-11-14 22:13:20 UTC",
            "Adults only.", "look 2", "working copy", "Asian (12)", "native form", "says ask",
        ):  # fmt: skip
            assert said in form, said


def test_the_same_records_make_the_same_card(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    full(session, bundle)
    for form in ("markdown", "json", "html"):
        one, two = (session.models.card("readmission", 1, form) for _ in range(2))  # type: ignore[arg-type]
        assert one == two


def test_where_nothing_is_on_record_the_card_says_so(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle())
    text = session.models.card("readmission", 1).read().decode()
    assert "No evaluation is on record" in text
    assert "No run is on record" in text
    assert "This is a draft" in text
    assert text.count("Nothing is on record.") == 7, "metrics, gates, groups, fairness, data, training, aliases"
    session.models.register("readmission", 1)
    session.models.withdraw("readmission", 1, "it leaks")
    assert "withdrawn: it leaks" in session.models.card("readmission", 1).read().decode()


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and whether all are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_a_record_becomes_markup(platform: Platform, bundle: Bundle) -> None:
    evil = "<script>alert(1)</script>\n# x | [y](javascript:z) ![i](http://e) <img onerror=a> {{7*7}} `c` **b**"
    session = platform.session()
    full(session, bundle, group=evil, reason=evil)
    page = Tags()
    page.feed(session.models.card("readmission", 1, "html").read().decode())
    assert page.open == []
    assert not page.seen & {"script", "img", "a", "iframe", "link", "object"}
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in page.attributes)
    assert "<script>alert(1)</script>" in page.text, "shown as it is written"
    text = session.models.card("readmission", 1).read().decode()
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)\[", text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == 12
    widths = {
        len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if "alert" in line and line.startswith("|")
    }
    assert widths <= {4, 5, 6, 8}, "a cell with a bar is still one cell"


def test_the_page_is_self_contained_and_for_light_and_dark(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    full(session, bundle)
    answer = session.models.card("readmission", 1, "html")
    page = answer.read().decode()
    assert answer.media.startswith("text/html")
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 1, "an interval between 0 and 1 is drawn, another is not"
