"""What can be asked of the monitoring room."""

from __future__ import annotations

from typing import Protocol

from loopline.monitoring.records import Alert, AlertStatus, Look, MonitorRecord, QualityReport
from loopline.operations import Bytes, operation


class MonitorsVerbs(Protocol):
    """Standing checks on what endpoints answer."""

    @operation("PUT /projects/{project}/endpoints/{endpoint}/monitor", action="run", prepares=True)
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
        """Watch an endpoint against a dataset version, by a budget of false alarms.

        `false_alarms` says how many may be expected, with a look each `look` milliseconds at `rows` rows or more. `expected` is the
        least value of the watched metric (roc_auc, accuracy; the greatest rmse) that the labels to come should bear out.
        Columns of `ignore` are not watched for drift, nor are the group and the time: give those that the model does not read.
        """
        ...

    @operation("GET /projects/{project}/monitors", action="read")
    def list(self) -> list[MonitorRecord]:
        """All monitors with the state of their watch."""
        ...

    @operation("POST /projects/{project}/endpoints/{endpoint}/look", action="run", prepares=True)
    def look(self, endpoint: str) -> Look:
        """Look at the predictions since the last look, where enough have come; raise an alert where the budget allows one."""
        ...

    @operation("GET /projects/{project}/endpoints/{endpoint}/drift", action="read")
    def drift(self, endpoint: str, form: str = "json") -> Bytes:
        """The newest drift report of an endpoint, as "json" or as a "html" page."""
        ...

    @operation("GET /projects/{project}/endpoints/{endpoint}/quality", action="read")
    def quality(self, endpoint: str, since: int = 0) -> QualityReport:
        """Quality on the labels that came: over time, by variant, and for new and returning groups apart."""
        ...


class AlertsVerbs(Protocol):
    """Findings of monitors, each with a life."""

    @operation("GET /projects/{project}/alerts", action="read")
    def list(self, endpoint: str | None = None, status: AlertStatus | None = None, limit: int = 50) -> list[Alert]:
        """The newest alerts."""
        ...

    @operation("GET /projects/{project}/alerts/{alert}", action="read")
    def show(self, alert: str) -> Alert:
        """One alert."""
        ...

    @operation("POST /projects/{project}/alerts/{alert}/status", action="deploy")
    def change(self, alert: str, status: AlertStatus, comment: str = "", until: int | None = None) -> Alert:
        """Acknowledge, silence (until a time) or close an alert, or open it again."""
        ...
