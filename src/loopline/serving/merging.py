"""Several models behind one address: what callers must send so that each of them can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from loopline.errors import Invalid
from loopline.features.records import Field, Signature


def merge(variants: Iterable[tuple[str, Signature, bool]]) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """The fields that callers must send (those of live variants) and may send (of shadow ones alone).

    `variants` are (name, signature, live). A column is nullable where every live variant takes it missing; its categories are
    those of any. Raises `Invalid` where two variants want one column as different kinds.
    """
    found: dict[str, Field] = {}
    needed: set[str] = set()
    origin: dict[str, str] = {}
    for name, signature, live in sorted(variants, key=lambda v: not v[2]):
        for field in signature.inputs:
            known = found.get(field.name)
            if live:
                needed.add(field.name)
            if known is None:
                found[field.name], origin[field.name] = field, name
                continue
            if known.kind != field.kind and {known.kind, field.kind} != {"number", "integer"}:
                raise Invalid(
                    f"The variants {origin[field.name]!r} and {name!r} want the column {field.name!r} as {known.kind} and as "
                    f"{field.kind}.",
                    code="variants-differ",
                    hint="Give them endpoints of their own.",
                )
            kind = known.kind if known.kind == field.kind else "number"
            found[field.name] = msgspec.structs.replace(
                known,
                kind=kind,
                nullable=known.nullable and (field.nullable or not live),
                categories=tuple(sorted({*known.categories, *field.categories})),
                minimum=_either(min, known.minimum, field.minimum),
                maximum=_either(max, known.maximum, field.maximum),
            )
    return (
        tuple(f for f in found.values() if f.name in needed),
        tuple(f for f in found.values() if f.name not in needed),
    )


def _either(choose: Callable[..., float], one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else choose(one, other)
