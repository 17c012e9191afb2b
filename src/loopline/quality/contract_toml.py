"""A contract as TOML, one `[[rules]]` table a rule: what people edit who do not write Python.

[[rules]]
rule = "between"
column = "age"
low = 0
high = 120
severity = "warn"

The columns about a person, if any, stand above: personal = ["name"].
"""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from typing import Any

import msgspec

from loopline.errors import Invalid
from loopline.quality.contract import Contract


def from_toml(text: str) -> Contract:
    """The contract that a TOML text declares, checked like one declared in Python. Raises `Invalid`; a syntax error says where."""
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"This is not a contract: {error}.", code="contract-toml") from error
    if unknown := read.keys() - {"rules", "personal"}:
        raise Invalid(
            f"A contract has no {sorted(unknown)[0]!r}.", code="contract-toml", hint="Begin each rule with [[rules]]."
        )
    return Contract.from_dict(_plain(read))


def to_toml(contract: Contract) -> str:
    """The contract as TOML; reading it gives an equal contract."""
    tables = [f"personal = {_value(contract.personal)}\n"] if contract.personal else []
    for rule in msgspec.to_builtins(contract.rules):
        lines = [f"{key} = {_value(value)}" for key, value in rule.items() if value is not None]
        tables.append("\n".join(["[[rules]]", *lines, ""]))
    return "\n".join(tables)


def _plain(value: Any) -> Any:
    """Dates and times as ISO text, as bounds are declared."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_value(key)} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):  # a JSON text is a TOML basic string, but for DEL, which JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
