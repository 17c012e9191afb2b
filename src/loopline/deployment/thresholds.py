"""Decision thresholds: from which probability on an endpoint calls a row positive, changed without a new model version."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa

from loopline.database import Tx
from loopline.deployment.records import Threshold
from loopline.deployment.tables import thresholds
from loopline.errors import Conflict, Invalid


class Thresholds:
    """Those of one project's endpoints: a series for each model version at an endpoint, numbered over the endpoint."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def current(self, project: str, endpoint: str, model: str) -> dict[int, tuple[int, float | None]]:
        """Number and value in force by model version; a version that is not there has the one it was packaged with."""
        found = self.tx.rows(
            sa.select(thresholds.c.model_version, thresholds.c.number, thresholds.c.value)
            .where(thresholds.c.project == project, thresholds.c.endpoint == endpoint, thresholds.c.model == model)
            .order_by(thresholds.c.number)
        )
        return {row.model_version: (row.number, row.value) for row in found}

    def history(self, endpoint: str) -> list[Threshold]:
        """All of an endpoint, oldest first."""
        found = self.tx.rows(
            sa.select(thresholds)
            .where(thresholds.c.project == self.tx.project, thresholds.c.endpoint == endpoint)
            .order_by(thresholds.c.number)
        )
        return [self._record(row) for row in found]

    def put(self, endpoint: str, model: str, version: int, value: float | None, how: str, reason: str) -> Threshold:
        """The next one. `value` None: that of the package again. Raises `Invalid` for what is no probability, or no reason."""
        if value is not None and not 0 <= value <= 1:
            raise Invalid(f"{value!r} is no threshold.", code="bad-threshold", hint="Give a probability, from 0 to 1.")
        if not reason.strip():
            raise Invalid("A threshold is changed for a reason only.", code="no-reason", hint="Say why.")
        number = 1 + int(
            self.tx.scalar(
                sa.select(sa.func.count())
                .select_from(thresholds)
                .where(thresholds.c.project == self.tx.project, thresholds.c.endpoint == endpoint)
            )
        )
        self.tx.execute(
            thresholds.insert().values(
                project=self.tx.project,
                endpoint=endpoint,
                number=number,
                model=model,
                model_version=version,
                value=None if value is None else float(np.float32(value)),  # as it is compared
                how=how,
                reason=reason,
                at=self.tx.now,
                by=self.tx.principal,
            )
        )
        return self.history(endpoint)[-1]

    def roll_back(self, endpoint: str, model: str, version: int, reason: str) -> Threshold:
        """The one before again, or that of the package. Raises `Conflict` where nothing was changed."""
        series = [one for one in self.history(endpoint) if one.model == self.tx.ref("model", model, version)]
        if not series:
            raise Conflict(
                f"The threshold of {self.tx.ref('model', model, version)} at {endpoint} was never changed.",
                code="no-threshold",
                hint="It is the one that the version was packaged with.",
            )
        kept: list[float | None] = [None]  # as a person undoes: each step back goes behind the one before
        for one in series:
            if one.how == "set":
                kept.append(one.value)
            else:
                kept.pop()
        if len(kept) < 2:
            raise Conflict(
                f"The threshold of {self.tx.ref('model', model, version)} at {endpoint} is that of the package again.",
                code="no-threshold",
            )
        return self.put(endpoint, model, version, kept[-2], "rolled_back", reason)

    def _record(self, row: Any) -> Threshold:
        return Threshold(
            endpoint=self.tx.ref("endpoint", row.endpoint),
            number=row.number,
            model=self.tx.ref("model", row.model, row.model_version),
            value=row.value,
            how=row.how,
            reason=row.reason,
            at=row.at,
            by=row.by,
        )
