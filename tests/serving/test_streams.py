"""The scoring of streams by a model that goes down, is slow to come back, or chokes on a row; and aliases that move meanwhile."""

from __future__ import annotations

import json
import os
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
from loopline.ports.stream import Came, Sent, Trace
from loopline.serving.log import read_segment, segments
from loopline.serving.messages import Model
from loopline.serving.records import BUCKETS, Endpoint, Policy, Variant
from loopline.serving.stream_log import StreamLog
from loopline.serving.stream_traces import Traces
from loopline.serving.streams import Progress, Scoring
from loopline.serving.traces import tracer

from .conftest import EXAMPLE, expected
from .test_traces import PARENT, SAMPLED, TRACE, UNSAMPLED, Receiver, receiver, told  # noqa: F401 - a fixture

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
    record: Endpoint | None = None,
    record_now: Callable[[], Endpoint | None] = lambda: None,
    **options: Any,
) -> Progress:
    variant = Variant(name="champion", bundle=str(folder), model="model:risk@1", weight=BUCKETS)
    return Scoring(
        Model(variant, opening, record), lambda: inflow, outflow, aside, opening=opening, follow=lambda ref: None,
        stopped=lambda: inflow.moved == len(inflow.came), given_up=lambda: False, every=every, record=record_now, **options,
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


def test_what_is_answered_is_on_record_by_the_policy_of_the_endpoint(tmp_path: Path, bundle: Bundle) -> None:
    known = Variant(
        name="champion", bundle="", model="model:risk@1", weight=BUCKETS, threshold=0.999, threshold_number=4
    )
    record = Endpoint(
        name="clinic~risk", variants=(known,), salt="s", passthrough=("patient",), route_key="patient",
        policy=Policy(hidden=("age",), hashed=("patient",), unknown_category="refuse"),
    )  # fmt: skip
    rows = [{**EXAMPLE, "age": 41.5 + n, "patient": f"secret-{n % 2}", "ssn": "123-45"} for n in range(4)]
    inflow = Listed(
        *(json.dumps(row).encode() for row in rows), b"no row", json.dumps({**rows[0], "ward": "x"}).encode()
    )
    inflow.came.append(Came("6-lost", {"number": 6}, None, lost="it is gone"))
    outflow, aside, log = Kept(["risk/3"]), Kept(), StreamLog(tmp_path / "log", sync="interval", full="refuse")
    scored(bundle(), inflow, outflow, aside, Opening(), record=record, log=log)
    log.close()
    assert [(one["label"], one["threshold"], one["threshold_number"]) for one in outflow.json] == [("no", 0.999, 4)] * 3
    (segment,) = segments(tmp_path / "log")
    found, _ = read_segment(segment)
    assert [one.id for one in found] == [f"risk/{n}" for n in (0, 1, 2, 4, 5, 3)]
    assert {(one.endpoint, one.caller) for one in found} == {("clinic~risk", "stream")}
    assert [(one.status, one.error) for one in found[3:]] == [
        (400, "not-json"), (400, "unknown-category"), (500, "not-sent"),
    ]  # fmt: skip
    for one, answer in zip(found[:3], outflow.json, strict=True):
        assert (one.id, one.model, one.variant, one.propensity) == (answer["id"], "model:risk@1", "stream", 1.0)
        assert one.output is not None
        assert one.output["probabilities"] == answer["probabilities"]
        assert one.output["threshold_number"] == 4
        assert one.row is not None
        assert one.row.keys() == {*EXAMPLE, "patient"} - {"age"}
        assert one.row["patient"].startswith("hash:")
        assert one.route_key == one.row["patient"]
    assert found[0].route_key == found[2].route_key != found[1].route_key
    data = segment.read_bytes()
    assert not [word for word in (b"secret-", b"123-45", b"41.5") if word in data]


def test_a_policy_that_changes_holds_from_then_on(tmp_path: Path, bundle: Bundle) -> None:
    record = Endpoint(name="risk", variants=())
    inflow, log = Listed(*[json.dumps(EXAMPLE).encode()] * 2), StreamLog(tmp_path / "log", sync="always", full="answer")
    inflow.take = lambda most, wait, take=inflow.take: take(1, wait)  # type: ignore[method-assign,misc]
    hidden = Endpoint(name="risk", variants=(), policy=Policy(hidden=("age",)))
    scored(bundle(), inflow, Kept(), Kept(), Opening(), record=record, log=log, record_now=lambda: hidden)
    log.close()
    rows = [one.row for segment in segments(tmp_path / "log") for one in read_segment(segment)[0]]
    assert ["age" in (row or {}) for row in rows] == [True, False]


def test_a_log_that_takes_nothing_is_waited_for_or_told(tmp_path: Path, bundle: Bundle) -> None:
    made, message = bundle(), json.dumps(EXAMPLE).encode()
    for full in ("refuse", "answer"):
        log = StreamLog(tmp_path / full, sync="off", full=full)
        told: list[str] = []
        real, log._log._fd = log._log._fd, os.open("/dev/full", os.O_WRONLY)

        def every(
            progress: Progress, log: StreamLog = log, real: int = real, told: list[str] = told, full: str = full
        ) -> None:
            told.append(progress.trouble)
            if len(told) == 2 and full == "refuse":
                log._log._fd = real

        inflow, outflow = Listed(message), Kept()
        scored(made, inflow, outflow, Kept(), Opening(), every, log=log)
        assert len(outflow.sent) == 1
        kept = [one.id for segment in segments(tmp_path / full) for one in read_segment(segment)[0]]
        assert kept == (["risk/0"] if full == "refuse" else [])
        assert any("prediction log cannot be written" in one for one in told) == (full == "refuse")


def test_messages_are_traced_and_hand_their_trace_on(tmp_path: Path, bundle: Bundle, receiver: Receiver) -> None:  # noqa: F811
    inflow, outflow, aside = Listed(*[json.dumps(EXAMPLE).encode()] * 3, b"no row"), Kept(), Kept()
    traces = [Trace(SAMPLED, "clinic=a7"), Trace(UNSAMPLED, "clinic=a7"), Trace(), Trace(SAMPLED)]
    inflow.came = [one._replace(trace=trace) for one, trace in zip(inflow.came, traces, strict=True)]
    log, sent = StreamLog(tmp_path / "log", sync="off", full="answer"), Traces(tracer(receiver.url, 0.0, 1), "kafka")
    scored(bundle(), inflow, outflow, aside, Opening(), log=log, traces=sent)
    log.close()
    sent.close()
    roots = {
        told(span)["messaging.message.id"]: span for span in receiver.spans if span.kind == span.SPAN_KIND_CONSUMER
    }
    assert roots.keys() == {"0", "3"}
    for id, answer in (("0", outflow.sent[0]), ("3", aside.sent[0])):
        root = roots[id]
        assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
        assert answer.trace.parent == f"00-{TRACE}-{root.span_id.hex()}-01"
        facts = told(root)
        assert (facts["messaging.system"], facts["loopline.request"]) == ("kafka", f"risk/{id}")
        below = {span.name: span for span in receiver.spans if span.parent_span_id == root.span_id}
        assert below.keys() == ({"parse", "queue", "model", "send", "log"} if id == "0" else {"parse", "send", "log"})
        assert root.start_time_unix_nano <= below["parse"].start_time_unix_nano
        assert below["send"].end_time_unix_nano <= below["log"].start_time_unix_nano <= root.end_time_unix_nano
    assert (told(roots["3"])["error.type"], outflow.sent[0].trace.state) == ("not-json", "clinic=a7")
    assert [one.trace for one in outflow.sent[1:]] == traces[1:3]


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
