"""Policies of endpoints: which can be kept, and those of models that are served alone, from a file.

The file is TOML with one table an endpoint, whose keys are the fields of `records.Policy`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from pathlib import Path

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.serving.records import Policy

_MOST_DAYS = 36_500.0


def check_policy(
    policy: Policy,
    columns: Collection[str],
    endpoint: str,
    further: str = "`loopline deploy --passthrough` takes further columns in.",
) -> None:
    """Raises `Invalid` for a policy that cannot be kept, or names a column that no caller may send: its values would be kept.

    `further` says how an endpoint comes to take more columns.
    """
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
                hint=f"{did_you_mean(name, columns)} {further}".strip(),
                field=name,
            )


def read(path: Path) -> dict[str, Policy]:
    """The policies of a file by their endpoints. Raises `Invalid`, with the table and the key."""
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Invalid(f"{path} is not TOML: {e}.", code="bad-policy", hint=_HINT) from e
    return {name: _policy(path, name, table) for name, table in tables.items()}


_HINT = 'It has a table for each endpoint: [fraud], and below it keys such as rate = 50 or hidden = ["ssn"].'


def _policy(path: Path, name: str, table: object) -> Policy:
    if not isinstance(table, dict):
        raise Invalid(f"{path}: {name!r} stands in no endpoint's table.", code="bad-policy", hint=_HINT)
    for key, value in table.items():
        if isinstance(value, dict):
            hint = f'A name with a dot stands in quotes: ["{name}.{key}"].'
            raise Invalid(f"{path}: a table {key!r} is within the table {name!r}.", code="bad-policy", hint=hint)
        if key not in Policy.__struct_fields__:
            hint = did_you_mean(key, Policy.__struct_fields__)
            raise Invalid(f"{path}, [{name}]: {key!r} is no part of a policy.", code="bad-policy", hint=hint)
    try:
        policy = msgspec.convert(table, Policy)
    except msgspec.ValidationError as e:
        raise Invalid(f"{path}, [{name}]: {e}.", code="bad-policy", hint=_HINT) from e
    if policy.probes:
        raise Invalid(
            f"{path}, [{name}]: nothing watches for probes where models are served alone.",
            code="bad-policy",
            hint="Leave `probes` out, or serve by `loopline up`, whose monitors do.",
        )
    return policy
