"""Whether things rest on a withdrawn dataset version: a version, a run that read one, a model version that learnt from either."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from loopline.data.tables import dataset_versions
from loopline.database import Tx
from loopline.errors import LooplineError, Refused
from loopline.ledger.lineage import made_from
from loopline.prepared import Prepared
from loopline.refs import Ref, parse
from loopline.tracking.reading import inputs_of

_C = dataset_versions.c
_WITHDRAWN = Prepared(
    sa.select(_C.name, _C.version, _C.withdrawn).where(
        _C.project == sa.bindparam("in_project"), _C.withdrawn.is_not(None)
    )
)


class Soundness:
    """What is withdrawn in the project of a transaction, as it was at the first question; `row_of` finds a version by its ref."""

    def __init__(self, tx: Tx, row_of: Callable[[str], Any]) -> None:
        self._tx = tx
        self._row_of = row_of
        bad = tx.rows(_WITHDRAWN, {"in_project": tx.project})
        self._withdrawn = {tx.ref("data", row.name, row.version): row for row in bad}
        self._known: dict[str, Any] = {}

    def bad(self, ref: str) -> Any:
        """The row of the withdrawn version that a thing is or was made from; None where there is none.

        Datasets lead to what they were made from, runs to what they and the runs around them read, model versions to what their
        entries say. Nothing of other projects is looked at.
        """
        seen, found = set[str](), None
        waiting = [ref] if self._withdrawn else []
        while waiting and found is None:
            named = parse(waiting.pop(), project=self._tx.project)
            one = str(named)
            if named.project != self._tx.project or one in seen:
                continue
            seen.add(one)
            if one in self._known:
                found = self._known[one]
            elif named.kind == "data" and named.version is not None:
                try:
                    row = self._row_of(one)
                except LooplineError:  # a tag that was taken away, or what never was
                    continue
                found = self._withdrawn.get(self._tx.ref("data", row.name, row.version))
                waiting += row.inputs
            else:
                waiting += self._behind(named)
        self._known |= {ref: found} if found is not None else dict.fromkeys(seen)
        return found

    def check(self, refs: Iterable[str]) -> None:
        """Raises `Refused` where one of the things is or was made from a withdrawn version."""
        for ref in refs:
            if (row := self.bad(ref)) is not None:
                raise Refused(
                    f"{self._tx.ref('data', row.name, row.version)} is withdrawn ({row.withdrawn}): nothing is learned or decided "
                    "from it any more.",
                    code="data-withdrawn",
                    hint=f"Use another version; `loopline data log {row.name}` lists them.",
                )

    def _behind(self, named: Ref) -> list[str]:
        if named.kind == "run":
            return inputs_of(self._tx, named.name)
        if named.kind == "model" and named.version is not None:
            return made_from(self._tx, str(named))
        return []
