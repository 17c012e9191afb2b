"""The pages of runs, to which links lead as MLflow's client prints them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.operations import Body
from loopline.tracking.records import Point

NASTY = "<script>document.title='owned'</script>"


class Runs:
    """A server with a run that has something of everything, in two projects."""

    def __init__(self, platform: Platform, url: str) -> None:
        self.url = url
        session = platform.session()
        session.projects.create("clinic")
        self.group = session.groups.create(f"visits {NASTY}", note="What we tried").number
        group = self.group
        self.run = session.runs.create(
            f"fit {NASTY}",
            group=group,
            params={"lr": 0.1, NASTY: NASTY},
            tags={"team": NASTY},
            environment={"python": NASTY},
        ).id
        for step in range(30):
            metrics = [{"key": key, "value": 1 / (1 + step), "step": step, "time": step + 1} for key in ("loss", NASTY)]
            session.runs.log(self.run, metrics)
        session.runs.log(self.run, [Point(key="test/auc", value=0.25), Point(key="system/cpu_percent", value=7)])
        session.runs.create("a model", kind="model", group=group)
        session.runs.put_artifact(self.run, "plots/a b.txt", Body(b"hello", name="a b.txt"))
        session.runs.note(self.run, f"Why {NASTY}")
        session.runs.create("a fold", group=group, parent=self.run)
        session.runs.finish(self.run)
        many = [(f"p{place:06}", place) for place in range(100_000)]
        metrics = [{"key": f"m{place:04}", "value": 0.5, "step": 1} for place in range(150)]
        self.wide = session.runs.create(
            "wide", params={"note": "x" * 60_000}, tags={f"t{n}": "" for n in range(101)}
        ).id
        session.runs.log(self.wide, metrics)
        for start in range(0, len(many), 10_000):
            session.runs.params(self.wide, dict(many[start : start + 10_000]))
        for place in range(101):
            session.runs.create(f"fold {place}", parent=self.wide)
        self.other = platform.session(project="clinic").runs.create("elsewhere").id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("runs")
    platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"))
    with ApiServer(platform) as server:
        yield Runs(platform, server.url)
    platform.close()


def opened(browser: Any, address: str, scheme: str, width: int = 1200) -> tuple[Any, list[str]]:
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request", lambda request: said.append(request.url) if not request.url.startswith("http://127.0.0.1") else None
    )
    page.goto(address, timeout=120_000)
    return page, said


@pytest.mark.chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_link_of_mlflows_client_shows_the_run(browser: Any, made: Runs, scheme: str, tmp_path: Path) -> None:
    page, said = opened(browser, f"{made.url}/#/experiments/{made.group}/runs/{made.run}", scheme)
    page.wait_for_url(f"**/runs/{made.run}?project=default")
    assert page.title() == f"fit {NASTY}: default"
    text = page.locator("main").inner_text()
    for shown in (
        "finished",
        f"visits {NASTY}",
        "lr",
        "0.1",
        "team",
        "loss",
        "0.0333333",
        "a fold",
        f"Why {NASTY}",
        made.run,
    ):
        assert shown in text, shown
    rows = page.locator("section:has(h2:text('Metrics')) tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == [NASTY, "loss", "test/auc", "system/cpu_percent"]
    plots = page.locator("img.plot")
    assert plots.count() == 2, "what was logged once is no line"
    plots.last.scroll_into_view_if_needed()
    end = time.monotonic() + 60
    while not plots.evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 100)"):
        assert time.monotonic() < end, "a plot is not drawn"
        time.sleep(0.2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=tmp_path / f"run-{scheme}.png", full_page=True)
    with page.expect_response("**/artifacts/**") as answer:
        page.locator("a", has_text="plots/a b.txt").click(no_wait_after=True)
    assert (answer.value.status, answer.value.headers["x-content-type-options"]) == (200, "nosniff")
    assert said == []
    page.context.close()


@pytest.mark.chromium
def test_a_link_to_an_experiment_shows_its_runs_also_behind_a_project(browser: Any, made: Runs) -> None:
    page, said = opened(browser, f"{made.url}/#/experiments/{made.group}", "light", 420)
    page.wait_for_url(f"**/groups/{made.group}?project=default")
    assert page.locator("h1").inner_text() == f"visits {NASTY}"
    assert page.locator("tbody tr td:nth-child(2)").all_inner_texts() == ["run", "model", "run"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{made.url}/ann/clinic.mlflow/#/experiments/0/runs/{made.other}")
    page.wait_for_url(f"**/runs/{made.other}?project=clinic")
    assert page.locator("h1").inner_text() == "elsewhere"
    page.goto(f"{made.url}/clinic/#/experiments/0")
    page.wait_for_url("**/groups/0?project=clinic")
    page.goto(f"{made.url}/#/nothing")
    page.wait_for_load_state()
    assert page.url == f"{made.url}/#/nothing"
    assert said == []
    page.context.close()


def test_what_is_not_there_is_told_and_no_script_but_ours_runs(made: Runs) -> None:
    import urllib.error
    import urllib.request

    def ask(path: str) -> tuple[int, Any, str]:
        try:
            with urllib.request.urlopen(made.url + path) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    status, headers, text = ask(f"/runs/{made.run}")
    assert status == 200
    assert "script-src" not in headers["Content-Security-Policy"]
    assert NASTY not in text
    assert "sha256-" in ask("/")[1]["Content-Security-Policy"]
    for path in (
        f"/runs/{made.other}",
        "/runs/none",
        "/groups/99",
        "/groups/x",
        "/groups/" + "9" * 5000,
        f"/runs/{made.run}?project=clinic",
        "/nobody/",
    ):
        status, _, text = ask(path)
        assert status in (400, 404), path
        assert "elsewhere" not in json.dumps(text)


@pytest.mark.chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_run_of_a_hundred_thousand_params_opens_with_the_first_and_leads_to_all(
    browser: Any, made: Runs, scheme: str, tmp_path: Path
) -> None:
    page, said = opened(browser, f"{made.url}/runs/{made.wide}", scheme)
    tables = dict(
        page.locator("section:has(h2)").evaluate_all(
            "all => all.map(s => [s.querySelector('h2').innerText, s.querySelectorAll('tbody tr').length])"
        )
    )
    assert tables == {"Metrics": 100, "Params": 100, "Tags": 100}
    assert page.locator("h2:text('Runs in it') ~ div tbody tr").count() == 100
    text = page.locator("main").inner_text()
    for told in ("60,000 characters", "126 more are not drawn", "The newest 100 of them are here"):
        assert told in text
    assert page.evaluate("document.documentElement.outerHTML.length") < 200_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=tmp_path / f"wide-{scheme}.png", full_page=True)
    page.locator("a", has_text="all 100,001").click()
    seen = []
    while True:
        seen += page.locator("tbody tr td:first-child").all_inner_texts()
        if len(seen) == 2_000:
            page.screenshot(path=tmp_path / f"part-{scheme}.png")
            page.goto(f"{made.url}/runs/{made.wide}?project=default&part=params&from=99000")
        elif page.locator("a", has_text="Next").count():
            page.locator("a", has_text="Next").first.click()
        else:
            break
    assert seen[:2000] == ["note", *(f"p{place:06}" for place in range(1999))]
    assert seen[2000:] == [f"p{place:06}" for place in range(98_999, 100_000)]
    page.locator("a", has_text="Before").first.click()
    assert page.locator("tbody tr").first.inner_text().startswith("p098999")
    page.locator("h1 a").click()
    assert page.locator("h1").inner_text() == "wide"
    assert said == []
    page.context.close()


@pytest.mark.parametrize("query", ["part=params&from=999999", "part=tags&from=x", "part=nothing", "part=tags&from=-1"])
def test_a_part_that_is_not_there_is_told(made: Runs, query: str) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{made.url}/runs/{made.wide}?project=default&{query}") as answer:
        assert answer.status == 200
        assert len(answer.read()) < 200_000
