"""The page of an endpoint, as people use it in Chromium: it stands alone, its form asks, its curl line is right."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from .conftest import NASTY, Served

pytestmark = pytest.mark.chromium


def opened(browser: Any, address: str, scheme: str = "light", width: int = 1200) -> tuple[Any, list[str], list[str]]:
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    return page, said, asked


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_the_form_asks_and_shows_the_answer(served: Served, browser: Any, scheme: str, width: int) -> None:
    page, said, asked = opened(browser, f"{served.url}/docs/readmission", scheme, width)
    assert page.title() == "readmission"
    assert all(url.startswith(served.url) for url in asked), asked
    page.get_by_label("time_in_hospital", exact=True).fill("5")
    page.get_by_label("<b>ward</b>", exact=True).fill(NASTY)
    page.get_by_role("button", name="Send").click()
    page.locator("#told", has_text="200 after").wait_for()
    answer = json.loads(page.locator("#answer").inner_text())
    assert answer["predictions"][0]["label"] in ("YES", "NO")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert page.title() == "readmission"
    line = page.locator("#curl").inner_text()
    curled = json.loads(subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout)
    assert curled["predictions"][0]["probability"] == answer["predictions"][0]["probability"]
    assert said == []
    page.context.close()


def test_a_mistake_is_shown_as_the_server_tells_it(served: Served, browser: Any) -> None:
    page, said, _ = opened(browser, f"{served.url}/docs/readmission")
    page.get_by_label("time_in_hospital", exact=True).fill("many")
    page.get_by_role("button", name="Send").click()
    page.locator("#told", has_text="400 after").wait_for()
    assert "time_in_hospital" in page.locator("#answer").inner_text()
    page.get_by_role("button", name="The example row").click()
    page.get_by_label("time_in_hospital", exact=True).wait_for()
    page.wait_for_function("document.getElementById('answer').textContent.startsWith('Nothing')")
    assert page.get_by_label("time_in_hospital", exact=True).input_value() != "many"
    assert [text for text in said if "400" not in text] == []
    page.context.close()


def test_the_list_leads_to_the_pages(served: Served, browser: Any) -> None:
    page, said, _ = opened(browser, f"{served.url}/docs")
    page.get_by_role("link", name="readmission").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert page.url == f"{served.url}/docs/readmission"
    page.goto(f"{served.url}/docs/rusk", wait_until="networkidle")
    assert "There is no endpoint 'rusk'" in page.locator("main").inner_text()
    assert [text for text in said if "404" not in text] == []
    page.context.close()
