"""Loopline answers as MLflow's own server does: status, body and error texts, call by call, on SQLite and on PostgreSQL.

The answers were recorded by scripts/mlflow_golden.py. Calls that are answered otherwise on purpose say why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts import TOPICS
from contracts.contract import converse

from loopline.api.server import ApiServer
from loopline.app import Platform

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a platform of its own."""
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"), database=database_url)
    with ApiServer(platform) as server:
        yield server.url
    platform.close()


@pytest.mark.parametrize("topic", TOPICS)
def test_each_call_is_answered_as_mlflow_answers_it(url: str, topic: str) -> None:
    recorded = json.loads((GOLDEN / f"{topic}.json").read_text())
    calls = TOPICS[topic]
    assert [answer["call"] for answer in recorded] == [call.name for call in calls], "record it anew"
    wrong = []
    for call, own, theirs in zip(calls, converse(url, calls), recorded, strict=True):
        if call.differs:
            same = (own["status"], own["answer"].get("error_code", "")) == call.ours and own != theirs
        else:
            same = own == theirs
        if not same:
            wrong.append(f"{call.name}\n  theirs: {shown(theirs)}\n  ours:   {shown(own)}")
    assert not wrong, "\n" + "\n".join(wrong)


def shown(answer: dict[str, Any]) -> str:
    return f"{answer['status']} {json.dumps(answer['answer'], ensure_ascii=False)[:1500]}"
