"""The engine: requests in, one run a model a turn of the loop, one write to the log, answers out.

Requests that were parsed in one turn of the event loop are answered together at its end (`tick`): each is checked and routed
by itself, so that a bad one fails alone; rows for the same model run as one batch; the log takes all frames in one write; then
the answers leave. What shadow variants think is asked after that, when there is time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from pathlib import Path

import numpy as np

from loopline.ports.runtime import ModelSlow
from loopline.serving import oip
from loopline.serving.batch import Result, note_run, score, split
from loopline.serving.call import Call, Headers, Share
from loopline.serving.explain import Explainers, check_explainable
from loopline.serving.limits import Buckets, Counts, too_late
from loopline.serving.live import Live, Route, nothing
from loopline.serving.log import Frame, Part, PredictionLog, encode
from loopline.serving.metrics import Counters, gather
from loopline.serving.model import ServedModel
from loopline.serving.outcome import tensors
from loopline.serving.problems import Problem, busy, model_failed, unanswered
from loopline.serving.records import WorkerSettings
from loopline.serving.repository import Ask
from loopline.serving.shadow import Shadows
from loopline.serving.threads import ModelThreads
from loopline.serving.traces import tracer

logger = logging.getLogger("loopline.serving")


class Engine:
    """Answers calls. Lives in one event loop; `log` may be None (nothing is kept)."""

    def __init__(
        self, settings: WorkerSettings, log: PredictionLog | None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.settings = settings
        self.live: Live = nothing()
        self.previous: Live = self.live
        self.counters = Counters()
        self.draining = False
        """Whether the worker is about to end: it finishes what it has, and is not ready for more."""
        self.ask: Ask | None = None  # how models are loaded and unloaded for a caller; None: they are not
        self._log = log
        self._loop = loop or asyncio.get_running_loop()
        self._calls: list[Call] = []
        self._scheduled = False
        self._in_flight = 0
        self._next = 1
        self.tracer = tracer(settings.trace_to, settings.trace_share, settings.worker)
        self._prefix = log.prefix if log is not None else f"{time.time_ns() // 1_000_000:011x}{settings.worker:02x}-"
        self._counts = Counts(Path(settings.limits) if settings.limits else None, settings.worker)
        self._threads = ModelThreads(self._loop)
        self._explainers = Explainers()
        self._shadows = Shadows(
            self._loop,
            self._threads,
            self.counters,
            limit=settings.shadow_limit,
            idle=lambda: not self._calls,
            write=self._write,
        )

    # ------------------------------------------------------------------ tables

    def known(self) -> dict[str, ServedModel]:
        """The models at hand: of the table in force and of the one before."""
        return {**self.previous.served, **self.live.served}

    def swap(self, live: Live) -> None:
        """Puts a prepared table in force: one assignment. The models of the table before stay warm until others come again."""
        gone: dict[str, ServedModel] = {}
        if live.served.keys() != self.live.served.keys():
            gone = {k: m for k, m in self.known().items() if k not in live.served and k not in self.live.served}
            self.previous = self.live
        for name, endpoint in live.endpoints.items():
            if (policy := endpoint.record.policy).rate:
                endpoint.limit = Buckets(policy.rate, policy.burst, self._counts, name)
        self.live = live
        self.counters.epoch, self.counters.runtimes = live.epoch, live.runtimes
        for model in gone.values():
            self._threads.retire(model)

    # ------------------------------------------------------------------ calls

    def submit(self, call: Call) -> None:
        """Takes a call whose body is complete; it is answered at the end of this turn of the loop, or when its model is done."""
        call.started = call.started or time.perf_counter()
        if self._in_flight >= self.settings.in_flight_limit and call.problem is None:
            call.problem = busy(f"{self._in_flight} requests are being answered, which is the limit.")
        self._in_flight += 1
        self._calls.append(call)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        calls, self._calls = self._calls, []
        live = self.live
        batches: dict[ServedModel, list[Share]] = {}
        for call in calls:
            if call.problem is None:
                try:
                    self._read(call, live, batches)
                except Problem as problem:
                    call.problem = problem
                except Exception as e:
                    logger.exception("A request could not be read")
                    call.problem = model_failed("The server", type(e).__name__)
        for model, shares in batches.items():
            if model.in_loop:
                self._settle(score(model, shares))
            else:
                self._score_later(model, shares)
        self._finish([call for call in calls if not call.pending])

    def _read(self, call: Call, live: Live, batches: dict[ServedModel, list[Share]]) -> None:
        if call.trace is not None:
            call.trace.parsing = time.perf_counter()
        if call.deadline and time.perf_counter() > call.deadline:
            raise too_late()
        route: Route | None = live.paths.get(call.path)
        if route is None:
            route, problem = live.find(call.path.decode("utf-8", "replace"))
            if route is None:
                raise problem or busy("This path is not answered any more.")
        endpoint = call.endpoint = route.endpoint
        call.plain = route.plain
        if call.codec is not None:
            rows = call.codec.read(call, endpoint, self.settings.row_limit)
        elif route.plain:
            rows = endpoint.contract.decode(call.body, self.settings.row_limit)
        else:
            rows, call.columns, call.asked = oip.decode(
                endpoint.contract, call.body, call.json_length, self.settings.row_limit
            )
            call.explains |= call.asked.explains
        if call.explains:
            check_explainable(endpoint)
        call.rows = rows
        if rows.sent is not None:
            call.body = rows.sent
        count = len(rows.rows)
        call.first = self._next
        self._next += count
        call.request = f"{self._prefix}{call.first:08x}"
        call.keys = call.key or rows.route_key or rows.keys
        if rows.unknown:
            for column, n in rows.unknown.items():
                pair = (endpoint.name, column)
                self.counters.unknown[pair] = self.counters.unknown.get(pair, 0) + n
        variant = route.variant or endpoint.only
        if variant is None and not isinstance(call.keys, list):
            variant = endpoint.route(call.keys or call.request)
        if variant is not None:
            share = Share(call, variant, rows.rows, None)
            call.shares = [share]
        else:
            call.shares = split(call, endpoint, rows.rows)
        call.pending = len(call.shares)
        if call.trace is not None:
            call.trace.parsed = time.perf_counter()
        for share in call.shares:
            if (pick := share.variant.pick) is not None:
                share.rows = [pick(row) for row in share.rows]
            model = share.variant.served
            if model in batches:
                batches[model].append(share)
            else:
                batches[model] = [share]

    # ------------------------------------------------------------------ models

    def _settle(self, results: list[Result]) -> None:
        """Hands the outputs of batches to their shares; an exception is the output of a failed one."""
        for shares, output, seconds in results:
            if self.tracer is not None:
                note_run(shares, seconds)
            if isinstance(output, Problem):
                for share in shares:
                    share.problem = output
                    share.call.pending -= 1
                continue
            self.counters.ran(shares[0].variant.counted, seconds, sum(len(share.rows) for share in shares))
            if isinstance(output, Exception):
                model = shares[0].variant.model
                logger.warning("%s failed: %s", model, output)
                for share in shares:
                    share.problem = unanswered(model, output)
                    share.call.pending -= 1
                continue
            values, at = output.tolist(), 0
            finite = math.isfinite(sum(map(sum, values)))  # of few numbers found sooner than by an array
            for share in shares:
                end = at + len(share.rows)
                share.output = values[at:end]
                if not finite and (bad := int((~np.isfinite(output[at:end]).all(axis=1)).sum())):
                    who = share.variant.counted
                    self.counters.invalid[who] = self.counters.invalid.get(who, 0) + bad
                    share.problem = model_failed(share.variant.model, "its output is not a finite number.")
                share.call.pending -= 1
                at = end

    def _score_later(self, model: ServedModel, shares: list[Share]) -> None:
        """Runs a batch in the model's own thread."""

        def done(results: list[Result]) -> None:
            self._settle(results)
            self._finish([c for c in dict.fromkeys(share.call for share in shares) if not c.pending])

        bound = self.settings.opening.timeout

        def work() -> list[Result]:
            # Who waited past its deadline, or longer than the model may take, is told so before any work is done for them.
            now = time.perf_counter()
            left: list[Share] = []
            results: list[Result] = []
            for share in shares:
                call = share.call
                if call.deadline and now > call.deadline:
                    results.append(([share], too_late(), 0.0))
                elif now - call.started > bound:
                    results.append(([share], ModelSlow("it was waited for too long"), 0.0))
                else:
                    left.append(share)
            return [*(score(model, left) if left else []), *results]

        if not self._threads.submit(model, work, done):
            for share in shares:
                share.problem = busy(f"Too many requests wait for {share.variant.model}.")
                share.call.pending -= 1

    # ------------------------------------------------------------------ answers

    def _finish(self, calls: list[Call]) -> None:
        """Logs and answers calls; the log first."""
        if not calls:
            return
        now = time.time_ns() // 1_000_000
        elapsed = time.perf_counter()
        frames: list[bytes] = []
        answers: list[tuple[Call, int, bytes, Headers]] = []
        for call in calls:
            if call.problem is None:
                for share in call.shares:
                    call.problem = call.problem or share.problem
            if call.problem is None:
                try:
                    body, headers = self._body(call, frames, now, elapsed)
                    answers.append((call, 200, body, headers))
                    continue
                except Problem as problem:
                    call.problem = problem
                except Exception as e:  # the others of this turn are answered all the same
                    logger.exception("An answer could not be made")
                    call.problem = model_failed("The server", type(e).__name__)
            answers.append(self._refuse(call, call.problem, frames, now, elapsed))
        logging = time.perf_counter() if self.tracer is not None else 0.0
        if not self._write(frames, now) and self.settings.disk_full == "refuse":
            full = busy("The prediction log cannot be written.", "log-full")
            answers = [(call, full.status, *call.refusal(full)) for call, _, _, _ in answers]
        logged = time.perf_counter() if self.tracer is not None else 0.0
        self._in_flight -= len(calls)
        for call, status, body, headers in answers:
            if len(call.shares) == 1:
                who = call.shares[0].variant.counted
            else:
                who = (call.endpoint.name if call.endpoint is not None else "", "several" if call.shares else "", "")
            count = len(call.rows.rows) if call.rows is not None else 0
            self.counters.answered(who, status, elapsed - call.started, count, now)
            if call.trace is not None:
                headers = (*headers, call.trace.header())
            if call.explains and status == 200:
                self._explainers.begin(self._loop, call, body, headers, self._answer)
            else:
                self._answer(call, status, body, headers)
            if status == 200 and call.endpoint is not None and call.endpoint.shadows:
                self._shadows.add(call, now)
        if self.tracer is not None:
            told = [(call, status) for call, status, _, _ in answers if call.trace is not None]
            if told:
                self._loop.call_soon(self.tracer.end, told, (logging, logged), time.perf_counter())

    def _answer(self, call: Call, status: int, body: bytes, headers: Headers) -> None:
        try:
            call.answer(status, body, headers)
        except Exception:  # a connection that broke this moment is that client's alone
            logger.exception("An answer could not be sent")

    def _body(self, call: Call, frames: list[bytes], now: int, elapsed: float) -> tuple[bytes, Headers]:
        assert call.rows is not None
        assert call.endpoint is not None
        first = call.shares[0].variant
        prefix, shares = call.request[:-8], call.shares
        if len(shares) == 1:
            objects = first.render(prefix, call.first, shares[0].output)
            parts = [first.part]
        else:
            objects = [""] * len(call.rows.rows)
            parts = []
            for share in shares:
                variant, at = share.variant, share.at or []
                parts.append(Part(variant.model, variant.name, "live", variant.propensity, at))
                for n, output in zip(at, share.output, strict=True):
                    objects[n] = variant.render(prefix, call.first + n, [output])[0][:-1] + variant.named
        predictions = ",".join(objects).encode()
        headers: Headers = ()
        if call.codec is not None:
            body, headers = call.codec.write(call)
        elif call.plain:
            body = b"%s%s]}" % (first.head, predictions)
        else:
            body, headers = tensors(call)
        if self._log is not None:
            form = call.rows.form
            sent = call.columns if form == "columns" else call.body
            if (keeping := call.endpoint.keeping) is not None:
                form, sent = keeping.rows(form, sent, call.request)
                call.keys = keeping.keys(call.keys)
            frame = Frame(
                now, call.request, call.endpoint.name, parts, 200, int((elapsed - call.started) * 1e6), form, sent,
                b"[%s]" % predictions, call.keys, "", call.caller,
            )  # fmt: skip
            frames.append(encode(frame))
        return body, headers

    def _refuse(
        self, call: Call, problem: Problem, frames: list[bytes], now: int, elapsed: float
    ) -> tuple[Call, int, bytes, Headers]:
        if not call.request:
            call.request = f"{self._prefix}{self._next:08x}"
            self._next += 1
        endpoint = call.endpoint.name if call.endpoint is not None else ""
        self.counters.refused(endpoint, problem.error.code)
        if self._log is not None:
            parts = [call.shares[0].variant.part] if call.shares else []
            frame = Frame(
                now, call.request, endpoint, parts, problem.status, int((elapsed - call.started) * 1e6), "none", b"", b"",
                None, problem.error.code, call.caller,
            )  # fmt: skip
            frames.append(encode(frame))
        return call, problem.status, *call.refusal(problem)

    # ------------------------------------------------------------------ the log

    def _write(self, frames: list[bytes], now: int = 0) -> bool:
        """Writes frames at once; False where the log cannot take them."""
        if self._log is None or not frames:
            return True
        try:
            self._log.append(frames, now or time.time_ns() // 1_000_000)
        except OSError as e:
            self.counters.log_errors += 1
            logger.error("The prediction log cannot be written: %s", e)
            return False
        self.counters.log_bytes += sum(map(len, frames))
        if self._log.prefix != self._prefix:
            self._prefix, self._next = self._log.prefix, 1
        return True

    @property
    def in_flight(self) -> int:
        """Requests that are taken and not yet answered."""
        return self._in_flight

    def totals(self) -> tuple[Counters, int]:
        """The counts of all workers of the port, and how many workers that were."""
        self.counters.in_flight, self.counters.waiting = self._in_flight, self._threads.waiting
        if not self.settings.metrics:
            return self.counters, 1
        return gather(self.counters, Path(self.settings.metrics), self.settings.worker)

    def upkeep(self) -> None:
        """Rotates the log where it is time; the idle worker's part of what `append` does."""
        now = time.time_ns() // 1_000_000
        if self._log is not None and self._log.due(now):
            try:
                self._log.rotate(now)
            except OSError as e:
                self.counters.log_errors += 1
                logger.error("The prediction log cannot be rotated: %s", e)
            self._prefix, self._next = self._log.prefix, 1

    def sync(self) -> None:
        """Brings the log to the disk, where something is new. Not for the event loop: the disk takes its time."""
        if self._log is not None and self._log.unsynced:
            try:
                self._log.sync()
            except OSError as e:
                self.counters.log_errors += 1
                logger.error("The prediction log cannot be synced: %s", e)

    def discard(self, live: Live) -> None:
        """Frees the models of a prepared table that does not come into force."""
        known = self.known()
        for key, model in live.served.items():
            if key not in known:
                self._threads.retire(model)

    def close(self) -> None:
        """Closes the log and frees the models."""
        for model in self.known().values():
            self._threads.retire(model)
        if self._log is not None:
            self._log.close()
            self._log = None
        if self.tracer is not None:
            self.tracer.close()
            self.tracer = None
