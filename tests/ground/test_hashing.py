"""What "identical" means: canonical JSON (RFC 8785), digests of bytes and of tables."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from loopline import hashing

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_is_json_and_says_the_same(value: object) -> None:
    text = hashing.canonical_json(value)
    assert json.loads(text, parse_int=float) == value
    assert hashing.canonical_json(json.loads(text, parse_int=float)) == text


names = (
    st.text(st.characters(max_codepoint=127)) | st.text() | st.from_regex(r"[:,\[]-?[0-9]{1,20}[.e]?", fullmatch=True)
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(plain_values | json_values)
def test_the_short_way_and_the_long_one_give_the_same_text(value: object) -> None:
    assert hashing.canonical_json(value) == hashing._encode(value).encode()


@pytest.mark.parametrize("value", [math.nan, -math.inf, 2**53 + 1, -(2**53) - 1, 2**70])
def test_what_json_cannot_carry_is_refused_wherever_it_stands(value: float) -> None:
    for given_ in (value, [value], {"a": {"b": [1, value]}}, {"null": value}):
        with pytest.raises(ValueError, match="JSON"):
            hashing.canonical_json(given_)


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # RFC 8785, appendix B
        ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"), ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"), ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"), ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"), ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"), ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"), ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"), ("41b3de4355555555", "333333333.3333333"),
        ("becbf647612f3696", "-0.0000033333333333333333"), ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)  # fmt: skip
def test_numbers_as_rfc_8785_prescribes(bits: str, text: str) -> None:
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert hashing.canonical_json(value).decode() == text


def test_the_order_of_keys_and_strings_of_rfc_8785() -> None:
    value = {
        "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
        "\U0001f600": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis",
    }  # fmt: skip
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(hashing.canonical_json(value))) == order
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert hashing.canonical_json(text).decode() == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1])
def test_what_json_cannot_carry_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        hashing.canonical_json({"x": value})


def test_bytes_by_their_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    path = tmp_path / "file"
    path.write_bytes(data)
    digest = "blake3:" + blake3(data).hexdigest()
    assert (
        hashing.digest_bytes(data)
        == hashing.digest_file(path)
        == hashing.digest_chunks([data[:7], b"", data[7:]])
        == digest
    )


COLUMNS = {
    "i": pa.array([1, None, 3, 4], pa.int32()),
    "f": pa.array([1.5, None, math.nan, -0.0]),
    "b": pa.array([True, None, False, True]),
    "s": pa.array(["a", None, "", "dä"]),
    "d": pa.array([1, None, 3, 4], pa.date32()),
    "t": pa.array([1, None, 3, 4], pa.timestamp("us", "UTC")),
    "c": pa.array(["x", None, "y", "x"]).dictionary_encode(),
    "l": pa.array([[1], None, [], [2, 3]]),
    "z": pa.nulls(4),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_does_not_depend_on_its_layout(name: str) -> None:
    column = COLUMNS[name]
    whole = pa.table({name: column})
    digest = hashing.digest_table(whole)
    chunked = pa.table({name: pa.chunked_array([column[:1], column[1:1], column[1:3], column[3:]])})
    assert hashing.digest_table(chunked) == digest
    padded = pa.concat_tables([whole, whole, whole]).combine_chunks()
    assert hashing.digest_table(padded.slice(4, 4)) == digest
    assert hashing.digest_table(whole.replace_schema_metadata({"a": "b"})) == digest
    assert hashing.digest_table(whole.slice(0, 3)) != digest
    assert hashing.digest_table(whole.rename_columns(["other"])) != digest
    if name != "z":
        assert hashing.digest_table(whole.take([1, 0, 2, 3])) != digest


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 30])
def test_rows_that_come_in_pieces_have_the_same_digest(rows: int) -> None:
    table = pa.table(
        {
            "i": pa.array([None if i % 3 else i for i in range(rows)], pa.int64()),
            "s": pa.array([None if i % 5 == 1 else "ä" * i for i in range(rows)], pa.string()),
            "f": [0.5] * rows,
        }
    )
    digest = hashing.TableDigest(table.schema)
    for at in range(0, rows, 4):
        digest.add(table.slice(at, 4))
        assert digest.digest() == hashing.digest_table(table.slice(0, at + 4))
    assert digest.digest() == hashing.digest_table(table)


def test_equal_values_in_other_clothes_are_equal() -> None:
    digest = hashing.digest_table
    assert digest(pa.table({"f": [0.0, math.nan]})) == digest(pa.table({"f": [-0.0, -math.nan]}))
    text = pa.array(["a", None])
    for other in (text.cast(pa.large_string()), text.cast(pa.string_view()), text.dictionary_encode()):
        assert digest(pa.table({"s": text})) == digest(pa.table({"s": other}))


def test_different_values_differ() -> None:
    digest = hashing.digest_table
    assert digest(pa.table({"s": ["", None]})) != digest(pa.table({"s": [None, ""]}))
    assert digest(pa.table({"s": ["ab", "c"]})) != digest(pa.table({"s": ["a", "bc"]}))
    assert digest(pa.table({"i": pa.array([1], pa.int32())})) != digest(pa.table({"i": pa.array([1], pa.int64())}))
    assert digest(pa.table({"i": [0, None]})) != digest(pa.table({"i": [None, 0]}))
    assert digest(pa.table({"a": [1], "b": [2]})) != digest(pa.table({"b": [2], "a": [1]}))
    assert digest(pa.table({"n": pa.nulls(2)})) != digest(pa.table({"n": pa.nulls(3)}))
    times = pa.array([1], pa.timestamp("us"))
    assert digest(pa.table({"t": times})) != digest(pa.table({"t": pa.array([2], pa.timestamp("us"))}))
    assert digest(pa.table({"u": pa.array([2**64 - 1], pa.uint64())})) != digest(
        pa.table({"u": pa.array([0], pa.uint64())})
    )
    assert digest(pa.table({"a": pa.array([], pa.int64())})) != digest(pa.table({"a": pa.array([], pa.string())}))
