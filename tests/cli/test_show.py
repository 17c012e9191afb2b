"""What is printed of texts that anybody wrote."""

from __future__ import annotations

import pytest

from loopline.cli import show


def test_texts_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    said = "a\x1b]0;title\x07b\x9b2Jc\td\ne\u202ef größe 😀"
    show.facts([("tags", {"by": said}), ("name", said)])
    show.table(["name"], [[said], [[said]]])
    out = capsys.readouterr().out
    printed = "a\\x1b]0;title\\x07b\\x9b2Jc\\td\\ne\\u202ef größe 😀"
    assert out.splitlines() == [f"tags  by={printed}", f"name  {printed}", "name", printed, printed]
