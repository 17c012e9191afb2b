"""The parts of a run's page that may be long: the beginning of each stands there, and all of it on pages of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loopline.api.pages import links
from loopline.api.pages.html import Html, element
from loopline.api.pages.style import table
from loopline.tracking.records import Artifact, Run, of_work_first

SHOWN = 100
"""Rows of a part on the page of its run."""

PAGE = 1_000
"""Rows of a part on a page of its own."""

_LONGEST = 1_000  # characters of a value


class Part(NamedTuple):
    """A list: its title, the heads of its columns, its items and how one becomes a row; `numbers` as `table` takes them."""

    title: str
    head: tuple[str, str]
    items: Sequence[Any]
    row: Callable[[Any], list[object]]
    numbers: tuple[int, ...] = ()


def of_run(project: str, found: Run, files: Sequence[Artifact]) -> dict[str, Part]:
    """The parts of a run by the names that addresses have for them, in the order of its page."""
    refs = [("read", ref) for ref in found.inputs] + [("made", ref) for ref in found.outputs]
    refs += [(f"read ({one.context or 'elsewhere'})", f"{one.name} ({one.digest})") for one in found.external]
    return {
        "metrics": Part("Metrics", ("metric", "last"), list(of_work_first(found.metrics).items()), _pair, (1,)),
        "params": Part("Params", ("param", "value"), sorted(found.params.items()), _pair),
        "tags": Part("Tags", ("tag", "value"), sorted(found.tags.items()), _pair),
        "refs": Part("Read and made", ("", "what"), refs, lambda one: [one[0], element("span", one[1], class_="id")]),
        "artifacts": Part(
            "Artifacts",
            ("file", "bytes"),
            files,
            lambda one: [element("a", one.path, href=links.artifact(project, found.id, one.path)), f"{one.size:,}"],
            (1,),
        ),
    }


def begins(part: Part, whole: str, *more: Html | None) -> Html | None:
    """The beginning of a part, with a link to the whole of it where that is longer; None where there is nothing."""
    count = len(part.items)
    if not count:
        return None
    link = element("a", f"all {count:,}", href=whole)
    left = element("p", f"The first {SHOWN} are here, and on a page of their own ", link, ".", class_="soft")
    rows = _rows(part, 0, SHOWN)
    return element("section", element("h2", part.title), rows, left if count > SHOWN else None, *more)


def page(part: Part, first: int, address: Callable[[int], str]) -> Html:
    """The rows of a part from one on, and the way to those before and behind; `address` is that of the page that a row begins."""
    count = len(part.items)
    last = min(first + PAGE, count)
    before = element("a", "Before", href=address(max(0, first - PAGE))) if first else None
    behind = element("a", "Next", href=address(last)) if last < count else None
    told = f"{first + 1:,} to {last:,} of {count:,}" if last > first else f"{count:,} in all, and none here"
    way = element("p", element("span", told, class_="soft"), before, behind, class_="links")
    return element("section", element("h2", part.title), way, _rows(part, first, PAGE), way)


def text(value: object) -> str:
    """A value as a page shows it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(said) <= _LONGEST:
        return said
    return f"{said[:_LONGEST]}… ({len(said):,} characters; `loopline runs show` has all)"


def _rows(part: Part, first: int, most: int) -> Html:
    rows = [part.row(item) for item in part.items[first : first + most]]
    return table(list(part.head), rows, numbers=part.numbers)


def _pair(item: tuple[str, object]) -> list[object]:
    return [item[0], text(item[1])]
