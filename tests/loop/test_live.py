"""What a loop goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopline.app import Platform
from loopline.data.records import LIVE
from loopline.errors import Conflict
from loopline.loop.live import base_version
from loopline.operations import Body


def test_a_loop_learns_on_behind_the_newest_rows_of_a_source_that_are_sound(tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    session = platform.session()
    for number, facts in enumerate(({}, {}, {LIVE: "served rows"}), 1):
        session.datasets.add("visits", Body(f"id\n{number}\n".encode(), name="visits.csv"), facts=facts)
    assert base_version(session, "visits").version == 2
    session.datasets.withdraw("visits", "2", "wrong year")
    assert base_version(session, "visits").version == 1
    session.datasets.withdraw("visits", "1", "wrong year, too")
    with pytest.raises(Conflict, match="no version read from a source that is not withdrawn") as caught:
        base_version(session, "visits")
    assert "loopline data add visits" in caught.value.hint
    platform.close()
