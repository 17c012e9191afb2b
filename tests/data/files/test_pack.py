"""Packs of objects: read however they are cut, and believed in nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.data.files.pack import packed, unpacked
from loopline.errors import Invalid
from loopline.hashing import digest_bytes


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 97))
def test_a_pack_is_read_however_it_is_cut(contents: list[bytes], step: int) -> None:
    data = packed((digest_bytes(content), content) for content in contents)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [(d, bytes(found)) for d, found in unpacked(pieces)] == [(digest_bytes(c), c) for c in contents]


@pytest.mark.parametrize("damage", ["cut", "lies", "huge", "head"])
def test_a_pack_that_lies_is_refused(damage: str) -> None:
    data = packed([(digest_bytes(b"abc"), b"abc")])
    bad = {
        "cut": data[:-1],
        "lies": data[:-1] + b"x",
        "huge": data[:32] + (1 << 62).to_bytes(8, "little") + b"abc",
        "head": data[:20],
    }[damage]
    with pytest.raises(Invalid) as caught:
        list(unpacked([bad]))
    assert caught.value.code == "bad-pack"
