"""The sides of a split as dataset versions: made, looked over, written, and the test sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from loopline.data.maturity import READ, known, stretches_of, up_to
from loopline.data.records import By, Leak, SplitVersions
from loopline.data.split import split
from loopline.data.split_leaks import check_leaks, leaks
from loopline.data.split_records import SIDES, Split
from loopline.data.windows import Windows
from loopline.data.written import Written
from loopline.quality.blocks import Blocks

_SPENT = "_spent"


def write_sides(
    written: Written,
    windows: Windows,
    row: Any,
    *,
    label: str,
    time: str | None,
    group: str | None,
    task: str | None,
    by: By | None,
    fractions: tuple[float, float, float],
    embargo: str,
    seed: int,
    as_of: int | None,
    refuse: Sequence[Leak],
) -> SplitVersions:
    """Splits a version; see the verb. Nothing is written where the split cannot be, or is refused for what was found."""
    ref = written.named.ref(row)
    frame = written.rows_read(row)
    again = any(ref in window.inputs for window in windows.all())
    if not again:
        frame = frame.with_columns(windows.spent(frame).alias(_SPENT))
    ripe = known(frame, written.labels_of(row), label, as_of)
    late, frame = frame.height - ripe.height, ripe.drop(_SPENT, strict=False)
    spent = None if again else ripe[_SPENT]
    frame = frame.with_columns(up_to(as_of).alias(READ))
    made = split(
        frame,
        label=label,
        time=time,
        group=group,
        task=task,
        by=by,
        fractions=fractions,
        embargo=embargo,
        seed=seed,
        spent=spent,
    )
    read = {side: stretches_of(getattr(made, side)[READ]) for side in SIDES}
    made = Split(made.train.drop(READ), made.validation.drop(READ), made.test.drop(READ), made.facts)
    found = leaks(made, label=label, time=time, group=group)
    check_leaks(found, refuse)
    facts = msgspec.structs.replace(made.facts, rows=made.facts.rows + late, immature=late, as_of=as_of, findings=found)
    versions = {
        side: written.write(
            f"{row.name}.{side}",
            Blocks.of(getattr(made, side)),
            inputs=[ref],
            facts=row.facts,
            message=f"the {side} side of {ref}",
            sealed=side == "test",
            shares=windows.shared(made.test) if side == "test" else [],
            noted=side,
            labels=written.labels_of(row),
            read=read[side],
        )
        for side in SIDES
    }
    windows.open([made.train, made.validation], versions["train"].ref, kept=versions["test"].version)
    return SplitVersions(**{side: version.ref for side, version in versions.items()}, facts=facts.to_dict())
