"""The register of crash scenarios: every `crash_scenarios.py` below tests/ (see ground/crash_runner.py for its form).

A failpoint that no scenario passes makes `ground/test_failpoints.py` fail, unless its room is named here with the reason; a
room here whose failpoints are all passed makes it fail, too.
"""

from __future__ import annotations

_TO_COME = (
    "access", "agents", "api", "cli", "client", "compliance", "deployment", "evaluation", "loop", "monitoring",
    "outcomes", "pipeline", "serving", "training",
)  # fmt: skip
NOT_YET: dict[str, str] = dict.fromkeys(_TO_COME, "its scenario is to come")
"""Rooms whose scenario is to come."""

NO_FAILPOINT_YET = {"packaging/bundle.py:write_bundle", "serving/log.py:close", "serving/metrics.py:publish"}
"""Functions that commit, rename or sync, and are to get a failpoint."""
