"""What a loop asks of the platform around it: the verbs of the rooms below, in process or remote."""

from __future__ import annotations

from typing import Protocol

from loopline.data.verbs import DatasetsVerbs
from loopline.data.verbs_sources import SourcesVerbs
from loopline.deployment.verbs import EndpointsVerbs, RolloutsVerbs
from loopline.evaluation.verbs import EvaluationsVerbs
from loopline.loop.verbs import LoopsVerbs
from loopline.monitoring.verbs import AlertsVerbs, MonitorsVerbs
from loopline.outcomes.verbs import LabelsVerbs, PredictionsVerbs
from loopline.pipeline.verbs import PipelinesVerbs
from loopline.registry.verbs import ModelsVerbs
from loopline.tracking.verbs import RunsVerbs


class House(Protocol):
    """The verbs, by group; `catalog.Session` is one."""

    project: str
    runs: RunsVerbs
    pipelines: PipelinesVerbs
    datasets: DatasetsVerbs
    sources: SourcesVerbs
    evaluations: EvaluationsVerbs
    models: ModelsVerbs
    predictions: PredictionsVerbs
    labels: LabelsVerbs
    endpoints: EndpointsVerbs
    rollouts: RolloutsVerbs
    monitors: MonitorsVerbs
    alerts: AlertsVerbs
    loops: LoopsVerbs
