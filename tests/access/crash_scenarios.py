"""The local token, written anew and killed: the one in force is whole, and nobody else reads it."""

from __future__ import annotations

from pathlib import Path

from loopline.access.peer import local_token_file, write_local_token


def work(folder: Path) -> None:
    """Two servers after each other: each makes a token of its own."""
    for _ in range(2):
        (folder / "acknowledged").write_text(write_local_token(folder))


def check(folder: Path, finished: bool) -> None:
    """A token that is there is whole and private; after a whole run it is the one that was given last."""
    path = local_token_file(folder)
    assert path.exists() or not finished
    if path.exists():
        token = path.read_text()
        assert token.startswith("ll_")
        assert len(token) == 46
        assert path.stat().st_mode & 0o777 == 0o600
        if finished:
            assert token == (folder / "acknowledged").read_text()


SCENARIOS = {"local token": (work, check)}
