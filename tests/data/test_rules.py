"""Functions in the contracts of datasets: asked where their owner's code runs, on record by their source, refused elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

import loopline as ll
from loopline.api.up import Service
from loopline.app import Platform
from loopline.client import connect
from loopline.data import inbox
from loopline.data.records import SourceState
from loopline.errors import Invalid, NotFound
from loopline.loop import files
from loopline.operations import Body
from loopline.quality import contract_functions
from loopline.settings import load

from .conftest import Place

RULES = """\
import loopline as ll


@ll.rule("a visit is short", columns=["days"])
def short(rows):
    return rows["days"] <= {most}
"""
BY_NAME = {"rules": [{"rule": "function", "function": "rules:short"}]}


@ll.rule("a visit is short", columns=["days"])
def short(rows: pl.DataFrame) -> pl.Series:
    return rows["days"] <= 10


@ll.rule("it fails")
def failing(rows: pl.DataFrame) -> pl.Series:
    raise ValueError("no")


def _forget() -> None:
    """Knows nothing of what files of rules declared, as another process."""
    contract_functions._DECLARED.pop("rules:short", None)
    sys.modules.pop("loopline_loop_rules", None)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Opens one workspace under settings of one's own."""
    made: list[Platform] = []

    def open_(**given: Any) -> Platform:
        made.append(Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), **given))
        return made[-1]

    yield open_
    _forget()
    for platform in made:
        platform.close()


def _days(*days: int) -> Body:
    return Body(("id,days\n" + "".join(f"{n},{value}\n" for n, value in enumerate(days))).encode(), name="visits.csv")


def test_rows_that_break_it_are_in_quarantine_and_the_version_tells_its_source(
    place: Place, contract: Callable[..., dict[str, Any]]
) -> None:
    version = place.add(contract=contract(ll.unique("id"), short))
    assert (version.rows, version.quarantined) == (144, 56)
    assert version.broken == {"a visit is short": 56}
    held = place.session.datasets.quarantine("visits", limit=1)
    assert held.shown[0]["_rule"] == held.shown[0]["_reason"] == "a visit is short"
    kept = place.session.datasets.contract("visits")["rules"][1]
    assert (kept["function"], kept["code"]) == (short.function, short.code)
    assert place.add(contract=contract(ll.unique("id"), short)) == version


def test_a_function_that_fails_takes_nothing(place: Place, contract: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(Invalid, match="The rule 'it fails' cannot be asked of this table"):
        place.add(contract=contract(failing))
    assert place.session.datasets.list() == []


def test_files_of_the_setting_are_run_when_a_contract_first_asks(
    tmp_path: Path, opened: Callable[..., Platform]
) -> None:
    path = tmp_path / "rules.py"
    path.write_text(RULES.format(most=10) + "print('it ran')\n")
    session = opened(rules=str(path)).session()
    session.datasets.add("plain", _days(1, 2), contract={"rules": [{"rule": "not_null", "column": "id"}]})
    assert "loopline_loop_rules" not in sys.modules
    version = session.datasets.add("visits", _days(3, 30), contract=BY_NAME)
    assert (version.rows, version.broken) == (1, {"rules:short": 1})
    code = session.datasets.contract("visits")["rules"][0]["code"]
    assert code.startswith("sha256:")
    path.write_text(RULES.format(most=40))  # what was declared once is known as long as the process lives
    assert session.datasets.add("visits", _days(5, 30), contract=BY_NAME).broken == {"rules:short": 1}


def test_other_code_than_on_record_is_refused_until_the_contract_is_given_again(
    tmp_path: Path, opened: Callable[..., Platform]
) -> None:
    (tmp_path / "days.csv").write_bytes(b"id,days\n1,3\n")
    (tmp_path / "rules.py").write_text(RULES.format(most=10))
    session = opened(rules=str(tmp_path / "rules.py")).session()
    sources = (SourceState(address=str(tmp_path / "days.csv")),)
    session.sources.collect("visits", sources, contract=BY_NAME)
    _forget()
    (tmp_path / "rules.py").write_text(RULES.format(most=4))
    (tmp_path / "days.csv").write_bytes(b"id,days\n1,3\n2,9\n")
    session = opened(rules=str(tmp_path / "rules.py")).session()  # another process, after the file was changed
    with pytest.raises(Invalid, match="and here it is another one") as refused:
        session.sources.sync("visits")
    assert refused.value.hint.startswith("Give the contract again")
    assert session.sources.collect("visits", sources, contract=BY_NAME).quarantined == 1
    assert session.sources.sync("visits").new is False


def test_a_setting_that_names_no_file_says_so(tmp_path: Path, opened: Callable[..., Platform]) -> None:
    session = opened(rules=str(tmp_path / "none.py")).session()
    with pytest.raises(NotFound, match=r"There is no file .*none\.py, which the setting `rules` lists"):
        session.datasets.add("visits", _days(3), contract=BY_NAME)


def test_posted_rows_are_asked_as_well(place: Place, contract: Callable[..., dict[str, Any]]) -> None:
    place.add(_frame(3, 4), contract=contract(short))
    place.clock.forward(milliseconds=inbox.MILLISECONDS)
    posted = place.session.inbox.post("visits", Body(b"id,days\n7,3\n8,99\n", media="text/csv"))
    assert posted.taken is not None
    assert posted.taken.broken == {"a visit is short": 1}


def test_a_loops_file_holds_its_rules(tmp_path: Path, place: Place) -> None:
    (tmp_path / "rules.py").write_text(
        RULES.format(most=10)
        + "\n\n@ll.step\ndef fit(train: ll.Table) -> ll.Model:\n    return ll.constant(train)\n\n\n"
        'loop = ll.Loop("visits", data=ll.source("visits.csv", label="back"), train=fit, contract=ll.contract(short))\n'
    )
    loop = files.read(tmp_path / "rules.py")
    assert loop.describe()["contract"]["rules"][0]["function"] == "rules:short"
    version = place.add(contract=loop.describe()["contract"])
    _forget()
    assert version.broken == {"a visit is short": 56}


def _frame(*days: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(len(days)), "days": days})


def test_a_server_runs_no_code_that_comes_from_outside(tmp_path: Path, opened: Callable[..., Platform]) -> None:
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('it ran')")
    platform = opened()
    secret = platform.session().access.create_token().secret
    service = Service(load(workspace=platform.settings.workspace, checkpoints=platform.settings.checkpoints, port=0))
    service.start()
    try:
        with connect(service.url, token=secret) as session:
            for function in ("rules:short", "os:system", "elsewhere:short", f"{tmp_path}/elsewhere.py:short"):
                body = {"rules": [{"rule": "function", "name": "mine", "function": function}]}
                with pytest.raises(Invalid, match="which this process does not have") as refused:
                    session.datasets.add("visits", _days(3), contract=body)
                assert (refused.value.code, "'mine'" in refused.value.message) == ("contract-function", True)
            sent = msgspec.to_builtins(msgspec.structs.replace(short, function="rules:short"))
            with pytest.raises(Invalid, match="No code comes with a contract"):
                session.datasets.add("visits", _days(3), contract={"rules": [sent]})
            assert session.datasets.list() == []
    finally:
        service.stop()


def test_a_server_asks_the_functions_of_its_owner(tmp_path: Path, opened: Callable[..., Platform]) -> None:
    (tmp_path / "rules.py").write_text(RULES.format(most=10))
    platform = opened()
    secret = platform.session().access.create_token().secret
    settings = load(
        workspace=platform.settings.workspace,
        checkpoints=platform.settings.checkpoints,
        port=0,
        rules=str(tmp_path / "rules.py"),
    )
    service = Service(settings).start()
    try:
        with connect(service.url, token=secret) as session:
            version = session.datasets.add("visits", _days(3, 30), contract=BY_NAME)
            assert (version.rows, version.quarantined) == (1, 1)
    finally:
        service.stop()
