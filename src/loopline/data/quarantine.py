"""The quarantined rows of a version, and what is decided about them: held, taken after all, or never taken.

The rows stay where they were written; a decision names them by their places. Each row has one decision at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import sqlalchemy as sa
from numpy.typing import NDArray

from loopline.data.reconcile import CONTENT
from loopline.data.records import Decision, Quarantine
from loopline.data.tables import quarantine_decisions
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.quality.contract_check import PERSONAL, REASON, RULE

ROW = "_row"
Mask = NDArray[np.bool_]
_C = quarantine_decisions.c


def all_held(source: str, name: str, broken: Mapping[str, int], way_out: str = "the contract") -> Invalid:
    """What is told where every row is held back, by the rules that it broke first; no version is made then."""
    worst = max(broken, key=broken.__getitem__)
    return Invalid(
        f"No row of {source} can be taken into {name}: {worst!r} alone holds back {broken[worst]:,}.",
        code="all-quarantined",
        hint=f"Mend the data, or {way_out}.",
    )


class Held:
    """The quarantine of one version, by its row in the table; `read` gives the frame."""

    def __init__(self, tx: Tx, row: Any, ref: str, read: Callable[[Any], pl.DataFrame]) -> None:
        self.tx = tx
        self.row = row
        self.ref = ref
        self._read = read

    def listed(self, rule: str | None, limit: int, *, hidden: Collection[str] = ()) -> Quarantine:
        """The counts, and the first rows that are still held; of `hidden` columns, and of what may hold one, no value is shown."""
        decided = self._decided()
        shown: tuple[dict[str, Any], ...] = ()
        secret = {*hidden, CONTENT} if hidden else set[str]()
        counts = {word: sum(d.rows for d in decided if d.decision == word) for word in ("released", "dropped")}
        if self.row.quarantined:
            frame = self._frame()
            held = self._still(decided)
            if rule is not None:
                held &= self._of_rule(frame, rule)
            numbered = frame.with_row_index(ROW, offset=1).filter(held)
            shown = tuple(
                {
                    column: PERSONAL if column in secret and value is not None else _text(value)
                    for column, value in row.items()
                }
                for row in numbered.head(limit).to_dicts()
            )
        return Quarantine(
            ref=self.ref,
            rows=self.row.quarantined,
            held=self.row.quarantined - sum(counts.values()),
            broken=self.row.broken,
            shown=shown,
            **counts,
        )

    def chosen(self, rule: str | None, rows: Sequence[int] | None, reason: str) -> Mask:
        """Which rows are meant: those held that broke the rule first, those of the numbers given, or all held. Raises `Invalid` for
        none, `Conflict` for a row that is decided already."""
        if not reason.strip():
            raise Invalid("Nothing is decided without a reason.", code="no-reason", hint="Say why.")
        if rule is not None and rows is not None:
            raise Invalid("Both a rule and numbers of rows are given.", code="bad-rows", hint="Give one of the two.")
        still = self._still(self._decided())
        if rows is None:
            meant = still & self._of_rule(self._frame(), rule) if rule is not None and len(still) else still
        else:
            meant = np.zeros(len(still), bool)
            for number in rows:
                if not 1 <= number <= len(still):
                    raise Invalid(
                        f"{self.ref} has {len(still):,} quarantined rows, and none of the number {number}.",
                        code="bad-rows",
                        hint="`loopline data quarantine list` numbers them.",
                    )
                if not still[number - 1]:
                    raise Conflict(
                        f"Row {number} of the quarantine of {self.ref} is decided already.", code="row-decided"
                    )
                meant[number - 1] = True
        if not meant.any():
            raise Invalid(
                f"No quarantined row of {self.ref} is held{f' for {rule!r}' if rule else ''}.", code="nothing-held"
            )
        return meant

    def taken(self, chosen: Mask) -> pl.DataFrame:
        """The chosen rows as they came. Raises `Invalid` (code "not-a-row") where one of them fits no columns."""
        found = self._frame().filter(chosen).drop(RULE, REASON)
        if CONTENT not in found.columns:
            return found
        if found[CONTENT].is_not_null().any():
            raise Invalid(
                f"Some of these rows of {self.ref} do not fit its columns, or are no rows at all.",
                code="not-a-row",
                hint="Mend them where they come from; or release the others by --rule or --row.",
            )
        return found.drop(CONTENT)

    def decide(self, decision: Literal["released", "dropped"], chosen: Mask, reason: str, into: str) -> Decision:
        """Writes a decision down."""
        self.tx.write()
        decided = self._decided()
        if (chosen & ~self._still(decided)).any():
            raise Conflict(
                f"Some of these rows of {self.ref} were decided meanwhile.", code="row-decided", hint="List them again."
            )
        edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
        stretches = [[int(start), int(end - start)] for start, end in edges.reshape(-1, 2)]
        made: dict[str, Any] = {
            "decision": decision,
            "rows": int(chosen.sum()),
            "into": into,
            "reason": reason,
            "at": self.tx.now,
            "by": self.tx.principal,
        }
        self.tx.execute(
            quarantine_decisions.insert().values(
                project=self.row.project,
                name=self.row.name,
                version=self.row.version,
                number=len(decided) + 1,
                stretches=stretches,
                **made,
            )
        )
        self.tx.note(
            digests={"rows": digest_json(stretches), "decision": digest_json(decision), "reason": digest_json(reason)}
        )
        held = int(self._still(decided).sum() - chosen.sum())
        return Decision(ref=self.ref, held=held, **made)

    def _frame(self) -> pl.DataFrame:
        return self._read(self.row)

    def _decided(self) -> Sequence[Any]:
        at = (_C.project == self.row.project, _C.name == self.row.name, _C.version == self.row.version)
        return self.tx.rows(sa.select(quarantine_decisions).where(*at).order_by(_C.number))

    def _still(self, decided: Sequence[Any]) -> Mask:
        """Which rows no decision names."""
        still = np.ones(self.row.quarantined, bool)
        for decision in decided:
            for start, count in decision.stretches:
                still[start : start + count] = False
        return still

    def _of_rule(self, frame: pl.DataFrame, rule: str) -> Mask:
        if rule not in self.row.broken:
            raise NotFound(
                f"No row of {self.ref} broke a rule {rule!r}.",
                code="no-rule",
                hint=did_you_mean(rule, self.row.broken),
            )
        return (frame[RULE] == rule).to_numpy()


def _text(value: Any) -> Any:
    """A value as JSON can hold it: bytes that no table could take as the text that they are, for the most part."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
