"""Messages of a stream as rows, and what a model says to them."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from loopline.packaging.records import Opening
from loopline.ports.runtime import ModelDown, ModelSlow
from loopline.ports.stream import Came, Sent, Trace
from loopline.serving import live as lives
from loopline.serving import stream_log
from loopline.serving.bodies import Form, flat, read
from loopline.serving.contract import Row, Rows
from loopline.serving.live import LiveVariant
from loopline.serving.model import ServedModel
from loopline.serving.problems import Problem
from loopline.serving.records import BUCKETS, ControlMessage, Endpoint, RouteTable, Variant

LARGEST = 16 << 20
"""Bytes of a message that is read."""
_TRIES = 3
"""How often a row is tried that brings the model down."""
_KEPT = 256 << 10
"""Bytes of a message that go aside with the reason."""


class Taken(NamedTuple):
    """A message that is a row: checked, as it came, and as the prediction log may have it."""

    came: Came
    row: Row
    raw: bytes
    kept: tuple[Form, bytes]
    keys: list[str | None] | None


class Output(NamedTuple):
    """What the model says to a row."""

    said: dict[str, Any]
    """Id, label and probabilities, or value."""
    answer: bytes


class Bad(NamedTuple):
    """Why a message is not answered: in words, as HTTP's status, and as an error's code."""

    reason: str
    status: int = 400
    code: str = "not-rows"


class Model:
    """The model version that answers: a bundle, opened. Raises as `serving.live.prepare` does.

    `record` is the endpoint by whose contract, policy and threshold it answers; without one by the model's own.
    """

    def __init__(self, variant: Variant, opening: Opening, record: Endpoint | None = None) -> None:
        self.variant = variant
        name = variant.model.partition(":")[2].rpartition("@")[0].rpartition("/")[2]
        self.name = name
        self._opening = opening
        self._served: dict[str, ServedModel] = {}
        self.stand_for(record or Endpoint(name=name, variants=()))

    def stand_for(self, record: Endpoint) -> None:
        """Answers as this endpoint from now on. Raises as `serving.live.prepare` does; nothing is changed then."""
        given = record
        alone = msgspec.structs.replace(self.variant, weight=BUCKETS, mode="live")
        for other in record.variants:
            if other.model == alone.model:  # what the endpoint decides by, of this very version
                decided = {"threshold": other.threshold, "threshold_number": other.threshold_number}
                alone = msgspec.structs.replace(alone, **decided)
        record = msgspec.structs.replace(record, variants=(alone,))
        table = RouteTable(epoch=1, endpoints={record.name: record})
        live = lives.prepare(ControlMessage(table=table), self._served, self._opening)
        self.stands_for, self._served = given, live.served
        self.endpoint = live.endpoints[record.name]
        self._contract = self.endpoint.contract
        (self._variant,) = self.endpoint.variants
        self._known = frozenset((*self._contract.names, *self._contract.passthrough))

    def read(self, came: Came) -> Taken:
        """A message as a checked row; columns that nobody reads here are left aside. Raises `Problem` or `ValueError`."""
        content = came.content
        if content is None:
            raise ValueError("it has no content (a tombstone)")
        if len(content) > LARGEST:
            raise ValueError(f"it has {len(content):,} bytes, and {LARGEST:,} are the most that are read")
        if content.lstrip()[:1] == b"{":  # the short way, for what has just the columns
            with contextlib.suppress(Problem):
                rows = self._contract.decode(content, 1)
                if rows.form == "object":
                    return _taken(came, rows, content, content)
        value = read(content, 'Send {"column": value, ...} as UTF-8.')
        if not isinstance(value, dict):
            raise ValueError("it is JSON, but no object")
        value = flat(value, 0, self._known)
        kept = {name: one for name, one in value.items() if name in self._known}
        rows = self._contract.check([kept])
        return _taken(came, rows, content, json.dumps(kept, ensure_ascii=False).encode())

    def score(self, taken: Sequence[Taken], waits: Callable[[str], None]) -> list[Output | Bad]:
        """What the model says to rows, or why it says nothing.

        While the model does not answer at all, `waits` is called with the reason, which may raise.
        """
        rows = [one.row for one in taken]
        if (pick := self._variant.pick) is not None:
            rows = [pick(row) for row in rows]
        try:
            outputs = self._outputs(rows) if rows else []
        except Exception:  # whose fault it is shows where each row is alone
            outputs = [self._alone(row, waits) for row in rows]
        return [
            output if isinstance(output, Bad) else _output(self._variant, one, output)
            for one, output in zip(taken, outputs, strict=True)
        ]

    def _outputs(self, rows: list[Row]) -> list[list[float] | Bad]:
        served = self._variant.served
        found = served.check(served.run(rows, [1] * len(rows)), len(rows)).tolist()
        bad = Bad("the model's output is not a finite number", 500, "model-failed")
        return [one if all(map(math.isfinite, one)) else bad for one in found]

    def _alone(self, row: Row, waits: Callable[[str], None]) -> list[float] | Bad:
        """The output of one row, or why it is bad: the model fails on it, or goes down by it each time and by its example not."""
        why = ""
        for _ in range(_TRIES):
            try:
                return self._outputs([row])[0]
            except (ModelDown, ModelSlow) as e:
                why = f"the model does not answer it: {e}"
                while not self._answers():
                    waits(str(e))
            except Exception as e:
                return Bad(f"the model fails on it: {type(e).__name__}", 500, "model-failed")
        return Bad(why, 500, "model-failed")

    def _answers(self) -> bool:
        """Whether the model answers the example that it was packaged with."""
        served = self._variant.served
        manifest = served.manifest
        given = {name: manifest.example.get(name) for name in self._contract.names}
        (row,) = self._contract.check([given]).rows
        try:
            self._outputs([row if self._variant.pick is None else self._variant.pick(row)])
        except (ModelDown, ModelSlow):
            return False
        return True

    def id(self, came: Came) -> str:
        """The id under which a message is answered."""
        return _id(self.variant.model, came)

    def frame(self, one: Taken, output: Output, seconds: float) -> bytes:
        """What the prediction log has of an answer."""
        return stream_log.answered(self.endpoint, self._variant, output.said, one.kept, one.keys, seconds)

    def close(self) -> None:
        """Frees the model."""
        for served in self._served.values():
            served.close()


def _taken(came: Came, rows: Rows, raw: bytes, kept: bytes) -> Taken:
    return Taken(came, rows.rows[0], raw, ("object", kept) if rows.sent is None else ("list", rows.sent), rows.keys)


def _output(variant: LiveVariant, one: Taken, output: list[float]) -> Output:
    """What is said to a message, and the answer: what it is about, what the model says, and the row as it came."""
    said: dict[str, Any] = {"id": _id(variant.model, one.came)}
    if variant.task == "regression":
        (said["value"],) = output
    else:
        chances = dict(zip(variant.labels, output, strict=True))
        label = variant.label(output)
        said |= {"label": label, "probability": chances[label], "probabilities": chances}
    answer = {"id": said["id"], "model": variant.model, **said, **variant.decision}
    return Output(said, msgspec.json.encode({**answer, "from": one.came.place, "row": msgspec.Raw(one.raw)}))


def _id(model: str, came: Came) -> str:
    return f"{model.partition(':')[2].rpartition('@')[0]}/{came.id}"


def aside(id: str, came: Came, reason: str, trace: Trace) -> Sent:
    """A message that is not answered, with the reason; its bytes as text, or in base64 where they are none."""
    content = came.content or b""
    said: dict[str, Any] = {"id": id, "from": came.place, "reason": reason}
    if len(content) > _KEPT:
        content, said["cut"] = content[:_KEPT], len(content)
    try:
        said["text"] = content.decode()
    except UnicodeDecodeError:
        said["base64"] = base64.b64encode(content).decode()
    if came.content is None:
        del said["text"]
    return Sent(id, json.dumps(said, ensure_ascii=False).encode(), came.key, trace)
