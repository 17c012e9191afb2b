"""`loopline score --from ... --to ...`: a stream, scored until it is ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli.progress import event, tell
from loopline.cli.serve import is_folder, wanted
from loopline.cli.session import session, settings_of

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.serving.records import Endpoint, Variant
    from loopline.serving.streams import Progress

logger = logging.getLogger("loopline")
_SHOWN = 10.0
"""Seconds between two lines of progress; on a terminal it is one."""
_LOOK = 2.0
_GRACE = 10.0
"""Seconds that what was taken is still tried to be answered, once it is to end."""


def stream(
    ctx: click.Context,
    model: str,
    source: str,
    options: tuple[str, ...],
    target: str,
    aside: str | None,
    to_options: tuple[str, ...],
    folder: Path,
    *,
    endpoint: str | None,
    json: bool,
) -> None:
    """Scores until SIGTERM or Ctrl-C."""
    from loopline.data.secrets import Opened, check_no_secret
    from loopline.foreign import inflow, outflow
    from loopline.loop.lease import held
    from loopline.packaging.opening import opening_of
    from loopline.serving.fetched import Bundles
    from loopline.serving.messages import Model
    from loopline.serving.stream_log import StreamLog
    from loopline.serving.stream_traces import Traces
    from loopline.serving.streams import Scoring
    from loopline.serving.traces import tracer

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    ended: list[float] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(time.monotonic()))
    given, going = _read(options), _read(to_options)
    for address, said in ((source, given), (target, going), (aside or target, going)):
        check_no_secret(address, said)
    came, goes = Opened(source, given), Opened(target, going)
    beside = Opened(aside or _beside(target), going)
    settings = settings_of(ctx)
    opening = opening_of(settings)
    shown = _Shown(json=json)
    with contextlib.ExitStack() as opened:
        named = endpoint is not None or not is_folder(model)
        registry = opened.enter_context(session(ctx)) if named else None
        what = wanted(registry, model)
        opened.enter_context(held(folder, "loopline score"))
        bundles = Bundles(folder.absolute() / "bundles", registry)
        variant = bundles.variant(what)
        stands = None if registry is None else _Standing(registry, endpoint, variant, here=not ctx.obj["server"])
        record = None if stands is None else stands.record()
        first = Model(variant, opening, record)
        opened.callback(first.close)
        bundles.keep([first.variant])
        looked = time.monotonic()

        def follow(ref: str) -> Variant | None:
            nonlocal looked
            if time.monotonic() - looked < _LOOK:
                return None
            looked = time.monotonic()
            return bundles.moved(what, ref)

        with came.hiding(), goes.hiding(), beside.hiding():
            sink = outflow(goes.address, goes.options)
            opened.callback(sink.close)
            refused = outflow(beside.address, beside.options)
            opened.callback(refused.close)
            on_disk = None if ctx.obj["server"] else record  # of a server elsewhere the log stays here
            kept = folder.absolute() / "log"
            if on_disk is not None:
                kept = settings.workspace.absolute() / "serving" / "log"
            log = StreamLog(kept, sync=settings.log_sync, full=settings.log_full)
            opened.callback(log.close)
            traces = Traces(
                tracer(settings.trace_to, settings.trace_share, os.getpid()), source.partition(":")[0].removesuffix("s")
            )
            opened.callback(traces.close)
            group = f"loopline.{first.name}.{target.rpartition('/')[2]}"
            scoring = Scoring(
                first,
                lambda: inflow(came.address, came.options, group=group, kept=folder.absolute()),
                sink,
                refused,
                opening=opening,
                follow=follow,
                stopped=lambda: bool(ended),
                given_up=lambda: bool(ended) and time.monotonic() - ended[0] > _GRACE,
                every=shown,
                log=log,
                traces=traces,
                record=(lambda: None) if stands is None else stands.record,
            )
            shown.begins(first.variant.model, source, target, aside or _beside(target))
            shown.keeps("" if on_disk is None else on_disk.name, kept)
            shown.ends(scoring.run())


class _Standing:
    """The endpoint that a stream answers as, by what is declared of it now."""

    def __init__(self, session: Session, endpoint: str | None, variant: Variant, *, here: bool) -> None:
        """Raises `NotFound` for an `endpoint` that is named and not there, `Conflict` for one of another model.

        `here`: the workspace is on this disk.
        """
        from loopline.errors import Conflict
        from loopline.refs import parse

        self._session = session
        self._here = here
        self._looked = time.monotonic()
        self._epoch = -1
        self._known: Endpoint | None = None
        self._said = ""
        model = parse(variant.model, "model", session.project).name
        self._name = endpoint or model
        found = {one.name: one for one in session.endpoints.list()}
        self._there = endpoint is not None or self._name in found
        if self._name in found and found[self._name].model != model:
            if endpoint is not None:
                raise Conflict(
                    f"{endpoint!r} serves the model {found[endpoint].model!r}, and {variant.model} is another.",
                    code="other-model",
                    hint="Name an endpoint of that model, or none.",
                )
            self._there = False
        if self._there:
            self._look()

    def record(self) -> Endpoint | None:
        """It, looked up again every other second; None where it is not there."""
        if self._there and time.monotonic() - self._looked >= _LOOK:
            from loopline.errors import LooplineError

            try:
                self._look()
                self._said = ""
            except LooplineError as e:  # it was removed, or the server is away: what it said last holds
                if str(e) != self._said:
                    self._said = str(e)
                    logger.warning("%s cannot be asked for now, and what it said before holds: %s", self._name, e)
        return self._known

    def _look(self) -> None:
        import msgspec

        from loopline.deployment.service import routed_name
        from loopline.serving.records import Endpoint

        self._looked = time.monotonic()
        found = self._session.endpoints.show(self._name)
        if found.epoch == self._epoch:
            return
        if self._here:
            address = routed_name(self._session.project, self._name)
            self._known = self._session.endpoints.routes().endpoints.get(address, self._known)
        else:  # the key of hashes stays at the server: what it would hash is not kept here
            policy = found.policy
            hidden = (*policy.hidden, *policy.hashed)
            policy = msgspec.structs.replace(policy, hidden=hidden, hashed=())
            self._known = Endpoint(
                name=self._name,
                variants=(),
                route_key=found.route_key,
                passthrough=found.passthrough,
                optional=found.optional,
                policy=policy,
            )
        self._epoch = found.epoch


class _Shown:
    """How far it is: lines for people, events for programs; on a terminal one line that changes."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._live = not json and sys.stderr.isatty()
        self._last = time.monotonic()
        self._first = True
        self._model = ""
        self._trouble = ""

    def begins(self, model: str, source: str, target: str, aside: str) -> None:
        self._model = model
        if self._json:
            event("scoring", model=model, source=source, target=target, aside=aside)
            return
        tell(f"{source} is scored by {model}: answers go to {target}, what cannot be answered to {aside}.")
        tell("End it with Ctrl-C.")

    def keeps(self, endpoint: str, folder: Path) -> None:
        """Says where answers are on record."""
        if self._json:
            event("record", endpoint=endpoint, folder=str(folder))
        elif endpoint:
            tell(f"What is answered is on the record of endpoint:{endpoint}: loopline predictions ls {endpoint}")
        else:
            tell(f"The prediction log is in {folder}.")

    def __call__(self, progress: Progress) -> None:
        if progress.model != self._model:
            self._model = progress.model
            self._say(f"{progress.model} answers now.", "model", progress)
        if progress.trouble != self._trouble:
            self._trouble = progress.trouble
            self._say(progress.trouble or "It goes on.", "trouble", progress)
        now = time.monotonic()
        if (self._first and progress.answered) or now - self._last >= (0.5 if self._live else _SHOWN):
            self._first, self._last = False, now
            if self._live:
                click.echo(f"\r\x1b[K{_line(progress)}", nl=False, err=True)
            else:
                self._say(_line(progress), "progress", progress)

    def ends(self, progress: Progress) -> None:
        self._say(f"{_line(progress)}. It ends, and goes on from here when it is begun again.", "ended", progress)

    def _say(self, line: str, name: str, progress: Progress) -> None:
        if self._json:
            event(
                name, answered=progress.answered, aside=progress.aside, waiting=progress.waiting, model=progress.model,
                model_seconds=round(progress.seconds, 3), trouble=progress.trouble,
            )  # fmt: skip
            return
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)
        tell(line)


def _line(progress: Progress) -> str:
    waiting = "" if progress.waiting is None else f", {progress.waiting:,} wait"
    return f"{progress.answered:,} answered, {progress.aside:,} aside{waiting}"


def _beside(target: str) -> str:
    return f"{target}.refused" if target.startswith("kafka:") else f"{target}/refused"


def _read(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{text!r} is no option of a stream: write KEY=VALUE.")
        found[key] = value
    return found
