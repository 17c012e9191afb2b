"""What an endpoint's policy may say."""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.deployment.tables import endpoints
from loopline.errors import Invalid, did_you_mean
from loopline.outcomes.tables import segments
from loopline.serving.records import Policy

_MOST_DAYS = 36_500.0


def check_policy(policy: Policy, columns: Collection[str], endpoint: str) -> None:
    """Raises `Invalid` for a policy that cannot be kept, or names a column that no caller may send: its values would be kept."""
    wrong = [
        (not 0 <= policy.rate < math.inf, f"the rate {policy.rate:g} is none: requests a second, 0 for any"),
        (policy.burst < 0, f"the burst {policy.burst} is none"),
        (policy.burst > 0 and not policy.rate, "a burst without a rate bounds nothing"),
        (policy.probes < 0, f"{policy.probes} probes are none"),
        (not 0 <= policy.rows_kept <= 1, f"the share {policy.rows_kept:g} of rows is none: from 0 to 1"),
        (not 0 <= policy.days <= _MOST_DAYS, f"answers cannot be kept for {policy.days:g} days"),
        (bool(both := {*policy.hidden} & {*policy.hashed}), f"{sorted(both)} cannot be both left out and hashed"),
    ]
    if why := next((why for found, why in wrong if found), None):
        raise Invalid(f"The policy cannot be kept: {why}.", code="bad-policy", hint="See docs/serving.md, policies.")
    for name in (*policy.hidden, *policy.hashed):
        if name not in columns:
            raise Invalid(
                f"No caller of {endpoint} may send {name!r}, so it cannot be left out or hashed.",
                code="bad-policy",
                hint=f"{did_you_mean(name, columns)} `loopline deploy --passthrough` takes further columns in.",
                field=name,
            )


def policy_of(tx: Tx, endpoint: str) -> Policy:
    """The policy of an endpoint; the default one where there is no such endpoint any more."""
    query = sa.select(endpoints.c.policy).where(endpoints.c.project == tx.project, endpoints.c.name == endpoint)
    return msgspec.convert(tx.scalar(query) or {}, Policy)


def retentions(tx: Tx) -> list[tuple[str, str, float]]:
    """The endpoints of all projects whose answers do not stay for good and are on record: project, name, days."""
    kept = sa.exists().where(segments.c.project == endpoints.c.project, segments.c.endpoint == endpoints.c.name)
    found = tx.rows(sa.select(endpoints.c.project, endpoints.c.name, endpoints.c.policy).where(kept))
    policies = [(row.project, row.name, msgspec.convert(row.policy, Policy)) for row in found]
    return [(project, name, policy.days) for project, name, policy in policies if policy.days]
