"""A program: feeds made-up bytes to the parsers of requests, led by coverage; anything but a refusal of theirs ends it.

python fuzz_parsers.py SECONDS
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["loopline.serving", "loopline.features"]):
    from loopline.features.records import Field
    from loopline.serving import oip
    from loopline.serving.contract import Contract
    from loopline.serving.problems import Problem

FIELDS = (
    Field(name="age", kind="number", nullable=True, minimum=0, maximum=99),
    Field(name="visits", kind="integer", nullable=False),
    Field(name="insured", kind="boolean", nullable=True),
    Field(name="admitted", kind="date", nullable=True),
    Field(name="ward", kind="category", nullable=True, categories=("east", "north")),
)
CONTRACTS = (
    Contract(FIELDS),
    Contract(FIELDS, passthrough=("patient",), route_key="patient", refuse_unknown=True, refuse_outside=True),
)


def one(data: bytes) -> None:
    """One input: the first byte says for which parser."""
    if not data:
        return
    kind, body = data[0], data[1:]
    contract = CONTRACTS[kind & 1]
    try:
        if kind & 2:
            length = None if kind & 4 else int.from_bytes(body[:2], "little")
            oip.decode(contract, body[2:], length, 100)
        else:
            rows = contract.decode(body, 100)
            assert all(len(row) == len(contract.fields) for row in rows.rows)
    except Problem as problem:
        if not 400 <= problem.status < 500:
            raise


if __name__ == "__main__":
    atheris.Setup(["fuzz", f"-max_total_time={sys.argv[1]}", "-max_len=4096", *sys.argv[2:]], one)
    atheris.Fuzz()
