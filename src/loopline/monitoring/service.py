"""The monitors' verbs, within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import sqlalchemy as sa

from loopline.data.service import DatasetsService
from loopline.database import Tx
from loopline.deployment.policy import policy_of
from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.features.labels import infer_task
from loopline.monitoring import quality
from loopline.monitoring.alerts import AlertsService
from loopline.monitoring.probing import DAY, probing
from loopline.monitoring.records import FEWEST_ROWS, Look, MonitorRecord, QualityReport
from loopline.monitoring.tables import monitors
from loopline.monitoring.verbs import MonitorsVerbs
from loopline.monitoring.watch import Budget, Finding, WatchState, begin, fitting
from loopline.monitoring.watch import look as look_at
from loopline.operations import Bytes
from loopline.outcomes import frames
from loopline.outcomes.service import PredictionsService
from loopline.ports.blobs import BlobStore
from loopline.quality.drift import compare
from loopline.quality.drift_page import page
from loopline.quality.drift_records import DriftReport
from loopline.quality.profile import Profile, profile
from loopline.quality.profile_builder import ProfileBuilder
from loopline.refs import parse
from loopline.store.service import Store

_LABEL_SHARE = 0.2
_QUALITY_SHARE = 0.2
"""Of the budget of false alarms, so much goes to the label's drift and to quality; the rest to the columns' drift."""


_SCORED = ["id", "at", "shadow", "status", "score", "label_given", "output"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor was declared with."""

    label: str
    task: str
    classes: tuple[str, ...]
    group: str | None
    time: str | None
    false_alarms: str
    look: int
    rows: int
    expected: float | None = None


class MonitorsService(MonitorsVerbs):
    """Standing checks on what endpoints answer."""

    def __init__(self, tx: Tx, blobs: BlobStore, datasets: DatasetsService, predictions: PredictionsService) -> None:
        self.tx = tx
        self.blobs = blobs
        self.datasets = datasets
        self.predictions = predictions

    def declare(
        self,
        endpoint: str,
        reference: str,
        label: str,
        task: str,
        group: str | None = None,
        time: str | None = None,
        false_alarms: str = "1/quarter",
        look: int = 3_600_000,
        rows: int = 500,
        expected: float | None = None,
        ignore: list[str] | None = None,
    ) -> MonitorRecord:
        named = parse(reference, "data", self.tx.project)
        if named.project != self.tx.project:
            raise NotFound(f"There is no {reference} in project {self.tx.project!r}.", code="no-dataset")
        reference = str(named)
        budget = Budget.parse(false_alarms, every=look)
        if rows < FEWEST_ROWS:
            raise Invalid(
                f"A look at {rows} rows tells nothing.", code="bad-monitor", hint=f"At least {FEWEST_ROWS} rows."
            )
        frame = self.datasets.frame(reference)
        _, classes = infer_task(frame, label, task)  # type: ignore[arg-type]
        settings = Settings(
            label=label,
            task=task,
            classes=classes,
            group=group,
            time=time,
            false_alarms=false_alarms,
            look=look,
            rows=rows,
            expected=expected,
        )
        # What names a row or orders rows changes by its nature; what the model does not read may be left out by its callers.
        without = {group, time, *(ignore or [])} - {label}
        watched = [c for c in frame.columns if c not in without]
        personal = self.datasets.named.personal(named.name)
        summary = profile(frame, label=label, groups=group).only(watched).marked(personal).freeze()
        kept = self.blobs.put([summary.to_json()])
        now = self.tx.write() and self.tx.now
        values = {
            "reference": reference,
            "profile": kept.digest,
            "settings": msgspec.to_builtins(settings),
            "state": begin(budget.share(1 - _LABEL_SHARE - _QUALITY_SHARE)).to_json(),
            "label_state": begin(budget.share(_LABEL_SHARE)).to_json(),
            "quality_told": False,
            "looks": 0,
            "last_look": None,
            "rows_until": now,
            "labels_until": now,
            "verdict": "not looked at yet",
            "declared": now,
        }
        if self._row(endpoint) is None:
            self.tx.execute(monitors.insert().values(project=self.tx.project, endpoint=endpoint, report="", **values))
        else:
            self.tx.execute(monitors.update().where(*self._where(endpoint)).values(**values))
            # They told of the former watch; this one tells again of what still holds.
            AlertsService(self.tx).close_all(endpoint, f"closed: the monitor began anew, against {reference}")
        Store(self.tx, self.blobs).retain(kept.digest, self.tx.ref("monitor", endpoint))
        self.tx.note(
            inputs=[reference, self.tx.ref("endpoint", endpoint)],
            outputs=[self.tx.ref("monitor", endpoint)],
            digests={"profile": kept.digest},
        )
        return self._record(self._known(endpoint))

    def list(self) -> list[MonitorRecord]:
        found = self.tx.rows(
            sa.select(monitors).where(monitors.c.project == self.tx.project).order_by(monitors.c.endpoint)
        )
        return [self._record(row) for row in found]

    def look(self, endpoint: str) -> Look:
        row = self._known(endpoint)
        settings = msgspec.convert(row.settings, Settings)
        due = row.last_look is None or self.tx.now - row.last_look >= settings.look
        if not due:
            return Look(endpoint=endpoint, taken=False, rows=0, summary="not due", due=row.last_look + settings.look)
        came = self._came(endpoint, row.rows_until).filter(pl.col("row").is_not_null())
        # Labels come later than rows, and also when no row comes.
        labelled = self._labelled(endpoint, row.labels_until, settings.rows)
        enough, enough_labels = came.height >= settings.rows, labelled.height >= settings.rows
        if not enough and not enough_labels:
            return Look(
                endpoint=endpoint, taken=False, rows=came.height, summary=f"too few rows, {settings.rows:,} are wanted"
            )
        reference = Profile.from_json(self.blobs.read(row.profile))
        state, label_state = WatchState.from_json(row.state), WatchState.from_json(row.label_state)
        rows_until, labels_until = row.rows_until, row.labels_until
        findings, report, drop = list[Finding](), None, None
        if enough:
            left_out = {settings.label, *policy_of(self.tx, endpoint).unkept}
            features = reference.only([n for n in reference.columns if n not in left_out])
            builder = ProfileBuilder(features)
            builder.add(frames.rows(came))
            window = builder.profile()
            start, rows_until = _span(came, "at")
            state, found = look_at(fitting(state, features), features, window, start=start, end=rows_until)
            findings += [found] if found else []
            report = compare(features, window, false_alarms=state.budget.level(0))
        if enough_labels:
            label_state, found, drop = self._look_at_labels(labelled, label_state, row, settings, reference)
            findings += [found] if found else []
            labels_until = _span(labelled, "truth_received")[1]
        report = findings[0].report if findings else report
        until, states = (rows_until, labels_until), (state, label_state)
        probed = probing(self._came(endpoint, self.tx.now - DAY), policy_of(self.tx, endpoint).probes)
        return self._keep(endpoint, row, came.height, report, until, states, findings, drop, probed)

    def drift(self, endpoint: str, form: str = "json") -> Bytes:
        row = self._known(endpoint)
        if not row.report:
            raise NotFound(
                f"There was no look at {endpoint} yet.",
                code="no-report",
                hint="`loopline monitor ls` shows its watch.",
            )
        data = self.blobs.read(row.report)
        if form == "json":
            return Bytes(media="application/json", data=data)
        if form == "html":
            return Bytes(media="text/html", data=page(msgspec.json.decode(data, type=DriftReport)).encode())
        raise Invalid(
            f"There is no form {form!r} of a report.", code="bad-form", hint=did_you_mean(form, ["json", "html"])
        )

    def quality(self, endpoint: str, since: int = 0) -> QualityReport:
        row = self._known(endpoint)
        settings = msgspec.convert(row.settings, Settings)
        frame = self._came(endpoint, since)
        if frame.is_empty():
            return QualityReport(
                endpoint=endpoint,
                task=settings.task,
                rows=0,
                labelled=0,
                overall=None,
                windows=(),
                variants=(),
                groups=(),
            )
        task, classes = settings.task, settings.classes
        groups = []
        if settings.group is not None:
            seen = set(self.datasets.frame(row.reference)[settings.group].cast(pl.String).to_list())
            returning = _returning(frame, settings.group, seen)
            for name, part in (("new", frame.filter(~returning)), ("returning", frame.filter(returning))):
                if part.height:
                    groups.append(quality.window(name, part, task=task, classes=classes))
        return QualityReport(
            endpoint=endpoint,
            task=task,
            rows=frame.height,
            labelled=int(frame["truth"].is_not_null().sum()),
            overall=quality.window("all", frame, task=task, classes=classes),
            windows=quality.windows(frame, task=task, classes=classes),
            variants=tuple(
                quality.window(str(name), part, task=task, classes=classes)
                for (name,), part in frame.group_by("variant", maintain_order=True)
            ),
            groups=tuple(groups),
        )

    def _labelled(self, endpoint: str, since: int, least: int) -> pl.DataFrame:
        """The answers whose label was received after a time; none are read where fewer than `least` came at all."""
        few = self.predictions.received(endpoint, since) < least
        return self.predictions.frame(endpoint, since=self.tx.now if few else 0, columns=_SCORED).filter(
            ~pl.col("shadow") & (pl.col("status") < 400) & (pl.col("truth_received") > since)
        )

    def _look_at_labels(
        self, labelled: pl.DataFrame, state: WatchState, row: Any, settings: Settings, reference: Profile
    ) -> tuple[WatchState, Finding | None, str | None]:
        """A look at labels that came: their drift, and a drop of quality."""
        alone = msgspec.structs.replace(reference.only([settings.label]), label=None)
        builder = ProfileBuilder(alone)
        builder.add([{settings.label: _typed(value, settings.task)} for value in labelled["truth"].to_list()])
        start, _ = _span(labelled, "at")
        _, end = _span(labelled, "truth_received")
        state, found = look_at(state, alone, builder.profile(), start=start, end=max(start, end))
        drop = None
        if settings.expected is not None and not row.quality_told:
            budget = Budget.parse(settings.false_alarms, every=settings.look).share(_QUALITY_SHARE)
            confidence = 1 - 2 * budget.level(0)  # one side of the interval is looked at
            seen = quality.window("look", labelled, task=settings.task, classes=settings.classes, confidence=confidence)
            drop = quality.dropped(seen, settings.expected, task=settings.task)
        return state, found, drop

    def _keep(
        self,
        endpoint: str,
        row: Any,
        rows: int,
        report: DriftReport | None,
        until: tuple[int, int],
        states: tuple[WatchState, WatchState],
        findings: Sequence[Finding],
        drop: str | None,
        probed: str | None,
    ) -> Look:
        """The look on record, in one transaction with its alerts; `until` and `states` are those of the rows and of the labels."""
        kept = self.blobs.put([msgspec.json.encode(report)]).digest if report is not None else row.report
        drift = "; ".join(finding.report.verdict for finding in findings)
        summary = "; ".join(filter(None, (drift, drop, probed))) or "no drift"
        self.tx.write()
        now = self._known(endpoint)
        if (now.looks, now.declared) != (row.looks, row.declared):
            return Look(endpoint=endpoint, taken=False, rows=rows, summary="another process looked meanwhile")
        alert = None
        if drop is not None:
            alert = AlertsService(self.tx).raise_alert(endpoint, "quality", drop, (), row.labels_until)
            self.tx.note(outputs=[alert])
        if probed is not None:
            alert = AlertsService(self.tx).raise_alert(endpoint, "probing", probed, (), self.tx.now - DAY)
            self.tx.note(outputs=[alert])
        if findings:
            columns = [column for finding in findings for column in finding.columns]
            since = min(finding.since for finding in findings)
            alert = AlertsService(self.tx).raise_alert(endpoint, "drift", drift, columns, since)
            Store(self.tx, self.blobs).retain(kept, alert)
            self.tx.note(outputs=[alert], digests={"report": kept})
        monitor = self.tx.ref("monitor", endpoint)
        if kept != row.report:
            if row.report:
                Store(self.tx, self.blobs).release(row.report, monitor)
            Store(self.tx, self.blobs).retain(kept, monitor)
        self.tx.execute(
            monitors.update()
            .where(*self._where(endpoint))
            .values(
                state=states[0].to_json(),
                label_state=states[1].to_json(),
                quality_told=row.quality_told or drop is not None,
                looks=row.looks + 1,
                last_look=self.tx.now,
                rows_until=until[0],
                labels_until=until[1],
                report=kept,
                verdict=summary if alert or row.looks == 0 else row.verdict,
            )
        )
        self.tx.note(inputs=[monitor])
        return Look(endpoint=endpoint, taken=True, rows=rows, summary=summary, alert=alert)

    def _came(self, endpoint: str, since: int) -> pl.DataFrame:
        """The rows answered after a time, shadow scores and errors left out."""
        return self.predictions.frame(endpoint, since=since + 1).filter(~pl.col("shadow") & (pl.col("status") < 400))

    def _where(self, endpoint: str) -> tuple[Any, Any]:
        return monitors.c.project == self.tx.project, monitors.c.endpoint == endpoint

    def _row(self, endpoint: str) -> Any:
        return self.tx.first(sa.select(monitors).where(*self._where(endpoint)))

    def _known(self, endpoint: str) -> Any:
        row = self._row(endpoint)
        if row is None:
            there = [m.endpoint for m in self.list()]
            raise NotFound(f"{endpoint!r} has no monitor.", code="no-monitor", hint=did_you_mean(endpoint, there))
        return row

    def _record(self, row: Any) -> MonitorRecord:
        settings = msgspec.convert(row.settings, Settings)
        return MonitorRecord(
            ref=self.tx.ref("monitor", row.endpoint),
            endpoint=row.endpoint,
            reference=row.reference,
            label=settings.label,
            task=settings.task,
            group=settings.group,
            time=settings.time,
            false_alarms=settings.false_alarms,
            look=settings.look,
            rows=settings.rows,
            looks=row.looks,
            last_look=row.last_look,
            verdict=row.verdict,
            declared=row.declared,
        )


def _span(frame: pl.DataFrame, column: str) -> tuple[int, int]:
    return int(frame[column].min() or 0), int(frame[column].max() or 0)  # type: ignore[arg-type]


def _typed(value: str, task: str) -> Any:
    return float(value) if task == "regression" else value


def _returning(frame: pl.DataFrame, group: str, seen: set[Any]) -> pl.Series:
    """Which rows are of a group that training or an earlier row had."""
    values = pl.Series(
        [None if row.get(group) is None else str(row[group]) for row in frames.rows(frame)], dtype=pl.String
    )
    return values.is_not_null() & (values.is_in(list(seen)).fill_null(False) | ~values.is_first_distinct())
