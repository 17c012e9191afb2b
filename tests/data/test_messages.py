"""A message that is taken as a row is read as one by the readers of files, whatever it holds: none holds the others up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.data.readers import read_table
from loopline.ports.messages import JsonLines, Messages

KEYS = st.one_of(
    st.sampled_from(["a", "b", "a.b", "A", "", " ", "*", "^a$", "value", "_topic", "a b", "é"]), st.text(max_size=5)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["2026-01-01", "NA", "", "1", "true", "2026-01-01T10:00:00Z", '": "']),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
BYTES = st.one_of(
    VALUES.map(msgspec.json.encode),
    st.dictionaries(KEYS, VALUES, max_size=4).map(msgspec.json.encode),
    st.binary(max_size=20),
    st.lists(st.tuples(KEYS, VALUES), max_size=4).map(
        lambda pairs: (
            b"{" + b",".join(msgspec.json.encode(k) + b" : " + msgspec.json.encode(v) for k, v in pairs) + b"}"
        )
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contents=st.lists(BYTES, min_size=1, max_size=8), beside=st.booleans())
def test_messages_in_are_rows_out_and_refused(contents: list[bytes], beside: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        messages = Messages(JsonLines(Path(folder), "value"))
        for number, content in enumerate(contents):
            messages.add(str(number), content, {"_topic": "ward/a"} if beside else {})
        piece = messages.piece("all", {})
        rows = read_table(piece.file).frame.height if piece.file is not None else 0
        assert rows + len(piece.refused) == len(contents)
        assert {int(one.place) for one in piece.refused} <= set(range(len(contents)))
        assert all(one.content == contents[int(one.place)] for one in piece.refused)
