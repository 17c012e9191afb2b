"""The Merkle tree against the recursive definitions of RFC 6962 and its known vectors."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.ledger import merkle

# The leaves and roots of the reference implementation of Certificate Transparency (merkle_tree_test).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive(leaves[:k])]


def naive_proof(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_proof(m, leaves[:k], whole), naive(leaves[k:])]
    return [*naive_proof(m - k, leaves[k:], False), naive(leaves[:k])]


def reader(leaves: list[bytes]) -> merkle.Subtree:
    return lambda level, place: naive(leaves[place << level : (place + 1) << level])


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    frontier = merkle.Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(merkle.leaf_hash(leaf))
    assert frontier.root().hex() == ROOTS[size]
    assert merkle.root(size, reader(LEAVES)).hex() == ROOTS[size]


def test_known_paths_of_the_reference_implementation() -> None:
    path = [node.hex() for node in merkle.inclusion(5, 8, reader(LEAVES))]
    assert path == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    proof = [node.hex() for node in merkle.consistency(6, 8, reader(LEAVES))]
    assert proof == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


trees = st.lists(st.binary(max_size=6), min_size=1, max_size=70)


@given(trees)
def test_the_frontier_grows_to_the_naive_root(leaves: list[bytes]) -> None:
    frontier = merkle.Frontier()
    for count, leaf in enumerate(leaves, 1):
        frontier.append(merkle.leaf_hash(leaf))
        frontier = merkle.Frontier(count, frontier.to_bytes())
    assert frontier.root() == naive(leaves)


@given(trees, st.data())
def test_inclusion(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion(index, size, reader(leaves))
    assert path == naive_path(index, leaves)
    leaf, root = merkle.leaf_hash(leaves[index]), naive(leaves)
    assert merkle.check_inclusion(leaf, index, size, path, root)
    assert not merkle.check_inclusion(merkle.leaf_hash(leaves[index] + b"!"), index, size, path, root)
    assert not merkle.check_inclusion(leaf, index, size, [*path, root], root)
    assert not merkle.check_inclusion(leaf, size, size, path, root)
    if path:
        assert not merkle.check_inclusion(leaf, index, size, path[:-1], root)
        assert not merkle.check_inclusion(leaf, index ^ 1, size, path, root) or leaves[index] == leaves[index ^ 1]


@given(trees, st.data())
def test_consistency(leaves: list[bytes], data: st.DataObject) -> None:
    second = len(leaves)
    first = data.draw(st.integers(1, second))
    proof = merkle.consistency(first, second, reader(leaves))
    assert proof == naive_proof(first, leaves)
    old, new = naive(leaves[:first]), naive(leaves)
    assert merkle.check_consistency(first, second, proof, old, new)
    assert not merkle.check_consistency(first, second, proof, bytes(32), new)
    assert not merkle.check_consistency(first, second, proof, old, bytes(32))
    assert not merkle.check_consistency(first, second, [*proof, new], old, new)


@given(st.integers(0, 3), st.integers(0, 600))
def test_kept_nodes_are_complete_subtrees(more: int, size: int) -> None:
    frontier = merkle.Frontier()
    leaves = [merkle.leaf_hash(str(n).encode()) for n in range(size + more)]
    kept = [node for leaf in leaves for node in frontier.append(leaf)]
    assert [(level, place) for level, place, _ in kept] == [(8, n) for n in range((size + more) // 256)]
    assert all(node == merkle.fold(leaves[256 * place : 256 * place + 256]) for _, place, node in kept)


def test_a_tree_of_subtrees_is_the_same_tree() -> None:
    leaves = [merkle.leaf_hash(str(n).encode()) for n in range(256 * 257)]
    one, other = merkle.Frontier(), merkle.Frontier()
    kept = [node for leaf in leaves for node in one.append(leaf)]
    for at in range(0, len(leaves), 256):
        other.append_subtree(8, merkle.fold(leaves[at : at + 256]))
    assert one.root() == other.root()
    assert [(level, place) for level, place, _ in kept if level == 16] == [(16, 0)]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError):
        merkle.Frontier(3, b"\0" * 32)
    with pytest.raises(ValueError):
        merkle.inclusion(3, 3, reader(LEAVES))
    with pytest.raises(ValueError):
        merkle.consistency(0, 3, reader(LEAVES))
    assert not merkle.check_consistency(3, 2, [], b"", b"")
    assert not merkle.check_consistency(3, 5, [], b"", b"")
