"""Scoring of streams: each message that comes is a row, and its answer goes on, at least once and always under the same id.

What came is checked as an endpoint checks it, scored in batches, sent, and only when the answers are durable where they go does the
stream move on: a process that ends in between, however it ends, leaves messages that are answered again, by the same ids. What can
never be answered (no JSON, not of the contract, too large) goes aside with the reason. Nothing is taken before what was taken is
answered, so what cannot be worked off waits where it comes from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from loopline.errors import LooplineError, Unavailable
from loopline.failpoints import failpoint
from loopline.packaging.records import Opening
from loopline.ports.stream import Came, Inflow, Outflow, Sent
from loopline.serving import stream_log
from loopline.serving.messages import Bad, Model, Output, Taken, aside
from loopline.serving.problems import Problem
from loopline.serving.records import Endpoint, Variant
from loopline.serving.stream_log import StreamLog
from loopline.serving.stream_traces import Times, Traces

logger = logging.getLogger("loopline.serving")

MOST = 1000
"""Messages that are answered at once."""
_WAIT = 0.5
_LONGEST_PAUSE = 10.0


class Progress(msgspec.Struct):
    """What was done since the start. `seconds` is the time that models took."""

    answered: int = 0
    aside: int = 0
    seconds: float = 0.0
    waiting: int | None = None
    trouble: str = ""
    model: str = ""


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
        log: StreamLog | None = None,
        traces: Traces | None = None,
        record: Callable[[], Endpoint | None] = lambda: None,
    ) -> None:
        """`stopped`: it is to end when what was taken is answered; `given_up`: it has waited long enough for that.

        `every` is told how things stand after each batch, and each half second in which nothing comes. `log` has what was answered
        (None: nothing has). `record` gives the endpoint that it answers as, by what is declared of it now (None: by what was).
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
        self._log = log
        self._traces = traces or Traces(None, "")
        self._record = record
        self._heard = model.stands_for
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
        model, times = self._model, Times()
        bad: list[tuple[Came, Bad]] = []
        taken: list[Taken] = []
        self._traces.begin(came)
        for one in came:
            if one.lost:
                bad.append((one, Bad(one.lost, code="lost")))
                continue
            try:
                taken.append(self._traces.parsed(one, model.read))
            except Problem as e:
                bad.append((one, Bad(str(e.error), e.status, e.error.code)))
            except (ValueError, RecursionError) as e:
                bad.append((one, Bad(str(e))))
        times.begins("model")
        scored = model.score(taken, self._waits)
        self.progress.seconds += times.ends("model")
        answers: list[Sent] = []
        said: dict[str, tuple[Taken, Output]] = {}
        for row, output in zip(taken, scored, strict=True):
            if isinstance(output, Bad):
                bad.append((row.came, output))
            else:
                id: str = output.said["id"]
                answers.append(Sent(id, output.answer, row.came.key, self._traces.on(row.came)))
                said[id] = row, output
        times.begins("send")
        if answers:
            for id, why in self._put(self._outflow, answers).items():
                row, _ = said.pop(id)
                bad.append((row.came, Bad(f"its answer cannot be sent: {why}", 500, "not-sent")))
        failpoint("serving.stream.sent")
        beside = [aside(model.id(one), one, why.reason, self._traces.on(one)) for one, why in bad]
        if beside and (refused := self._put(self._aside, beside)):
            id, reason = next(iter(refused.items()))
            raise Unavailable(
                f"{id} cannot be put aside at {self._aside.name}: {reason}.",
                code="not-aside",
                hint="Let larger messages in there, or give another place: --aside ADDRESS.",
            )
        failpoint("serving.stream.aside")
        times.ends("send")
        times.begins("log")
        self._keep(said, bad, times)
        times.ends("log")
        self._inflow.answered()
        failpoint("serving.stream.answered")
        self._traces.end(model, [row.came for row, _ in said.values()], bad, times)
        self.progress.answered += len(said)
        self.progress.aside += len(bad)
        self.progress.trouble = ""

    def _keep(self, said: dict[str, tuple[Taken, Output]], bad: list[tuple[Came, Bad]], times: Times) -> None:
        """Puts what was answered, and what was not, into the prediction log; where it has to be there, waits until it is."""
        if self._log is None:
            return
        seconds = times.since_begun()
        frames = [self._model.frame(row, output, seconds) for row, output in said.values()]
        for one, why in bad:
            if not one.lost:
                asked = self._model.variant.model if why.code == "model-failed" else ""
                id = self._model.id(one)
                frames.append(stream_log.refused(self._model.endpoint, id, asked, why.status, why.code, seconds))
        while why_not := self._log.write(frames):
            self._pause(f"Nothing goes on: {why_not}", "log-full")

    def _put(self, outflow: Outflow, messages: list[Sent]) -> dict[str, str]:
        """Sends messages, and tells what is in the way meanwhile."""

        def stopped() -> bool:
            self.progress.trouble = outflow.trouble
            self._every(self.progress)
            return self._given_up()

        return outflow.put(messages, stopped)

    def _waits(self, why: str) -> None:
        self._pause(f"{self._model.variant.model} does not answer: {why}", "model-down")

    def _pause(self, trouble: str, code: str) -> None:
        """Waits a moment for what is in the way. Raises `Unavailable` where it has been waited long enough."""
        self.progress.trouble = trouble
        self._every(self.progress)
        if self._given_up():
            raise Unavailable(trouble, code=code, hint="Begin again: it goes on where it was.")
        time.sleep(0.5)

    def _look(self) -> None:
        """Goes over to what an alias names now, and sees how things stand."""
        variant = self._follow(self._model.variant.model)
        if variant is not None and variant.model != self._unfit:
            try:
                fresh = Model(variant, self._opening, self._model.stands_for)
            except LooplineError as e:
                self._unfit = variant.model
                logger.error("%s is not followed, and what was before answers on: %s", variant.model, e)
            else:
                self._model.close()
                self._model = fresh
                self.progress.model = variant.model
        if (record := self._record()) is not None and record != self._heard:
            self._heard = record
            try:
                self._model.stand_for(record)
            except LooplineError as e:
                logger.error("What %s says by now is not heeded, and what it said before is: %s", record.name, e)
        if self._log is not None:
            self._log.upkeep()
        if self._inflow is not None:
            self.progress.waiting = self._inflow.waiting
            self.progress.trouble = self._inflow.trouble
