"""A program: feeds made-up bytes to the parsers of requests, led by coverage; anything but a refusal of theirs ends it.

python fuzz_parsers.py SECONDS
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["loopline.serving", "loopline.features"]):
    from loopline.features.records import Field, Signature
    from loopline.serving import oip
    from loopline.serving.call import Call
    from loopline.serving.contract import Contract
    from loopline.serving.foreign.azure import Score
    from loopline.serving.foreign.cloudevents import Event
    from loopline.serving.foreign.sagemaker import Invocation
    from loopline.serving.foreign.tensorflow import Prediction as Predict
    from loopline.serving.foreign.torchserve import Prediction
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

ENDPOINTS = [
    SimpleNamespace(
        contract=contract,
        variants=[
            SimpleNamespace(task="binary", signature=Signature(inputs=FIELDS, task="binary", classes=("no", "yes")))
        ],
    )
    for contract in CONTRACTS
]
CODECS = (
    lambda: Score({}),
    lambda: Event({b"content-type": b"application/cloudevents+json"}),
    lambda: Prediction({b"content-type": b"multipart/form-data; boundary=b"}),
    lambda: Prediction({b"content-type": b"application/x-www-form-urlencoded"}),
    lambda: Prediction({b"content-type": b"text/csv"}),
    lambda: Invocation({}),
    lambda: Event({b"ce-id": b"7", b"ce-source": b"%ff", b"ce-type": b"t", b"ce-specversion": b"1.0"}),
    lambda: Event({b"ce-id": b"7", b"ce-source": b"s", b"ce-type": b"t", b"ce-specversion": b"1.0"}),
    lambda: Invocation({b"content-type": b"text/csv"}),
    lambda: Invocation({b"content-type": b"application/jsonlines"}),
    lambda: Invocation({b"content-type": b"application/json; charset=utf-8"}),
    lambda: Predict("predict"),
    lambda: Predict("classify"),
)


def one(data: bytes) -> None:
    """One input: the first byte says for which parser."""
    if not data:
        return
    kind, body = data[0], data[1:]
    contract = CONTRACTS[kind & 1]
    try:
        if kind & 8:
            call = Call()
            call.body = body
            CODECS[(kind >> 4) % len(CODECS)]().read(call, ENDPOINTS[kind & 1], 100)
        elif kind & 2:
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
