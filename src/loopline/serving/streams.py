"""Scoring of streams: each message that comes is a row, and its answer goes on, at least once and always under the same id.

What came is checked as an endpoint checks it, scored in batches, sent, and only when the answers are durable where they go does the
stream move on: a process that ends in between, however it ends, leaves messages that are answered again, by the same ids. What can
never be answered (no JSON, not of the contract, too large) goes aside with the reason. Nothing is taken before what was taken is
answered, so what cannot be worked off waits where it comes from.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from loopline.errors import LooplineError, Unavailable
from loopline.failpoints import failpoint
from loopline.packaging.records import Opening
from loopline.ports.runtime import ModelDown, ModelSlow
from loopline.ports.stream import Came, Inflow, Outflow, Sent
from loopline.serving import live as lives
from loopline.serving.bodies import flat, read
from loopline.serving.contract import Row
from loopline.serving.live import Live, LiveVariant
from loopline.serving.problems import Problem
from loopline.serving.records import ControlMessage, Endpoint, RouteTable, Variant

logger = logging.getLogger("loopline.serving")

MOST = 1000
"""Messages that are answered at once."""
LARGEST = 16 << 20
"""Bytes of a message that is read."""
_WAIT = 0.5
_TRIES = 3
"""How often a row is tried that brings the model down."""
_KEPT = 256 << 10
"""Bytes of a message that go aside with the reason."""
_LONGEST_PAUSE = 10.0


class Progress(msgspec.Struct):
    """What was done since the start. `seconds` is the time that models took."""

    answered: int = 0
    aside: int = 0
    seconds: float = 0.0
    waiting: int | None = None
    trouble: str = ""
    model: str = ""


class _Taken(NamedTuple):
    came: Came
    row: Row
    raw: bytes


class Model:
    """The model version that answers: a bundle, opened. Raises as `serving.live.prepare` does."""

    def __init__(self, variant: Variant, opening: Opening) -> None:
        self.variant = variant
        name = variant.model.partition(":")[2].rpartition("@")[0].rpartition("/")[2]
        self.name = name
        table = RouteTable(epoch=1, endpoints={name: Endpoint(name=name, variants=(variant,))})
        self._live: Live = lives.prepare(ControlMessage(table=table), {}, opening)
        endpoint = self._live.endpoints[name]
        self._contract = endpoint.contract
        (self._variant,) = endpoint.variants
        self._known = frozenset(self._contract.names)

    def read(self, came: Came) -> _Taken:
        """A message as a checked row; columns that the model does not know are left aside. Raises `Problem` or `ValueError`."""
        content = came.content
        if content is None:
            raise ValueError("it has no content (a tombstone)")
        if len(content) > LARGEST:
            raise ValueError(f"it has {len(content):,} bytes, and {LARGEST:,} are the most that are read")
        if content.lstrip()[:1] == b"{":  # the short way, for what has just the columns
            with contextlib.suppress(Problem):
                rows = self._contract.decode(content, 1)
                if rows.form == "object":
                    return _Taken(came, rows.rows[0], content)
        value = read(content, 'Send {"column": value, ...} as UTF-8.')
        if not isinstance(value, dict):
            raise ValueError("it is JSON, but no object")
        value = flat(value, 0, self._known)
        rows = self._contract.check([{name: one for name, one in value.items() if name in self._known}])
        return _Taken(came, rows.rows[0], content)

    def score(self, taken: Sequence[_Taken], waits: Callable[[str], None]) -> list[bytes | str]:
        """The answers of rows, each as JSON, or why there is none.

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
            output if isinstance(output, str) else _answer(self._variant, one, output)
            for one, output in zip(taken, outputs, strict=True)
        ]

    def _outputs(self, rows: list[Row]) -> list[list[float] | str]:
        served = self._variant.served
        found = served.check(served.run(rows, [1] * len(rows)), len(rows)).tolist()
        return [one if all(map(math.isfinite, one)) else "the model's output is not a finite number" for one in found]

    def _alone(self, row: Row, waits: Callable[[str], None]) -> list[float] | str:
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
                return f"the model fails on it: {type(e).__name__}"
        return why

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

    def close(self) -> None:
        """Frees the model."""
        for served in self._live.served.values():
            served.close()


def _answer(variant: LiveVariant, one: _Taken, output: list[float]) -> bytes:
    """The answer to a message: what it is about, what the model says, and the row as it came."""
    said: dict[str, Any] = {"id": f"{_named(variant.model)}/{one.came.id}", "model": variant.model}
    if variant.task == "regression":
        (said["value"],) = output
    else:
        chances = dict(zip(variant.labels, output, strict=True))
        label = variant.label(output)
        said |= {"label": label, "probability": chances[label], "probabilities": chances}
    said |= {**variant.decision, "from": one.came.place, "row": msgspec.Raw(one.raw)}
    return msgspec.json.encode(said)


def _named(model: str) -> str:
    return model.partition(":")[2].rpartition("@")[0]


def _aside(model: str, came: Came, reason: str) -> Sent:
    """A message that is not answered, with the reason; its bytes as text, or in base64 where they are none."""
    content = came.content or b""
    said: dict[str, Any] = {"id": f"{_named(model)}/{came.id}", "from": came.place, "reason": reason}
    if len(content) > _KEPT:
        content, said["cut"] = content[:_KEPT], len(content)
    try:
        said["text"] = content.decode()
    except UnicodeDecodeError:
        said["base64"] = base64.b64encode(content).decode()
    if came.content is None:
        del said["text"]
    return Sent(said["id"], json.dumps(said, ensure_ascii=False).encode(), came.key)


class Scoring:
    """One stream, scored until it is stopped. The openers are called again where a broker went away.

    `follow` is asked between batches, now and then, for a variant to go over to (an alias moved), or None.
    """

    def __init__(
        self,
        model: Model,
        inflow: Callable[[], Inflow],
        outflow: Outflow,
        aside: Outflow,
        *,
        opening: Opening,
        follow: Callable[[str], Variant | None],
        stopped: Callable[[], bool],
        given_up: Callable[[], bool],
        every: Callable[[Progress], None],
    ) -> None:
        """`stopped`: it is to end when what was taken is answered; `given_up`: it has waited long enough for that.

        `every` is told how things stand after each batch, and each half second in which nothing comes.
        """
        self._model = model
        self._open = inflow
        self._outflow = outflow
        self._aside = aside
        self._opening = opening
        self._follow = follow
        self._stopped = stopped
        self._given_up = given_up
        self._inflow: Inflow | None = None
        self._unfit = ""
        """What an alias named and could not be opened."""
        self._every = every
        self.progress = Progress(model=model.variant.model)

    def run(self) -> Progress:
        """Scores until stopped.

        Raises what does not mend by itself. What was taken and is not answered then comes again.
        """
        self._inflow = self._open()
        try:
            while not self._stopped():
                came = self._take(MOST)
                if came:
                    self._work(came)
                self._look()
                self._every(self.progress)
        finally:
            if self._inflow is not None:
                self._inflow.close()
            self._model.close()
        return self.progress

    def _take(self, most: int) -> list[Came]:
        """What came; where the broker is gone, it is gone back to, after a while that grows."""
        pause = 0.2
        while self._inflow is None and not self._stopped():
            try:
                self._inflow = self._open()
            except Unavailable as e:
                self.progress.trouble = str(e)
                self._every(self.progress)
                until = time.monotonic() + pause
                while time.monotonic() < until and not self._stopped():
                    time.sleep(0.1)
                pause = min(2 * pause, _LONGEST_PAUSE)
        if self._inflow is None:
            return []
        try:
            return self._inflow.take(most, _WAIT)
        except Unavailable as e:
            self.progress.trouble = str(e)
            logger.warning("%s", e)
            self._inflow.close()
            self._inflow = None
            return []

    def _work(self, came: list[Came]) -> None:
        """Answers messages: when this returns, each has its answer or is aside, durably, and the stream has moved on."""
        assert self._inflow is not None
        failpoint("serving.stream.taken")
        ref = self._model.variant.model
        taken: list[_Taken] = []
        aside: list[Sent] = []
        for one in came:
            if one.lost:
                aside.append(_aside(ref, one, one.lost))
                continue
            try:
                taken.append(self._model.read(one))
            except Problem as e:
                aside.append(_aside(ref, one, str(e.error)))
            except (ValueError, RecursionError) as e:
                aside.append(_aside(ref, one, str(e)))
        began = time.monotonic()
        scored = self._model.score(taken, self._waits)
        self.progress.seconds += time.monotonic() - began
        answers: list[Sent] = []
        sent: dict[str, Came] = {}
        for row, said in zip(taken, scored, strict=True):
            if isinstance(said, str):
                aside.append(_aside(ref, row.came, said))
            else:
                id = f"{_named(ref)}/{row.came.id}"
                answers.append(Sent(id, said, row.came.key))
                sent[id] = row.came
        if answers:
            refused = self._put(self._outflow, answers)
            aside += [_aside(ref, sent[id], f"its answer cannot be sent: {why}") for id, why in refused.items()]
        failpoint("serving.stream.sent")
        if aside and (refused := self._put(self._aside, aside)):
            id, why = next(iter(refused.items()))
            raise Unavailable(
                f"{id} cannot be put aside at {self._aside.name}: {why}.",
                code="not-aside",
                hint="Let larger messages in there, or give another place: --aside ADDRESS.",
            )
        failpoint("serving.stream.aside")
        self._inflow.answered()
        failpoint("serving.stream.answered")
        self.progress.answered += len(came) - len(aside)
        self.progress.aside += len(aside)
        self.progress.trouble = ""

    def _put(self, outflow: Outflow, messages: list[Sent]) -> dict[str, str]:
        """Sends messages, and tells what is in the way meanwhile."""

        def stopped() -> bool:
            self.progress.trouble = outflow.trouble
            self._every(self.progress)
            return self._given_up()

        return outflow.put(messages, stopped)

    def _waits(self, why: str) -> None:
        """A pause for a model that does not answer. Raises `Unavailable` where it has been waited long enough."""
        self.progress.trouble = f"{self._model.variant.model} does not answer: {why}"
        self._every(self.progress)
        if self._given_up():
            raise Unavailable(self.progress.trouble, code="model-down", hint="Begin again: it goes on where it was.")
        time.sleep(0.5)

    def _look(self) -> None:
        """Goes over to what an alias names now, and sees how things stand."""
        variant = self._follow(self._model.variant.model)
        if variant is not None and variant.model != self._unfit:
            try:
                fresh = Model(variant, self._opening)
            except LooplineError as e:
                self._unfit = variant.model
                logger.error("%s is not followed, and what was before answers on: %s", variant.model, e)
            else:
                self._model.close()
                self._model = fresh
                self.progress.model = variant.model
        if self._inflow is not None:
            self.progress.waiting = self._inflow.waiting
            self.progress.trouble = self._inflow.trouble
