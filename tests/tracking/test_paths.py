"""Paths and keys: the attacks on artifact paths, and that plain names pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.tracking.ids import ulid
from loopline.tracking.paths import check_key, check_path

ATTACKS = [
    "", "/etc/passwd", "../up", "a/../../b", "a/..", "..", ".", "a/./b", "a//b", "a/", "\\..\\x", "a\\b", "C:/x", "c:..",
    "c:../x", "c:\\x",     "%2e%2e/x", "%252e%252e/x", "%25252e%25252e%25252fx", "a/%2e%2e/b", "%2fetc",
    "a%5c..%5cb", "%5cetc", "a%00b", "%25255cx", "c%3a/x", "c%3a%2e%2e", "ｃ：/x", "a;/../../b", "a?/../b", "a#/../b",
    "a\0b", "a\nb", "．．/x", "a/‥/b", "․․/x", "a/...", "a.", "a /b", "x" * 2000, "y" * 300 + "/a", "a\u202eb", "a\ud800b",
]  # fmt: skip


@pytest.mark.parametrize("path", ATTACKS)
def test_a_path_that_climbs_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_path(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "path",
    [
        "a.txt",
        "plots/roc curve.png",
        ".config/x",
        "a..b/c",
        "100%.txt",
        "größe/δ.csv",
        "v1.0/model.onnx",
        "a;b#c",
        "a:b",
        "c:x/y:z",
        "image%step%1%1795838507828%5cde%2fa%20.png",
    ],
)
def test_a_plain_path_passes(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=60))
def test_what_passes_stays_below_its_folder(path: str) -> None:
    import posixpath
    from urllib.parse import unquote

    try:
        check_path(path)
    except Invalid:
        return
    for _ in range(3):
        for form in (path, path.replace("\\", "/")):
            assert posixpath.normpath(posixpath.join("/root", form)).startswith("/root/")
        path = unquote(path)


@pytest.mark.parametrize("key", ["", " ", "a\tb", "a\x1bb", "x" * 251, "../a", "a/..", "/a", "a/"])
def test_a_bad_key_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        check_key(key, "key")


@pytest.mark.parametrize("key", ["loss", "train/loss", "f1 (macro)", "läßt", "a.b-c_d:e%"])
def test_a_good_key_passes(key: str) -> None:
    assert check_key(key, "key") == key


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=20))
def test_ids_sort_by_time(times: list[int]) -> None:
    made = [ulid(time) for time in sorted(set(times))]
    assert made == sorted(made)
    assert all(len(run) == 26 for run in made)
    assert ulid(5, lambda n: b"\xff" * n) < ulid(6, lambda n: b"\0" * n)
    same = [ulid(7) for _ in range(1000)]
    assert same == sorted(set(same))
    assert ulid(7, lambda n: b"x" * n) == ulid(7, lambda n: b"x" * n)
