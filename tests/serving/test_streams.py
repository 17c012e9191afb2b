"""The scoring of streams by a model that goes down, is slow to come back, or chokes on a row; and aliases that move meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from loopline.cli.score import score
from loopline.packaging.foreign import package
from loopline.packaging.records import Opening, Trust
from loopline.packaging.signing import ModelSigner
from loopline.ports.stream import Came, Sent
from loopline.serving.records import BUCKETS, Variant
from loopline.serving.streams import Model, Progress, Scoring

from .conftest import EXAMPLE, expected

Bundle = Callable[..., Path]
CODE = """
import os, pathlib
class Model:
    def load(self, folder):
        self.down = pathlib.Path("DOWN")
        if self.down.exists():
            raise RuntimeError("not now")
    def predict(self, rows):
        for row in rows:
            if row["x"] == 13:
                os._exit(1)
            if row["x"] == 14:
                raise ValueError("no")
        return [row["x"] / 10 for row in rows]
"""


class Listed:
    """Messages in memory."""

    name = "list"
    trouble = ""

    def __init__(self, *contents: bytes | None) -> None:
        self.came = [Came(str(n), {"number": n}, content, b"k%d" % n) for n, content in enumerate(contents)]
        self.first: Callable[[], None] = lambda: None
        self.moved = 0
        self._at = 0

    @property
    def waiting(self) -> int:
        return len(self.came) - self._at

    def take(self, most: int, wait: float) -> list[Came]:
        if self._at == 0:
            self.first()
        found = self.came[self._at : self._at + most]
        self._at += len(found)
        return found

    def answered(self) -> None:
        self.moved = self._at

    def close(self) -> None:
        pass


class Kept:
    """What was sent."""

    name = "kept"
    trouble = ""

    def __init__(self, too_large: Sequence[str] = ()) -> None:
        self.sent: list[Sent] = []
        self._too_large = too_large

    def put(self, messages: Sequence[Sent], stopped: Callable[[], bool]) -> dict[str, str]:
        assert not stopped()
        refused = {one.id: "too large" for one in messages if one.id in self._too_large}
        self.sent += [one for one in messages if one.id not in refused]
        return refused

    def close(self) -> None:
        pass

    @property
    def json(self) -> list[Any]:
        return [json.loads(one.content) for one in self.sent]


def scored(
    folder: Path,
    inflow: Listed,
    outflow: Kept,
    aside: Kept,
    opening: Opening,
    every: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    variant = Variant(name="champion", bundle=str(folder), model="model:risk@1", weight=BUCKETS)
    return Scoring(
        Model(variant, opening), lambda: inflow, outflow, aside, opening=opening, follow=lambda ref: None,
        stopped=lambda: inflow.moved == len(inflow.came), given_up=lambda: False, every=every,
    ).run()  # fmt: skip


def test_every_message_has_an_answer_or_a_reason(bundle: Bundle) -> None:
    nested = {**EXAMPLE, "patient": {"id": 7}, "tags": [1, 2]}
    contents = [
        json.dumps(EXAMPLE).encode(),
        json.dumps(nested, indent=1).encode(), None, b"", b"[1]", b"\xff\xfe", b'{"age": 1, "age": 2}',
        json.dumps({**EXAMPLE, "visits": None}).encode(), b"{" * 5000, json.dumps(EXAMPLE).encode(),
        b" " * (17 << 20),
    ]  # fmt: skip
    inflow, outflow, aside = Listed(*contents), Kept(["risk/9"]), Kept()
    progress = scored(bundle(), inflow, outflow, aside, Opening())
    assert (progress.answered, progress.aside, inflow.moved) == (2, 9, 11)
    first, second = outflow.json
    assert (first["row"], second["row"]) == (EXAMPLE, nested)
    assert [one["probabilities"]["yes"] for one in outflow.json] == pytest.approx([expected(EXAMPLE)] * 2, rel=1e-4)
    assert [(one.id, one.key) for one in outflow.sent] == [("risk/0", b"k0"), ("risk/1", b"k1")]
    reasons = {one["from"]["number"]: one for one in aside.json}
    for number, words in (
        (2, "tombstone"), (3, "not JSON"), (4, "no object"), (5, "not JSON"), (6, "twice"), (7, "'visits'"), (8, "not JSON"),
        (9, "cannot be sent: too large"), (10, "the most that are read"),
    ):  # fmt: skip
        assert words in reasons[number]["reason"], number
    assert reasons[5]["base64"] == "//4="
    assert reasons[6]["text"] == '{"age": 1, "age": 2}'
    assert "text" not in reasons[2]
    assert (len(reasons[10]["text"]), reasons[10]["cut"]) == (256 << 10, 17 << 20)


@pytest.fixture
def code(tmp_path: Path) -> tuple[Path, Opening, Path]:
    """A model of somebody's code, how it is opened, and a file while which is there it cannot be loaded."""
    down = tmp_path / "down"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(CODE.replace("DOWN", str(down)))
    signer = ModelSigner(tmp_path / "keys")
    rows = pl.DataFrame({"x": [1.0, 2.0], "y": ["no", "yes"]})
    package(tmp_path / "code", tmp_path / "b", kind="code", name="risk", rows=rows, label="y", signer=signer, created=0)
    key = signer.public_key(signer.sign({})["signatures"][0]["keyid"])
    return tmp_path / "b", Opening(trust=Trust(keys=(key,)), timeout=5.0), down


def test_a_row_that_brings_the_model_down_goes_aside_alone(code: tuple[Path, Opening, Path]) -> None:
    folder, opening, _ = code
    inflow, outflow, aside = Listed(*(b'{"x": %d}' % x for x in (1, 13, 2, 14, 3))), Kept(), Kept()
    scored(folder, inflow, outflow, aside, opening)
    assert [one["row"]["x"] for one in outflow.json] == [1, 2, 3]
    assert [one["text"] for one in aside.json] == ['{"x": 13}', '{"x": 14}']
    assert "does not answer it" in aside.json[0]["reason"]
    assert "fails on it" in aside.json[1]["reason"]


def test_a_model_that_is_down_is_waited_for_and_nothing_goes_aside(code: tuple[Path, Opening, Path]) -> None:
    folder, opening, down = code
    inflow, outflow, aside = Listed(b'{"x": 1}', b'{"x": 13}', b'{"x": 2}'), Kept(), Kept()
    troubles: list[str] = []

    def every(progress: Progress) -> None:
        troubles.append(progress.trouble)
        if len(troubles) == 4:
            down.unlink()

    inflow.first = (
        down.touch
    )  # the model is open by then, and does not come back once the second row has brought it down
    scored(folder, inflow, outflow, aside, opening, every)
    assert [one["row"]["x"] for one in outflow.json] == [1, 2]
    assert [one["text"] for one in aside.json] == ['{"x": 13}']
    assert any("does not answer" in one for one in troubles)


def test_what_cannot_begin_says_why(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(bundle())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    there = ["--model", folder, "--from", "kafka://127.0.0.1:9/a"]
    for line, words in (
        (["--model", folder], "Name what is scored"),
        (["visits", *there, "--to", "kafka://127.0.0.1:9/b"], "Name what is scored"),
        (there, "goes from --from to --to"),
        (["visits", "--model", "risk@1", "--to", "kafka://127.0.0.1:9/b"], "go with --from"),
        ([*there, "--to", "file:///tmp/b"], "is no stream"),
        ([*there, "--to", "kafka://127.0.0.1:9/b", "--option", "group"], "KEY=VALUE"),
        ([*there, "--to", "mqtt://u:geheim@127.0.0.1:9/b"], "is written out"),
        (["--model", "./nothing", "--from", "mqtt://127.0.0.1:9/a", "--to", "mqtt://127.0.0.1:9/b"], "no bundle"),
        (["--model", folder, "--from", "mqtt://127.0.0.1:9/a", "--to", "mqtt://127.0.0.1:9/b"], "does not answer"),
    ):
        done = CliRunner().invoke(score, line, obj=dict.fromkeys(("workspace", "project", "server", "token")))
        assert done.exit_code != 0
        assert words in f"{done.output} {done.exception}", line
    for number, handler in handlers.items():
        signal.signal(number, handler)
