"""What of a request's rows the prediction log keeps, where an endpoint's policy says not all: made ready when a table is loaded.

Answers are on record always; it is rows that are sampled, and columns that are left out or hashed. A hashed value is
`hash:` and 24 hex digits of BLAKE2b, keyed with the endpoint's salt: equal values stay equal within the endpoint.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import xxhash

from loopline.serving.bodies import Form
from loopline.serving.records import Policy

Keys = list[str | None] | str | None
_PARTS = 1 << 32


class Keeping:
    """One endpoint's rule. `key_column` is the column that routing keys are taken from."""

    def __init__(self, policy: Policy, salt: str, key_column: str | None) -> None:
        self._hidden = frozenset(policy.hidden)
        self._hashed = frozenset(policy.hashed)
        self._kept = int(policy.rows_kept * _PARTS)
        self._salt = salt.encode()[:64]
        self._key_column = key_column

    def rows(self, form: Form, sent: bytes, request: str) -> tuple[Form, bytes]:
        """The rows of a request as they are kept; form "none": not at all."""
        if xxhash.xxh3_64_intdigest(request.encode()) % _PARTS >= self._kept:
            return "none", b""
        if not self._hidden and not self._hashed:
            return form, sent
        if form == "columns":
            columns = msgspec.msgpack.decode(sent)
            kept = {name: [self._value(name, v) for v in values] for name, values in columns.items()}
            return form, msgspec.msgpack.encode({n: values for n, values in kept.items() if n not in self._hidden})
        found = msgspec.json.decode(sent)
        rows = [found] if form == "object" else found["rows"] if form == "rows" else found
        return "list", msgspec.json.encode([self._row(row) for row in rows])

    def keys(self, keys: Keys) -> Keys:
        """Routing keys as they are kept. One that the caller gave beside the rows is no column's value, and stays."""
        if not isinstance(keys, list):
            return keys
        if self._key_column in self._hidden:
            return [None] * len(keys)
        return [self._value(self._key_column or "", key) for key in keys]

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: self._value(name, value) for name, value in row.items() if name not in self._hidden}

    def _value(self, name: str, value: Any) -> Any:
        if name not in self._hashed or value is None:
            return value
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return f"hash:{hashlib.blake2b(text.encode(), key=self._salt, digest_size=12).hexdigest()}"


def keeping(policy: Policy, salt: str, key_column: str | None) -> Keeping | None:
    """The rule; None where all is kept as it was sent."""
    if policy.rows_kept >= 1 and not policy.hidden and not policy.hashed:
        return None
    return Keeping(policy, salt, key_column)
