"""Who may say which file a loop is: the controller runs it as the server's own user."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopline.app import Platform
from loopline.errors import Refused


def test_a_token_does_not_say_which_file_is_run(tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    owner = platform.session()
    owner.loops.declare("own", str(tmp_path / "own.py"), {"name": "own"})
    owner.access.add_principal("alice")
    owner.access.grant("alice", "data_scientist")
    secrets = [owner.access.create_token(principal="alice").secret, owner.access.create_token().secret]
    for secret in secrets:  # of the owner too: a token travels, the own user does not
        session = platform.session(platform.authenticate(secret))
        for name in ("own", "new"):
            with pytest.raises(Refused, match="may not say which file") as refused:
                session.loops.declare(name, "/tmp/other.py", {"name": name})
            assert refused.value.code == "forbidden"
    assert [(loop.name, loop.path) for loop in owner.loops.list()] == [("own", str(tmp_path / "own.py"))]
    denied = [entry for entry in owner.ledger.entries(limit=1000) if entry.record == "denied"]
    assert [entry.operation for entry in denied] == ["loops.declare"] * 4
    # What is on record may be asked to run again by who works there.
    assert platform.session(platform.authenticate(secrets[0])).loops.request("own").loop == "own"
    platform.close()
