"""What of the rows is kept: sampled, without columns, or hashed; and that nothing of it stands in the log's bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.serving.keeping import Keeping, keeping
from loopline.serving.log import read_segment, segments
from loopline.serving.records import Policy, PredictionRecord
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, live, table

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]


def records(folder: Path) -> list[PredictionRecord]:
    return [r for path in segments(folder / "log") for r in read_segment(path)[0]]


@pytest.mark.parametrize("form", ["list", "rows", "nested", "columns"])
def test_personal_columns_are_never_written(serve: Serve, bundle: Bundle, folder: Path, form: str) -> None:
    policy = Policy(hidden=("ssn",), hashed=("patient", "age"))
    passed = ("ssn", "patient", "who.x")
    a, b = bundle(version=1), bundle(version=2)
    server = serve(
        table(
            1, live(a, 1, 5000), live(b, 2, 5000, "challenger"), live(b, 2, name="shadow", mode="shadow"),
            policy=policy, passthrough=passed, route_key="patient", salt="s1",
        )
    )  # fmt: skip
    rows = [{**EXAMPLE, "ssn": "SECRET-1", "patient": "PERSON-1", "age": 33.125} for _ in range(2)]
    if form == "columns":
        kinds = {"age": "FP64", "visits": "INT64", "insured": "BOOL"}
        tensors = [
            {"name": n, "shape": [2], "datatype": kinds.get(n, "BYTES"), "data": [row[n] for row in rows]}
            for n in rows[0]
        ]
        answer = call(server.port, "POST", "/v2/models/risk/infer", {"inputs": tensors})
    else:
        sent: Any = {"rows": rows} if form == "rows" else rows
        if form == "nested":
            sent = [{**row, "who": {"x": "fine"}} for row in rows]
        answer = call(server.port, "POST", "/predict/risk", sent)
    assert answer.status == 200, answer.body
    server.stop()
    written = b"".join(path.read_bytes() for path in segments(folder / "log"))
    for secret in (b"SECRET-1", b"PERSON-1", b"33.125", msgspec.msgpack.encode(33.125)):
        assert secret not in written
    kept = [r for r in records(folder) if r.mode == "live"]
    assert len(kept) == 2
    for record in kept:
        assert record.row is not None
        assert record.row.keys() - {"who.x"} == rows[0].keys() - {"ssn"}
        assert record.row["ward"] == EXAMPLE["ward"]
        assert record.row["patient"] == record.route_key == kept[0].row["patient"]  # type: ignore[index]
        assert str(record.row["age"]).startswith("hash:")
        assert record.output is not None
    assert len({r.variant for r in kept}) == 1  # routed by the value itself


def test_a_share_of_rows_is_kept_and_every_answer(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle()), policy=Policy(rows_kept=0.3)))
    ids = [call(server.port, "POST", "/predict/risk", [EXAMPLE]).json["predictions"][0]["id"] for _ in range(60)]
    assert call(server.port, "POST", "/predict/risk", []).status == 400
    server.stop()
    found = records(folder)
    assert [r.id for r in found if r.status == 200] == ids
    assert all(r.output for r in found if r.status == 200)
    kept = [r.row for r in found if r.row is not None]
    assert all(row == EXAMPLE for row in kept)
    assert 0 < len(kept) < 60
    assert [r.error for r in found if r.status != 200] == ["no-rows"]


@given(st.floats(0, 1))
def test_the_share_is_of_requests(share: float) -> None:
    rule = Keeping(Policy(rows_kept=share), "salt", None)
    kept = sum(rule.rows("list", b"[{}]", f"request-{n}")[0] == "list" for n in range(2000)) / 2000
    assert abs(kept - share) < 0.06


def test_nothing_is_in_the_way_where_all_is_kept() -> None:
    assert keeping(Policy(), "salt", "patient") is None
    assert keeping(Policy(rate=5, unknown_category="refuse"), "salt", None) is None


def test_a_hash_is_of_the_endpoint_and_keeps_what_is_missing() -> None:
    one, other = (Keeping(Policy(hashed=("a",)), salt, "a") for salt in ("s1", "s2"))
    body = msgspec.json.encode([{"a": 17, "b": 17}, {"a": "17"}, {"a": None}, {}])
    rows = msgspec.json.decode(one.rows("list", body, "r")[1])
    assert rows[0]["b"] == 17
    assert rows[0]["a"] == rows[1]["a"] == one.keys(["17"])[0]  # type: ignore[index]
    assert rows[2:] == [{"a": None}, {}]
    assert msgspec.json.decode(other.rows("list", body, "r")[1])[0]["a"] != rows[0]["a"]
    assert one.keys("given beside the rows") == "given beside the rows"
    assert Keeping(Policy(hidden=("a",)), "s", "a").keys(["17", None]) == [None, None]


def test_values_out_of_range_are_refused_by_policy(serve: Serve, bundle: Bundle) -> None:
    from .conftest import FIELDS

    def within(low: float, high: float, name: str) -> Any:
        return tuple(msgspec.structs.replace(f, minimum=low, maximum=high) if f.name == name else f for f in FIELDS)

    made, dated = bundle(fields=within(0, 9, "visits")), bundle(fields=within(0, 20_000, "admitted"))
    server = serve(table(1, live(made), policy=Policy(out_of_range="refuse")))
    ok: list[Any] = [EXAMPLE, {**EXAMPLE, "visits": 9}, {**EXAMPLE, "visits": 0.0}]
    assert call(server.port, "POST", "/predict/risk", ok).status == 200
    for value in (10, -1, 10.0):
        answer = call(server.port, "POST", "/predict/risk", [*ok, {**EXAMPLE, "visits": value}])
        assert (answer.status, answer.error["code"]) == (400, "out-of-range")
        details = answer.error["details"]
        assert (details["field"], details["row"], details["expected"]) == ("visits", 3, "0 to 9")
    tensors = [
        {"name": n, "shape": [1], "datatype": k, "data": [v]}
        for (n, v), k in zip(
            {**EXAMPLE, "visits": 11}.items(), ("FP64", "INT64", "BOOL", "BYTES", "BYTES"), strict=True
        )
    ]
    assert "outside" in call(server.port, "POST", "/v2/models/risk/infer", {"inputs": tensors}).error
    schema = call(server.port, "GET", "/docs/risk/openapi.json").json["components"]["schemas"]["Row"]["properties"]
    assert (schema["visits"]["minimum"], schema["visits"]["maximum"]) == (0, 9)
    server.push(table(2, live(made)))
    assert call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "visits": 10}]).status == 200
    server.push(table(3, live(dated), policy=Policy(out_of_range="refuse")))
    answer = call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "admitted": "2124-01-01"}])
    assert "1970-01-01 to 2024-10-04" in answer.error["details"]["expected"]
