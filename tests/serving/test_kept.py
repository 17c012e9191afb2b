"""Models served alone: what their endpoints refuse and keep by a policy, how long, and how it is read from the folder."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.errors import Invalid, LooplineError, NotFound
from loopline.serving import policies
from loopline.serving.alone import Alone, secret
from loopline.serving.fetched import Wanted
from loopline.serving.kept import Kept
from loopline.serving.log import MAGIC, Frame, Part, PredictionLog, encode, read_on, segments
from loopline.serving.records import Policy
from loopline.serving.retention import Retention

from .conftest import EXAMPLE, call
from .test_alone import environment, refused, served

Bundle = Callable[..., Path]
DAY = 86_400_000

POLICY = """
[risk]
unknown_category = "refuse"
hidden = ["age"]
hashed = ["ward"]
rate = 0.001
burst = 5
days = 30
"""


def asked(folder: Path, *line: str, code: int = 0) -> Any:
    """What `loopline predictions` says where there is no workspace; JSON where that is asked for."""
    command = [sys.executable, "-m", "loopline", "predictions", *line]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else json.loads(done.stdout) if "--json" in line else done.stdout


def test_a_policy_holds_and_what_is_kept_is_read(folder: Path, bundle: Bundle) -> None:
    (folder / "policy.toml").write_text(POLICY)
    with served(folder, str(bundle()), "--folder", "own", "--policy", "policy.toml", "--workers", "2") as (_, port, _):
        rows = [EXAMPLE, {**EXAMPLE, "age": 7.25}]
        ids = [one["id"] for one in call(port, "POST", "/predict/risk", rows).json["predictions"]]
        wrong = call(port, "POST", "/predict/risk", [{**EXAMPLE, "ward": "nowhere"}])
        assert (wrong.status, wrong.error["code"]) == (400, "unknown-category")
        # While it serves:
        found = asked(folder, "ls", "risk", "--folder", "own", "--json")
        assert {one["id"] for one in found} == set(ids)
        assert {one["model"] for one in found} == {"model:risk@1"}
        assert all("age" not in one["row"] and one["row"]["visits"] == 2 for one in found)
        assert {one["row"]["ward"][:5] for one in found} == {"hash:"}
        assert ids[1] in asked(folder, "show", "risk", ids[1], "--folder", "own")
        traffic = asked(folder, "traffic", "risk", "--folder", "own", "--json")["variants"]["champion"]
        assert (traffic["rows"], traffic["requests"]) == (2, 1)
        statuses = [call(port, "POST", "/predict/risk", [EXAMPLE]).status for _ in range(12)]
        assert {200, 429} == set(statuses)
    assert (os.stat(folder / "own" / "secret").st_mode & 0o777) == 0o600
    assert b"61.5" not in b"".join(path.read_bytes() for path in segments(folder / "own" / "log"))
    # And afterwards, as a table:
    said = asked(folder, "export", "risk", "all.parquet", "--folder", "own")
    count = 2 + statuses.count(200)
    assert f"{count} answers of risk" in said
    table = pl.read_parquet(folder / "all.parquet")
    assert (table.height, table["row"].str.json_path_match("$.ward").n_unique()) == (count, 1)
    with pytest.raises(NotFound, match="no prediction 'x'"):
        Kept(folder / "own").show("risk", "x")
    with pytest.raises(NotFound, match="Did you mean 'risk'"):
        Kept(folder / "own").list("rusk")
    with pytest.raises(NotFound, match="no prediction log"):
        Kept(folder / "elsewhere")
    assert "--labelled" in asked(folder, "ls", "risk", "--folder", "own", "--labelled", code=2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[rusk]\nrate = 5", "Did you mean 'risk'?"),
        ("[risk]\nrate = 5\nburts = 5", "Did you mean 'burst'?"),
        ("[risk]\nrate = 'often'", "Expected `float`, got `str`"),
        ("[risk]\nunknown_category = 'ignore'", "Invalid enum value 'ignore'"),
        ("[risk]\nrate = -1", "the rate -1 is none"),
        ("[risk]\nhidden = ['agee']", "Did you mean 'age'?"),
        ("[risk]\nprobes = 5", "nothing watches for probes"),
        ("[risk.blend]\nrate = 5", '["risk.blend"]'),
        ("rate = 5", "stands in no endpoint's table"),
        ("[risk", "is not TOML"),
        ("\udcff", "is not TOML"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(folder: Path, bundle: Bundle, text: str, says: str) -> None:
    (folder / "policy.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(LooplineError) as refusal:
        Alone(folder / "own", [Wanted(folder=bundle())], policies=policies.read(folder / "policy.toml"), port=0).start()
    assert refusal.value.code == "bad-policy"
    assert says in str(refusal.value)
    assert not (folder / "own").exists()


def test_the_refusal_is_told_and_nothing_is_begun(folder: Path, bundle: Bundle) -> None:
    (folder / "policy.toml").write_text("[rusk]\nrate = 5")
    assert "There is a policy for 'rusk'" in refused(folder, str(bundle()), "--policy", "policy.toml")


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = secret(tmp_path / "secret")
    assert secret(tmp_path / "secret") == first
    (tmp_path / "secret").write_text("")
    with pytest.raises(Invalid, match="holds no secret"):
        secret(tmp_path / "secret")


def frame(endpoint: str, at: int, request: str) -> bytes:
    answer = json.dumps([{"id": f"{request}-0", "value": at / DAY}]).encode()
    return encode(
        Frame(at, request, endpoint, [Part("model:m@1", "champion", "live", 1.0)], 200, 1, "list", b'[{"x":1}]', answer)
    )


def log(folder: Path, begun: int, frames: list[bytes], worker: int = 0) -> PredictionLog:
    made = PredictionLog(folder / "log", worker, segment_bytes=1 << 30, segment_age_ms=1 << 50, now=begun)
    if frames:
        made.append(frames, begun)
    return made


def requests(folder: Path) -> list[str]:
    return [record.request for _, _, found in read_on(folder / "log", {}) for record in found]


def test_answers_go_when_their_time_is_over_and_no_others(tmp_path: Path) -> None:
    for day in range(4):
        pieces = [
            frame(name, day * DAY + n, f"{name}{day}.{n}") for n in range(2) for name in ("brief", "long", "ever")
        ]
        log(tmp_path, day * DAY, pieces).close()
    still = log(tmp_path, 0, [frame("brief", 0, "open")], worker=1)
    retention = Retention(tmp_path / "log", {"brief": Policy(days=1), "long": Policy(days=2), "ever": Policy(rate=9)})
    assert retention.expire(DAY) == 1  # brief0.0, to the millisecond
    assert "brief0.0" not in requests(tmp_path)
    assert retention.expire(DAY + 1) == 1
    assert retention.expire(DAY + 1) == 0
    assert retention.expire(4 * DAY) == 10
    assert sorted(requests(tmp_path)) == sorted(
        [f"ever{day}.{n}" for day in range(4) for n in range(2)] + ["brief3.1", "long2.1", "long3.0", "long3.1", "open"]
    )
    assert not [path for path in (tmp_path / "log").iterdir() if path.suffix != ".segment"]
    still.close()
    only = Retention(tmp_path / "log", {"brief": Policy(days=1)})
    assert only.expire(9 * DAY) == 2  # what was open before, too
    assert len(segments(tmp_path / "log")) == 4
    assert Retention(tmp_path / "log", {}).expire(1 << 50) == 0


def test_refusals_of_nobody_and_a_segment_that_is_emptied_go(tmp_path: Path) -> None:
    log(tmp_path, 0, [frame("", 0, "nobody"), frame("brief", 0, "brief")]).close()
    retention = Retention(tmp_path / "log", {"brief": Policy(days=1), "long": Policy(days=2)})
    assert retention.expire(DAY) == 1
    assert requests(tmp_path) == ["nobody"]
    assert retention.expire(2 * DAY) == 1
    assert segments(tmp_path / "log") == []


def test_the_newest_of_several_workers_and_segments(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    log(tmp_path, 1, [frame("m", at, f"a{at}") for at in range(1, 40, 2)]).close()
    log(tmp_path, 2, [frame("m", at, f"b{at}") for at in range(2, 40, 2)], worker=1).close()
    (tmp_path / "log" / f"{50:013d}-00-torn.segment").write_bytes(MAGIC + frame("m", 50, "whole") + b"\1\0\0\0torn")
    kept = Kept(tmp_path)
    found = kept.list("m", limit=5)
    assert [one.id for one in found] == ["whole-0", "a39-0", "b38-0", "a37-0", "b36-0"]
    assert [one.id for one in kept.list("m", since=38, limit=9)] == ["whole-0", "a39-0", "b38-0"]
    assert kept.list("m", since=now + 60_000) == []
    assert kept.show("m", "b2-0").output == {"value": 2 / DAY}
    table = pl.read_ipc_stream(io.BytesIO(kept.read("m", since=38).read()))
    assert table["id"].to_list() == ["b38-0", "a39-0", "whole-0"]
    assert kept.traffic("m").variants["champion"].rows == 40
    with pytest.raises(NotFound):
        kept.list("n")
