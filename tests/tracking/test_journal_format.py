"""The journal's format: known bytes, any cut, any damage, and what an attacker may send."""

from __future__ import annotations

import math
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.tracking.journal_format import (
    HEAD,
    KEY_LENGTH,
    KINDS,
    LARGEST,
    LARGEST_CONTENT,
    POINT,
    Entry,
    Points,
    decode,
    frame,
    pack,
    run_prefix,
    spans,
)

RUN = "01K00000000000000000000000"


def points(run: str, *some: tuple[str, int, int, float]) -> bytes:
    keys = [(key.encode(), POINT.pack(step, time, value)) for key, step, time, value in some]
    return frame(1, run_prefix(run) + b"".join(KEY_LENGTH.pack(len(key)) + key + point for key, point in keys))


def entry(kind: str, run: str, text: bytes) -> bytes:
    return frame(KINDS.index(kind) + 1, run_prefix(run) + text)


def test_known_bytes() -> None:
    assert points("r", ("ä", -2, 3, 0.5)).hex() == (
        "1e000000" "636963d6" "01" "0172" "0200c3a4" "feffffffffffffff" "0300000000000000" "000000000000e03f"
    )  # fmt: skip
    assert entry("finish", "r", b"{}").hex() == "04000000" "8be384c6" "09" "0172" "7b7d"  # fmt: skip
    assert KINDS == ("points", "run", "params", "tags", "note", "link", "console", "artifact", "finish")


one_point = st.tuples(
    st.text(min_size=1, max_size=5).filter(lambda key: key.isprintable()),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.floats(),
)
one_frame = st.one_of(
    st.builds(lambda run, some: points(run, *some), st.sampled_from("ab"), st.lists(one_point, min_size=1, max_size=4)),
    st.builds(lambda kind, n: entry(kind, "a", b'{"n":%d}' % n), st.sampled_from(KINDS[1:]), st.integers(0, 99)),
)
frames = st.lists(one_frame, max_size=8)


@given(frames, st.data())
def test_whatever_is_cut_off_leaves_a_prefix(some: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(some)
    cut = data.draw(st.integers(0, len(whole)))
    found = list(spans(whole[:cut], 0))
    kept = [whole[s.start : s.end] for s in found if s.kind]
    assert kept == some[: len(kept)]
    assert len(b"".join(some[: len(kept) + 1])) > cut or len(kept) == len(some)
    assert [s for s in found[:-1] if not s.kind] == []


@given(st.lists(one_frame, min_size=1, max_size=8), st.data())
def test_a_damaged_byte_costs_its_own_frame_and_is_told(some: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(some))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    ends = [sum(map(len, some[: n + 1])) for n in range(len(some))]
    hurt = next(n for n, end in enumerate(ends) if place < end)
    found = list(spans(bytes(whole), 0))
    assert [bytes(whole[s.start : s.end]) for s in found if s.kind] == some[:hurt] + some[hurt + 1 :]
    assert [(s.start, s.end) for s in found if not s.kind] == [(ends[hurt] - len(some[hurt]), ends[hurt])]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(one_point, min_size=1, max_size=4)), max_size=8))
def test_all_points_of_a_run_come_as_columns(batch: list[tuple[str, list[tuple[str, int, int, float]]]]) -> None:
    content = pack(b"".join(points(run, *some) for run, some in batch))
    expected: dict[str, list[Any]] = {}
    for run, some in batch:
        expected.setdefault(run, []).extend((k, s, t, struct.pack("<d", v)) for k, s, t, v in some)
    found = {}
    for one in decode(content):
        assert isinstance(one, Points)
        assert len(set(one.keys)) == len(one.keys)
        rows = zip(one.index, one.steps, one.times, one.values, strict=True)
        found[one.run] = [(one.keys[i], s, t, struct.pack("<d", v)) for i, s, t, v in rows]
    assert found == expected


def test_entries_keep_their_order_and_points_of_a_run_stand_where_they_began() -> None:
    content = pack(
        entry("run", "a", b'{"name":"fit"}')
        + points("a", ("loss", 1, 1, math.nan))
        + entry("note", "a", '{"text":"größe"}'.encode())
        + points("a", ("loss", 2, 1, math.inf))
        + entry("finish", "a", b"{}")
    )
    first, columns, note, last = decode(content)
    assert first == Entry("run", "a", {"name": "fit"})
    assert isinstance(columns, Points)
    assert (list(columns.steps), math.isnan(columns.values[0]), columns.values[1]) == ([1, 2], True, math.inf)
    assert (note, last) == (Entry("note", "a", {"text": "größe"}), Entry("finish", "a", {}))


def test_a_batch_of_no_frames_is_empty() -> None:
    assert decode(pack(b"")) == []


def raw(data: bytes) -> bytes:
    return b"\0" + data


def payload(kind: int, data: bytes) -> bytes:
    return raw(frame(kind, data))


WHOLE = points("a", ("loss", 1, 1, 0.5))
BAD = {
    "nothing": b"",
    "unknown mark": b"\2" + WHOLE,
    "half a head": raw(WHOLE[:5]),
    "half a frame": raw(WHOLE[:-1]),
    "more behind": raw(WHOLE + b"x"),
    "a wrong crc": raw(WHOLE[:-1] + b"\7"),
    "kind 0": raw(HEAD.pack(0, zlib.crc32(b"\0"), 0)),
    "an unknown kind": raw(HEAD.pack(0, zlib.crc32(b"\x0a"), 10)),
    "a length beyond": raw(HEAD.pack(2**32 - 1, 0, 1) + b"x" * 50),
    "no run": payload(2, b""),
    "a run cut off": payload(2, b"\5ab"),
    "a run that is no text": payload(2, b"\1\xff{}"),
    "no points": payload(1, b"\1a"),
    "a key cut off": payload(1, b"\1a\5\0ab"),
    "a key that is no text": payload(1, b"\1a\1\0\xff" + bytes(24)),
    "a surrogate as a key": payload(1, b"\1a\3\0\xed\xa0\x80" + bytes(24)),
    "a point cut off": payload(1, b"\1a\1\0k" + bytes(23)),
    "half a second point": payload(1, b"\1a\1\0k" + bytes(24) + b"\1"),
    "no JSON": payload(2, b"\1a{"),
    "JSON that is no object": payload(2, b"\1a[]"),
    "NaN": payload(2, b'\1a{"x":NaN}'),
    "JSON of bad text": payload(2, b'\1a{"x":"\xff"}'),
    "deep JSON": payload(2, b'\1a{"x":' + b"[" * 100_000),
    "a long number": payload(2, b'\1a{"x":' + b"9" * 100_000 + b"}"),
    "no zlib": b"\1" + WHOLE,
    "zlib cut off": pack(WHOLE * 50)[:-3],
    "bytes behind zlib": pack(WHOLE * 50) + b"x",
    "a bomb": b"\1" + zlib.compress(bytes(100 << 20), 9),
    "too many bytes": bytes(LARGEST_CONTENT + 1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as e:
        decode(BAD[name])
    assert e.value.code == "bad-batch"
    assert len(str(e.value)) < 1000


def refusal(content: bytes) -> str:
    """The code with which content is refused, "" where it is taken."""
    try:
        decode(content)
    except Invalid as e:
        return e.code
    return ""


@given(st.binary(max_size=200), st.sampled_from([b"\0", b"\1", b""]))
def test_any_bytes_are_taken_or_refused(data: bytes, mark: bytes) -> None:
    assert refusal(mark + data) in ("", "bad-batch")


@given(one_frame, st.binary(min_size=1, max_size=60))
def test_any_payload_is_taken_or_refused(one: bytes, data: bytes) -> None:
    for kind in range(1, len(KINDS) + 1):
        assert refusal(raw(one + frame(kind, data))) in ("", "bad-batch")


def test_a_bomb_is_never_inflated() -> None:
    bomb = b"\1" + zlib.compress(bytes(200 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match=str(LARGEST)):
            decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
    finally:
        tracemalloc.stop()
