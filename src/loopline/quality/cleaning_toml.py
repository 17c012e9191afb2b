"""A cleaning as TOML, one `[[steps]]` table a step, in the order in which they are done.

[[steps]]
step = "median"
columns = ["age"]
group = "sex"
"""

from __future__ import annotations

import tomllib

from loopline.errors import Invalid
from loopline.quality.cleaning_steps import AnyStep, steps


def from_toml(text: str) -> tuple[AnyStep, ...]:
    """The steps that a TOML text declares, checked like those declared in Python. Raises `Invalid`; a syntax error says where."""
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"This is not a cleaning: {error}.", code="cleaning-toml") from error
    if unknown := read.keys() - {"steps"}:
        raise Invalid(
            f"A cleaning has no {sorted(unknown)[0]!r}.", code="cleaning-toml", hint="Begin each step with [[steps]]."
        )
    return steps(read.get("steps", []))
