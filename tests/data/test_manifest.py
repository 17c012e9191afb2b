"""Manifests: what they say is checked before anything is made of it."""

from __future__ import annotations

import msgspec
import pytest

from loopline.data.manifest import LARGEST, Chunk, File, Link, Manifest, check, decode, difference
from loopline.errors import Invalid
from loopline.hashing import digest_bytes

NONE = digest_bytes(b"")


def file(path: str, data: bytes = b"x", **more: object) -> File:
    return File(path=path, size=len(data), digest=digest_bytes(data), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    ["../a", "/a", "a//b", "a/./b", "", ".", "..", "a/../../b", "a\0b", "a/", ".git/hooks/post-checkout", "x/.GIT/config",
     "\udcff", "a" * 256, "x/" + "é" * 128, "/".join(["a" * 200] * 21)],
)  # fmt: skip
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(Manifest(files=(file(path),)))
    assert caught.value.code == "bad-manifest"
    with pytest.raises(Invalid):
        check(Manifest(folders=(path,)))


def test_a_long_path_of_short_names_is_good() -> None:
    check(Manifest(files=(file("/".join(["é" * 127, "a" * 255, ".gitignore", "b..c", "git"])),)))


@pytest.mark.parametrize(
    ("path", "target", "good"),
    [
        ("a", "b", True), ("a", "b/c", True), ("d/a", "../b", True), ("d/e/a", "../../b", True), ("a", "./b", True),
        ("a", "../b", False), ("d/a", "../../b", False), ("a", "/etc/passwd", False), ("a", "", False), ("a", "b\0", False),
        # Through another link this would climb out: whatever climbs does so first.
        ("a", "d/../../x", False), ("a", "d/../b", False),
    ],
)  # fmt: skip
def test_a_link_that_may_leave_its_folder_is_refused(path: str, target: str, good: bool) -> None:
    manifest = Manifest(links=(Link(path=path, target=target),))
    if good:
        check(manifest)
    else:
        with pytest.raises(Invalid, match="points outside"):
            check(manifest)


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (Manifest(files=(file("a"), file("a"))), "twice"),
        (Manifest(files=(file("a"), file("a/b"))), "a folder and something else"),
        (Manifest(files=(file("l/b"),), links=(Link(path="l", target="x"),)), "a folder and something else"),
        (Manifest(files=(file("b"), file("a"))), "not sorted"),
        (Manifest(files=(File(path="a", size=2 << 20, digest=digest_bytes(b"")),)), "do not come to"),
        (Manifest(files=(file("a", chunks=(Chunk(digest_bytes(b"x"), 2),)),)), "do not come to"),
        (Manifest(files=(file("a", b"", chunks=(Chunk(digest_bytes(b""), -1), Chunk(digest_bytes(b""), 1))),)), "do not"),
        (Manifest(files=(File(path="a", size=LARGEST + 1, digest=NONE, chunks=(Chunk(NONE, LARGEST + 1),)),)), "do not"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_together_is_refused(manifest: Manifest, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check(manifest)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"files": [{"path": 1}]}', b"\xff", b'{"files": [{}]}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode(data)


def test_a_digest_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid):
        decode(msgspec.json.encode({"files": [{"path": "a", "size": 1, "digest": "blake3:../../../etc"}]}))


def test_what_changed_is_told_by_path() -> None:
    before = Manifest(files=(file("a"), file("b"), file("c")), links=(Link(path="l", target="a"),), folders=("e",))
    after = Manifest(files=(file("a"), file("b", b"y"), file("c", executable=True), file("d")), folders=("e", "f"))
    found = difference(before, after, ("one", "two"))
    assert (found.added, found.removed, found.changed, found.same) == (("d", "f"), ("l",), ("b", "c"), 2)
