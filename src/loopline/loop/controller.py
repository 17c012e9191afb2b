"""What a running platform does by itself, one tick at a time.

Each tick takes in what was answered, looks at what is due, turns alerts into runs, and moves rollouts. Every action is a verb of
its own with its own entry; the controller holds no state that a restart would lose.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from loopline.deployment.judge import decide
from loopline.deployment.records import CHALLENGER, CHAMPION, Comparison, Rollout
from loopline.errors import LooplineError
from loopline.loop.house import House
from loopline.loop.records import LoopRequest
from loopline.loop.standing import Standing
from loopline.outcomes.records import SHADOWED
from loopline.ports.clock import Clock
from loopline.ports.predictor import Predictor
from loopline.refs import parse

log = logging.getLogger("loopline.controller")


class Running(Protocol):
    """A run of a loop in a process of its own."""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        ...


class Controller:
    """Ticks for one project. `launch` starts a run for a request; `route` puts the routing table in force where it changed.

    `standing` tells what there is to look after. What there is nothing of is not asked for either, and its room not loaded.
    """

    def __init__(
        self,
        house: House,
        clock: Clock,
        *,
        launch: Callable[[LoopRequest], Running],
        route: Callable[[], None],
        open_model: Callable[[str], Predictor],
        standing: Callable[[], Standing],
    ) -> None:
        self.house = house
        self.clock = clock
        self._launch = launch
        self._route = route
        self._open_model = open_model
        self._standing = standing
        self._seen: Standing | None = None
        self._failed = False
        self._runs: dict[str, Running] = {}

    def due(self) -> bool:
        """Whether a tick may find something to do: something changed since the last one, or failed in it, or time moves it."""
        now = self._glance()
        return now is None or now != self._seen or now.moves or self._failed or bool(self._runs)

    def tick(self) -> None:
        """One turn. What fails is logged and tried again at the next; it keeps nothing else from happening."""
        self._seen = seen = self._glance()
        self._failed = False
        if seen is None or seen.logged:
            self._attempt(self.house.predictions.collect)
        if seen is None or seen.monitored:
            self._attempt(self._looks)
        self._attempt(self._requests)
        if seen is None or seen.rolling:
            self._attempt(self._rollouts)
        self._attempt(self._route)

    def _glance(self) -> Standing | None:
        """What there is to look after; None where that cannot be told now."""
        try:
            return self._standing()
        except Exception:
            log.exception("The database could not be looked at; it is tried again.")
            return None

    def _attempt(self, part: Callable[[], object]) -> None:
        try:
            part()
        except LooplineError as e:
            self._failed = True
            log.warning("%s", e)
        except Exception:
            self._failed = True
            log.exception("A part of the controller's turn failed; it is tried again.")

    def _looks(self) -> None:
        for monitor in self.house.monitors.list():
            self._attempt(partial(self._look, monitor.endpoint))

    def _look(self, endpoint: str) -> None:
        look = self.house.monitors.look(endpoint)
        if look.alert:
            log.info("%s: %s", look.alert, look.summary)

    def _requests(self) -> None:
        heeded = self.house.loops.heed()
        for why in heeded.passed_over:
            log.info("%s", why)
        for request in self.house.loops.requests("running"):
            # Started by a controller that is gone: the run takes itself up where it was.
            if request.id not in self._runs:
                self._runs[request.id] = self._launch(request)
        for request in self.house.loops.requests("asked"):
            if request.alert and self._closed(request.alert):
                self.house.loops.settle(request.id, "withdrawn", f"{request.alert} was closed")
            elif (waits := self._waits(request)) is None:
                self.house.loops.settle(request.id, "running")
                self._runs[request.id] = self._launch(request)
            elif waits != request.message:
                self.house.loops.settle(request.id, "asked", waits)
        for request in self.house.loops.requests("waiting"):
            if self._answered(request):  # a person said yes or no: the run goes on, or ends
                self.house.loops.settle(request.id, "running")
                self._runs[request.id] = self._launch(request)
        for key, running in list(self._runs.items()):
            code = running.poll()
            if code is None:
                continue
            del self._runs[key]
            if any(r.id == key for r in self.house.loops.requests("running")):
                self.house.loops.settle(key, "failed", f"the run ended with exit code {code}")

    def _answered(self, request: LoopRequest) -> bool:
        """Whether nothing of the loop waits for a person any more, and no rollout is under way."""
        asked = self.house.models.approvals(request.loop, decision="open")
        return not asked and not self.house.rollouts.list(request.loop, status="running")

    def _closed(self, alert: str) -> bool:
        """Whether somebody has dealt with the alert."""
        return self.house.alerts.show(parse(alert, "alert", self.house.project).name).status == "closed"

    def _waits(self, request: LoopRequest) -> str | None:
        """What an asked run waits for: a rollout's end and, where an alert asked, as many labelled rows as the loop wants."""
        if under_way := self.house.rollouts.list(request.loop, status="running"):
            return f"the rollout {under_way[0].id} is under way"
        rule = self.house.loops.show(request.loop).declaration.get("retrain")
        if not rule or not request.alert:
            return None
        variants = self.house.predictions.traffic(request.loop).variants
        labelled = sum(v.labelled for name, v in variants.items() if not name.endswith(SHADOWED))
        wanted = int(rule["at_least"])
        return None if labelled >= wanted else f"{wanted:,} answered rows must have their label"

    def _rollouts(self) -> None:
        for rollout in self.house.rollouts.list(status="running"):
            self._attempt(partial(self._move, rollout))

    def _move(self, rollout: Rollout) -> None:
        """Takes a rollout on, where its figures say so, and back, where its challenger learnt from what is withdrawn since."""
        if bad := self._unsound(rollout.challenger):
            self.house.rollouts.decide(
                rollout.id, "roll_back", f"{rollout.challenger} learnt from {bad}, which is withdrawn"
            )
            return
        variants = self.house.predictions.traffic(rollout.endpoint, since=rollout.stage_since).variants
        shadowed = rollout.plan.stages[rollout.stage].kind == "shadow"
        champion = variants.get(CHAMPION)
        challenger = variants.get(CHALLENGER + SHADOWED if shadowed else CHALLENGER)
        decision, reason, measured = decide(
            rollout, self.clock.now(), champion, challenger, partial(self._comparison, rollout)
        )
        if decision == "wait":
            return
        if decision == "promote":
            # Before the promotion, so that one which is cut off in between is decided and done again.
            self._watch_anew(rollout)
        self.house.rollouts.decide(rollout.id, decision, reason, measured)
        log.info("rollout %s: %s, %s", rollout.id, decision, reason)

    def _unsound(self, model: str) -> str:
        """The withdrawn dataset version that a model version learnt from; empty where there is none."""
        return next(iter(self.house.datasets.unsound((model,)).values()), "")

    def _watch_anew(self, rollout: Rollout) -> None:
        """Watches the endpoint against the rows that its next champion learnt from, and closes the alerts that it answers."""
        declared = {loop.name: loop for loop in self.house.loops.list()}.get(rollout.endpoint)
        if declared is not None:
            from loopline.loop.watching import watch

            watch(self.house, rollout.endpoint, declared.declaration, rollout.challenger)
        for alert in self.house.alerts.list(rollout.endpoint, status="open"):
            self.house.alerts.change(alert.id, "closed", comment=f"answered by {rollout.challenger}")

    def _comparison(self, rollout: Rollout) -> Comparison | None:
        from loopline.loop.compare import compare
        from loopline.loop.live import answered

        labelled = answered(self.house, rollout.endpoint, since=rollout.started, labelled=True)
        return compare(rollout, labelled, self._open_model(rollout.champion), self._open_model(rollout.challenger))
