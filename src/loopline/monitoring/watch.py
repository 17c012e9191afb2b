"""Drift over time: many looks, and a stated number of false alarms over the whole period.

The watch looks at each window of rows, and at every aligned run of 2, 4, 8, ... windows taken together, so that it sees
a large change at once and a small one as soon as the rows suffice. The budget of false alarms is shared evenly by these
lengths; a look at one length spends its share divided by how many such looks the period holds (alpha spending by a union
bound, in expectation). Expectations add up however dependent the looks are, so the expected number of false alarms over
the period is at most the budget whenever each single comparison keeps its own level.

What is claimed: this holds for rows that are independent, that come in groups (a reference profiled with `groups=`), or
that depend on their neighbours over stretches shorter than a block (a reference in time order, profiled with `blocks=`).
What is not: a season or regime that lasts longer than the blocks, or that the reference never saw, is drift to a watch.
Groups of very unlike size are allowed for in the tails too (`statistics/clumps.py`): a patient of forty visits, who fills a rare
level of a small window, is no drift.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from loopline.errors import Invalid
from loopline.quality.drift import MINIMUM_EFFECT, compare, glance
from loopline.quality.drift_records import DriftReport
from loopline.quality.profile_records import Profile

_DAY: Final = 86_400_000
PERIODS: Final = {
    "hour": _DAY // 24,
    "day": _DAY,
    "week": 7 * _DAY,
    "month": 30 * _DAY,
    "quarter": 91 * _DAY + _DAY // 4,
    "year": 365 * _DAY + _DAY // 4,
}
_LENGTHS: Final = 10  # runs of 1 to 512 windows
_LEVEL: Final = 0.2  # no single look spends more
_KEPT: Final = 512  # looks whose distances are kept, to tell since when


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `alarms` expected false alarms in `looks` looks."""

    alarms: float
    looks: int

    @classmethod
    def parse(cls, text: str, *, every: int) -> Budget:
        """From "1/quarter" or "2/month", with a look each `every` milliseconds. Raises Invalid on any other text."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*([a-z]+)\s*", text)
        if found is None or found[2] not in PERIODS or float(found[1]) <= 0:
            raise Invalid(
                f"{text!r} is no budget of false alarms.",
                code="bad-budget",
                hint=f"Write 1/quarter, for one; periods are {', '.join(PERIODS)}.",
            )
        if every < 1:
            raise Invalid(f"A look each {every} ms is none.", code="bad-budget", hint="Give at least 1 ms.")
        return cls(alarms=float(found[1]), looks=max(1, PERIODS[found[2]] // every))

    def share(self, part: float) -> Budget:
        """A part of the alarms, for one of several watches over the same looks."""
        return Budget(alarms=self.alarms * part, looks=self.looks)

    @property
    def lengths(self) -> int:
        """Over how many lengths of run the budget is shared."""
        return min(_LENGTHS, int(math.log2(self.looks)) + 1)

    def level(self, length: int) -> float:
        """The false alarm rate of one look at a run of 2**length windows."""
        return min(_LEVEL, self.alarms / self.lengths / max(1, self.looks >> length))


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Some windows taken together; `start` and `end` in milliseconds."""

    start: int
    end: int
    profile: Profile


class Distance(msgspec.Struct, frozen=True, kw_only=True):
    """How far each column was from the reference in one window."""

    start: int
    rows: int
    columns: dict[str, float]


class WatchState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a watch stands: JSON between two looks.

    `pending[i]` is a run of 2**i windows that waits for its other half; `raised` are the columns already told of.
    """

    budget: Budget
    looks: int = 0
    pending: tuple[Run | None, ...] = ()
    raised: tuple[str, ...] = ()
    history: tuple[Distance, ...] = ()

    def to_json(self) -> bytes:
        """The state as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> WatchState:
        """The state again; Invalid where the text is none."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as exc:
            raise Invalid(f"This is no state of a watch: {exc}.", code="watch-unreadable", hint="Start anew.") from exc


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Drift that a look found: `columns` not told of before, the window range looked at, since when, and the report."""

    at: int
    start: int
    since: int
    columns: tuple[str, ...]
    level: float
    report: DriftReport


def begin(budget: Budget) -> WatchState:
    """A watch before its first look; begin again whenever the reference changes."""
    return WatchState(budget=budget)


def fitting(state: WatchState, reference: Profile) -> WatchState:
    """The state without runs of other columns than those watched from now on: they cannot be taken together with new ones."""
    kept = (
        r if r is not None and r.profile.columns.keys() == reference.columns.keys() else None for r in state.pending
    )
    return msgspec.structs.replace(state, pending=tuple(kept))


def look(
    state: WatchState,
    reference: Profile,
    window: Profile,
    *,
    start: int,
    end: int,
    minimum_effect: float = MINIMUM_EFFECT,
) -> tuple[WatchState, Finding | None]:
    """One look at the rows of a window (`start` to `end`, in milliseconds): the next state, and what was found, if anything.

    `window` is profiled against `reference`. A column is told of once; windows come in the order of time. Raises Invalid
    where the window's columns or edges are not those of the windows before.
    """
    run = Run(start=start, end=end, profile=window)
    first = glance(reference, window, level=state.budget.level(0), minimum_effect=minimum_effect)
    past = Distance(start=start, rows=window.rows, columns={n: round(d, 5) for n, d in first.distances.items()})
    history = (*state.history, past)[-_KEPT:]
    pending = list(state.pending)
    found: list[tuple[int, Run, tuple[str, ...]]] = []
    told, drifted, length = set(state.raised), first.drifted, 0
    while True:
        new = tuple(name for name in drifted if name not in told)
        if new:
            found.append((length, run, new))
            told.update(new)
        if length + 1 >= state.budget.lengths:
            break
        if len(pending) <= length:
            pending.append(None)
        waiting = pending[length]
        if waiting is None:
            pending[length] = run
            break
        pending[length] = None
        run = Run(start=waiting.start, end=run.end, profile=waiting.profile.merge(run.profile))
        length += 1
        level = state.budget.level(length)
        drifted = glance(reference, run.profile, level=level, minimum_effect=minimum_effect).drifted
    after = WatchState(
        budget=state.budget,
        looks=state.looks + 1,
        pending=tuple(pending),
        raised=(*state.raised, *(name for _, _, names in found for name in names)),
        history=history,
    )
    if not found:
        return after, None
    length, run, _ = found[-1]  # the longest run says most of all it found
    columns = tuple(name for _, _, names in found for name in names)
    level = state.budget.level(length)
    report = compare(reference, run.profile, false_alarms=level, minimum_effect=minimum_effect)
    since = min(_since(history, name) for name in columns)
    return after, Finding(at=end, start=run.start, since=since, columns=columns, level=level, report=report)


def _since(history: tuple[Distance, ...], column: str) -> int:
    """The start of the window at which the column most likely left the reference (a likelihood ratio against no distance)."""
    best, since = -1.0, history[-1].start
    total = weight = 0.0
    for past in reversed(history):
        total += past.rows * past.columns.get(column, 0.0)
        weight += past.rows
        gain = total * total / weight if weight else 0.0
        if gain > best:
            best, since = gain, past.start
    return since
