"""Loopline answers as MLflow's own server does: status, body and error texts, call by call, on SQLite and on PostgreSQL.

The answers were recorded by scripts/mlflow_golden.py. Calls that are answered otherwise on purpose say why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from contracts import TOPICS
from contracts.contract import converse

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("topic", TOPICS)
def test_each_call_is_answered_as_mlflow_answers_it(door: Any, topic: str) -> None:
    recorded = json.loads((GOLDEN / f"{topic}.json").read_text())
    calls = TOPICS[topic]
    assert [answer["call"] for answer in recorded] == [call.name for call in calls], "record it anew"
    wrong = []
    for call, own, theirs in zip(calls, converse(door.url, calls), recorded, strict=True):
        if call.differs:
            same = (own["status"], own["answer"].get("error_code", "")) == call.ours and own != theirs
        else:
            same = own == theirs
        if not same:
            wrong.append(f"{call.name}\n  theirs: {shown(theirs)}\n  ours:   {shown(own)}")
    assert not wrong, "\n" + "\n".join(wrong)


def shown(answer: dict[str, Any]) -> str:
    return f"{answer['status']} {json.dumps(answer['answer'], ensure_ascii=False)[:1500]}"
