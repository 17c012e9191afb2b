"""What can be asked of the features room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.data.records import DatasetVersion
from loopline.features.records import FeatureValues, FeatureViewVersion, Materialization
from loopline.operations import operation


class FeaturesVerbs(Protocol):
    """Feature views: features of entities at a moment, defined once, the same for training and for serving."""

    @operation("PUT /projects/{project}/features/{name}", action="run")
    def define(self, name: str, declaration: dict[str, Any]) -> FeatureViewVersion:
        """Put a feature view on record (`ll.feature_view` as JSON); the same definition again is the same version."""
        ...

    @operation("GET /projects/{project}/features", action="read")
    def list(self) -> tuple[FeatureViewVersion, ...]:
        """All feature views, each in its newest version."""
        ...

    @operation("GET /projects/{project}/features/{name}", action="read")
    def show(self, name: str, version: str = "latest") -> FeatureViewVersion:
        """One feature view: its definition, and what is online of it."""
        ...

    @operation("POST /projects/{project}/features/{name}/join", action="run", prepares=True)
    def join(
        self, name: str, dataset: str, time: str, into: str, entity: str | None = None, more: tuple[str, ...] = ()
    ) -> DatasetVersion:
        """Make a dataset version of another one's rows and their features, as these were at the time in the column `time`.

        The features of `more` views are added, too. `entity` names the rows' column of the entity, where it is called otherwise
        than in the view. What happened at that time or later, or was known later, counts for nothing.
        """
        ...

    @operation("POST /projects/{project}/features/{name}/materialize", action="run", prepares=True)
    def materialize(self, name: str, as_of: float | None = None) -> Materialization:
        """Make the features of all entities at one moment ready for looking up; they take the place of earlier ones at once.

        `as_of`: milliseconds since 1970-01-01 UTC where the view's time is a date (None: now), else in the unit of its time (None:
        after all events).
        """
        ...

    @operation("GET /projects/{project}/features/{name}/values", action="read_personal", record="entry")
    def get(self, name: str, entities: tuple[str, ...] = ()) -> FeatureValues:
        """The features of some entities (at most 1,000) as they were last made ready, and how old that is."""
        ...
