"""The outcomes room's verbs, within one transaction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid, NotFound
from loopline.hashing import digest_json
from loopline.operations import Bytes, check_limit
from loopline.outcomes import answers, frames, tidying
from loopline.outcomes.frames import Logged
from loopline.outcomes.records import (
    SEPARATOR,
    Collected,
    Compacted,
    Expired,
    Label,
    LabelsTaken,
    Prediction,
    Traffic,
)
from loopline.outcomes.tables import labels, log_cursors, segments
from loopline.outcomes.verbs import LabelsVerbs, PredictionsVerbs
from loopline.ports.blobs import BlobStore
from loopline.refs import DEFAULT_PROJECT, check_name
from loopline.store.service import Store

_LABELS_AT_ONCE = 100_000

ReadLog = Callable[[dict[str, int]], Iterator[tuple[str, int, Sequence[Any]]]]
"""Reads on in the prediction log: from the offset of each segment, gives (segment, next offset, records)."""


class PredictionsService(PredictionsVerbs):
    """Predictions as they were answered. `read_log` reads the log of the workers."""

    def __init__(self, tx: Tx, blobs: BlobStore, read_log: ReadLog) -> None:
        self.tx = tx
        self.blobs = blobs
        self.read_log = read_log

    def collect(self) -> Collected:
        cursors = {row.segment: row.offset for row in self.tx.rows(sa.select(log_cursors))}
        found: dict[tuple[str, str], list[Logged]] = {}
        moved: dict[str, int] = {}
        errors = 0
        for segment, offset, records in self.read_log(dict(cursors)):
            moved[segment] = offset
            for record in records:
                errors += record.status >= 400
                if not record.endpoint:
                    continue  # refused before it was known which endpoint is meant: nobody's
                project, _, endpoint = record.endpoint.rpartition(SEPARATOR)
                found.setdefault((project or DEFAULT_PROJECT, endpoint), []).append(record)
        if not moved:
            return Collected(segments=0, predictions=0, errors=0)
        kept = {}
        for place, records in found.items():
            frame = frames.of_log(records)
            kept[place] = (frame, self.blobs.put([frames.to_parquet(frame)]).digest)
        self.tx.write()
        current = {row.segment: row.offset for row in self.tx.rows(sa.select(log_cursors))}
        if current != cursors:
            # Another process collected meanwhile; what it took must not be taken twice.
            return Collected(segments=0, predictions=0, errors=0)
        for segment, offset in moved.items():
            if segment in cursors:
                self.tx.execute(log_cursors.update().where(log_cursors.c.segment == segment).values(offset=offset))
            else:
                self.tx.execute(log_cursors.insert().values(segment=segment, offset=offset))
        store = Store(self.tx, self.blobs)
        for (project, endpoint), (frame, digest) in kept.items():
            number = 1 + (
                self.tx.scalar(
                    sa.select(sa.func.max(segments.c.until)).where(
                        segments.c.project == project, segments.c.endpoint == endpoint
                    )
                )
                or 0
            )
            in_project = "" if project == DEFAULT_PROJECT else f"{project}/"
            ref = f"endpoint:{in_project}{endpoint}@log.{number}"
            self.tx.execute(
                segments.insert().values(
                    project=project,
                    endpoint=endpoint,
                    number=number,
                    until=number,
                    blob=digest,
                    rows=frame.height,
                    first=frame["at"].min(),
                    last=frame["at"].max(),
                    collected=self.tx.now,
                )
            )
            store.retain(digest, ref)
            models = frame["model"].drop_nulls().unique().sort().to_list()
            self.tx.note(inputs=[m for m in models if m], outputs=[ref])
        self.tx.note(digests={"segments": digest_json(sorted(digest for _, digest in kept.values()))})
        self.tx.count = sum(frame.height for frame, _ in kept.values())
        answered = sum(int((frame["status"] < 400).sum()) for frame, _ in kept.values())
        return Collected(segments=len(kept), predictions=answered, errors=errors)

    def compact(self) -> Compacted:
        return tidying.compact(self.tx, self.blobs)

    def expire(self, endpoint: str, before: int) -> Expired:
        return tidying.expire(self.tx, self.blobs, check_name(endpoint, "name of an endpoint"), before)

    def list(
        self, endpoint: str, since: int = 0, limit: int = 100, variant: str | None = None, labelled: bool = False
    ) -> list[Prediction]:
        check_limit(limit, "predictions", 100_000)
        frame = answers.answered(self.frame(endpoint, since=since), variant=variant, labelled=labelled)
        self.tx.note(inputs=[self.tx.ref("endpoint", endpoint)])
        return answers.newest(frame, endpoint, limit)

    def read(self, endpoint: str, since: int = 0, labelled: bool = False) -> Bytes:
        frame = answers.answered(self.frame(endpoint, since=since), labelled=labelled)
        self.tx.note(inputs=[self.tx.ref("endpoint", endpoint)])
        return answers.stream(frame)

    def show(self, endpoint: str, prediction: str) -> Prediction:
        frame = self.frame(endpoint).filter((pl.col("id") == prediction) & ~pl.col("shadow") & (pl.col("status") < 400))
        if frame.is_empty():
            raise NotFound(
                f"There is no prediction {prediction!r} of {endpoint}.",
                code="no-prediction",
                hint="It is on record some seconds after its answer.",
            )
        if "/" in prediction:  # of a stream, whose ids hold the place of a message and are no ref
            self.tx.note(inputs=[self.tx.ref("endpoint", endpoint)], digests={"prediction": digest_json(prediction)})
        else:
            self.tx.note(inputs=[self.tx.ref("prediction", prediction)])
        return answers.prediction(endpoint, frame.to_dicts()[0])

    def traffic(self, endpoint: str, since: int = 0) -> Traffic:
        return answers.traffic(self.frame(endpoint, since=since, columns=answers.COUNTED), endpoint, since)

    def frame(
        self, endpoint: str, *, since: int = 0, until: int | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """All log records of an endpoint in a span of time, with their labels joined, for the rooms above.

        Columns are those of `frames.SCHEMA` (or `columns`), and `truth` (the label as text; null: none yet), `truth_at` and
        `truth_received`.
        """
        c = segments.c
        check_name(endpoint, "name of an endpoint")
        query = sa.select(c.blob).where(c.project == self.tx.project, c.endpoint == endpoint, c.last >= since)
        if until is not None:
            query = query.where(c.first < until)
        schema = {name: kind for name, kind in frames.SCHEMA.items() if columns is None or name in columns}
        stored = [self.blobs.read(row.blob) for row in self.tx.rows(query.order_by(c.number))]
        kept = [frames.of_parquet(data, list(schema)) for data in stored]
        empty = pl.DataFrame(schema=schema)
        frame = pl.concat([empty, *kept]).filter(pl.col("at") >= since)
        if until is not None:
            frame = frame.filter(pl.col("at") < until)
        if frame["id"].str.contains("/", literal=True).any():  # of a stream, which answers again what a kill left
            frame = frame.unique([name for name in frame.columns if name in _ONCE], keep="first", maintain_order=True)
        first = self.tx.now if frame.is_empty() else frame["at"].min()  # so that few labels are read for few answers
        return frame.join(self._truth(endpoint, first), on="id", how="left", maintain_order="left")  # type: ignore[arg-type]

    def received(self, endpoint: str, since: int) -> int:
        """How many labels were received after a time, those that correct others among them."""
        c = labels.c
        query = sa.select(sa.func.count()).where(
            c.project == self.tx.project, c.endpoint == endpoint, c.received > since
        )
        return int(self.tx.scalar(query) or 0)

    def kept(self, endpoint: str) -> bool:
        """Whether any answers of an endpoint are on record."""
        c = segments.c
        return (
            self.tx.first(sa.select(c.number).where(c.project == self.tx.project, c.endpoint == endpoint)) is not None
        )

    def answered(self, endpoint: str) -> pl.Series:
        """The ids of all predictions of an endpoint that are on record."""
        c = segments.c
        kept = self.tx.rows(sa.select(c.blob).where(c.project == self.tx.project, c.endpoint == endpoint))
        parts = [frames.of_parquet(self.blobs.read(row.blob), ["id"])["id"] for row in kept]
        return pl.concat([pl.Series("id", [], dtype=pl.String), *parts])

    def _truth(self, endpoint: str, since: int) -> pl.DataFrame:
        """The newest label of each prediction. A label cannot have come before its prediction: older ones are left out."""
        c = labels.c
        found = self.tx.rows(
            sa.select(c.prediction, c.value, c.at, c.received)
            .where(c.project == self.tx.project, c.endpoint == endpoint, c.received >= since)
            .order_by(c.number)
        )
        schema = {"id": pl.String, "truth": pl.String, "truth_at": pl.Int64, "truth_received": pl.Int64}
        return pl.DataFrame([tuple(row) for row in found], schema=schema, orient="row").unique("id", keep="last")


class LabelsService(LabelsVerbs):
    """The truth that comes later.

    `classes` gives the classes of what an endpoint serves (none: its answers are numbers), and raises `NotFound` for an endpoint
    that is not there.
    """

    def __init__(self, tx: Tx, predictions: PredictionsService, classes: Callable[[str], tuple[str, ...]]) -> None:
        self.tx = tx
        self.predictions = predictions
        self.classes = classes

    def add(self, endpoint: str, labels: list[Label]) -> LabelsTaken:
        check_name(endpoint, "name of an endpoint")
        _check(labels)
        try:
            _check_values(labels, self.classes(endpoint), endpoint)
        except NotFound:
            # The truth about the answers of a removed endpoint still comes; nothing tells its classes any more.
            if not self.predictions.kept(endpoint):
                raise
        ids = [label.prediction for label in labels]
        before: dict[str, Any] = {}
        for start in range(0, len(ids), 500):
            c = _table.c
            for row in self.tx.rows(
                sa.select(c.prediction, c.number, c.value)
                .where(c.project == self.tx.project, c.endpoint == endpoint, c.prediction.in_(ids[start : start + 500]))
                .order_by(c.number)
            ):
                before[row.prediction] = row
        fresh = []
        corrected = 0
        for label in labels:
            known, value = before.get(label.prediction), _text(label.value)
            if known is not None and known.value == value:
                continue
            corrected += known is not None
            fresh.append(
                {
                    "project": self.tx.project,
                    "endpoint": endpoint,
                    "prediction": label.prediction,
                    "number": known.number + 1 if known is not None else 1,
                    "value": value,
                    "at": label.at or self.tx.now,
                    "received": self.tx.now,
                    "by": self.tx.principal,
                }
            )
        if fresh:
            self.tx.execute(_table.insert(), fresh)
        joined = int(pl.Series(ids, dtype=pl.String).is_in(self.predictions.answered(endpoint).implode()).sum())
        self.tx.count = len(labels)
        self.tx.note(inputs=[self.tx.ref("endpoint", endpoint)], digests={"labels": digest_json(labels)})
        return LabelsTaken(taken=len(labels), joined=joined, waiting=len(labels) - joined, corrected=corrected)


_table = labels
_ONCE = {"id", "variant", "shadow", "status"}
"""What tells one answer from another; a served one has an id of its own, a stream's comes twice where it was answered twice."""


def _check(given: Sequence[Label]) -> None:
    if not given:
        raise Invalid("There are no labels in this call.", code="no-labels", hint="Give a list of {prediction, value}.")
    if len(given) > _LABELS_AT_ONCE:
        raise Invalid(
            f"{len(given):,} labels in one call are too many.",
            code="too-many-labels",
            hint=f"Send at most {_LABELS_AT_ONCE:,} at once.",
        )
    seen: set[str] = set()
    for place, label in enumerate(given):
        if not label.prediction:
            raise Invalid(f"Label {place} names no prediction.", code="bad-label")
        if isinstance(label.value, float) and not math.isfinite(label.value):
            raise Invalid(f"The label of {label.prediction} is {label.value}.", code="bad-label", hint="Give a number.")
        if label.prediction in seen:
            raise Invalid(
                f"{label.prediction} is labelled twice in one call.", code="bad-label", hint="Give each once."
            )
        seen.add(label.prediction)


def _check_values(given: Sequence[Label], classes: Sequence[str], endpoint: str) -> None:
    """Raises `Invalid` for the first value that is none of the classes, or no number where there are none."""
    for label in given:
        value = _text(label.value)
        if classes and value not in classes:
            raise Invalid(
                f"The label of {label.prediction} is {value!r}, which is no class of {endpoint}; no label was taken.",
                code="bad-label",
                hint=f"Its classes are {', '.join(map(repr, classes))}.",
            )
        if not classes and not _is_number(label.value):
            raise Invalid(
                f"The label of {label.prediction} is {value!r}, and {endpoint} predicts numbers; no label was taken.",
                code="bad-label",
                hint="Give a number.",
            )


def _is_number(value: Any) -> bool:
    """Whether it is a number, or a text that is one (as from a CSV file)."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _text(value: Any) -> str:
    """A label's value as the class texts are written: true, 1, 0.5, YES."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
