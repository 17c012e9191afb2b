"""What can be asked of the evaluation room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.evaluation.records import Evaluation, GateSet, Judgement
from loopline.operations import Bytes, operation


class EvaluationsVerbs(Protocol):
    """Gates, evaluations and the verdicts of the one on the other."""

    @operation("POST /projects/{project}/gates", action="run")
    def declare(self, gates: list[dict[str, Any]]) -> GateSet:
        """Put the gates on record, before there is any evidence that they could be fitted to."""
        ...

    @operation("POST /projects/{project}/evaluations", action="run", prepares=True)
    def measure(
        self,
        model: str,
        dataset: str,
        label: str,
        opponents: dict[str, str] | None = None,
        protected: list[str] | None = None,
        window: str = "test",
        seed: int = 0,
    ) -> Evaluation:
        """Measure a model version, and its opponents on the same rows, on a dataset version; one counted look.

        `opponents` maps the names that gates use ("baseline", "@champion") to refs of model versions.
        """
        ...

    @operation("POST /projects/{project}/evaluations/{evaluation}/verdicts", action="run")
    def judge(self, evaluation: str, gates: str) -> Judgement:
        """Apply gates, by their digest, to an evaluation. Refused where the gates were declared after it."""
        ...

    @operation("GET /projects/{project}/evaluations/{evaluation}", action="read")
    def show(self, evaluation: str) -> Evaluation:
        """One evaluation with its evidence."""
        ...

    @operation("GET /projects/{project}/evaluations", action="read")
    def list(self, model: str | None = None, limit: int = 50) -> list[Evaluation]:
        """The newest evaluations, of one model version or of all."""
        ...

    @operation("GET /projects/{project}/evaluations/{evaluation}/report", action="read")
    def report(self, evaluation: str) -> Bytes:
        """The evaluation as a self-contained page with plots."""
        ...

    @operation("GET /projects/{project}/evaluations/{evaluation}/plots/{plot}", action="read")
    def plot(self, evaluation: str, plot: str) -> Bytes:
        """One plot of an evaluation as a file (PNG or SVG, by its name)."""
        ...
