"""What can be asked of the deployment room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.deployment.records import Decision, Endpoint, Plan, Rollout, Threshold
from loopline.operations import operation
from loopline.serving.records import Policy, RouteTable


class EndpointsVerbs(Protocol):
    """Endpoints: stable addresses of models."""

    @operation("PUT /projects/{project}/endpoints/{name}", action="deploy", prepares=True)
    def create(
        self,
        name: str,
        model: str,
        route_key: str | None = None,
        passthrough: list[str] | None = None,
    ) -> Endpoint:
        """Serve a registered model version at an address; on an address that is there, change what stands behind it at once."""
        ...

    @operation("GET /projects/{project}/endpoints", action="read")
    def list(self) -> list[Endpoint]:
        """All endpoints of the project."""
        ...

    @operation("GET /projects/{project}/endpoints/{name}", action="read")
    def show(self, name: str) -> Endpoint:
        """One endpoint."""
        ...

    @operation("PUT /projects/{project}/endpoints/{name}/policy", action="deploy")
    def set_policy(self, name: str, policy: Policy) -> Endpoint:
        """Say what an endpoint refuses, how often a caller may ask, and what of its rows is kept, how and for how long.

        It replaces the policy that was there as a whole, is in force within a second, and changes nothing that is on record.
        """
        ...

    @operation("DELETE /projects/{project}/endpoints/{name}", action="deploy")
    def remove(self, name: str, reason: str = "") -> None:
        """Stop serving an address. Its predictions and labels stay on record."""
        ...

    @operation("PUT /projects/{project}/endpoints/{name}/threshold", action="deploy")
    def set_threshold(self, name: str, value: float, reason: str, version: int | None = None) -> Threshold:
        """Set from which probability on a row is positive, at once and without a new model version.

        It holds for one version of the endpoint's model (default: its champion), and goes with it: a new champion begins with the
        threshold that it was packaged with. Undone by roll_back_threshold.
        """
        ...

    @operation("POST /projects/{project}/endpoints/{name}/threshold/roll_back", action="deploy")
    def roll_back_threshold(self, name: str, reason: str, version: int | None = None) -> Threshold:
        """Take the threshold of a version (default: the champion's) back to the one before."""
        ...

    @operation("GET /projects/{project}/endpoints/{name}/thresholds", action="read")
    def thresholds(self, name: str) -> tuple[Threshold, ...]:
        """List the thresholds of an endpoint, oldest first: who set which, when and why."""
        ...

    @operation("GET /endpoints/routes", action="audit")
    def routes(self) -> RouteTable:
        """The routing table in force, for all projects."""
        ...


class RolloutsVerbs(Protocol):
    """Rollouts: guarded plans that move weight from champion to challenger."""

    @operation("POST /projects/{project}/endpoints/{endpoint}/rollouts", action="deploy", prepares=True)
    def start(self, endpoint: str, challenger: str, plan: Plan) -> Rollout:
        """Start to roll a registered model version out on an endpoint. One at a time on each."""
        ...

    @operation("POST /projects/{project}/rollouts/{rollout}/decide", action="deploy")
    def decide(self, rollout: str, decision: Decision, reason: str, measured: dict[str, Any] | None = None) -> Rollout:
        """Take a rollout to its next stage or to its end: advance, promote, keep (as challenger) or roll_back."""
        ...

    @operation("GET /projects/{project}/rollouts/{rollout}", action="read")
    def show(self, rollout: str) -> Rollout:
        """One rollout with all its decisions."""
        ...

    @operation("GET /projects/{project}/rollouts", action="read")
    def list(self, endpoint: str | None = None, status: str | None = None, limit: int = 50) -> list[Rollout]:
        """The newest rollouts."""
        ...
