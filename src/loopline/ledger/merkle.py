"""The Merkle tree of RFC 6962 (and RFC 9162, section 2.1): roots, inclusion and consistency proofs, over SHA-256.

A leaf is SHA256(0x00 || entry), a node SHA256(0x01 || left || right). Nothing here knows where entries are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()
"""The root of the tree without leaves."""

STRIDE = 8
"""Every how many levels a node is kept: a proof reads at most 2**STRIDE entries."""

Subtree = Callable[[int, int], bytes]
"""Gives the hash of a complete subtree by its level (0: a leaf) and its place in that level."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry as a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node from its children's."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that can only grow: the hashes of its largest complete subtrees, from left to right (at most 64)."""

    def __init__(self, size: int = 0, hashes: bytes = b"") -> None:
        if len(hashes) != 32 * size.bit_count():
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(hashes) / 32:g}"
            )
        self.size = size
        self._hashes = [hashes[i : i + 32] for i in range(0, len(hashes), 32)]

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Adds a leaf hash; gives the nodes that are complete now and worth keeping, as (level, place, hash)."""
        return self.append_subtree(0, leaf)

    def append_subtree(self, level: int, node: bytes) -> list[tuple[int, int, bytes]]:
        """Adds a complete subtree of 2**level leaves; the size must be a multiple of that."""
        kept = []
        self.size += 1 << level
        while True:
            if level and level % STRIDE == 0:
                kept.append((level, (self.size >> level) - 1, node))
            if (self.size >> level) & 1:
                break
            node = node_hash(self._hashes.pop(), node)
            level += 1
        self._hashes.append(node)
        return kept

    def root(self) -> bytes:
        """The Merkle root."""
        if not self._hashes:
            return EMPTY
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """All the frontier holds but its size."""
        return b"".join(self._hashes)


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of the complete subtree over 2**k hashes of one level."""
    level = list(hashes)
    while len(level) > 1:
        level = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _range(low: int, high: int, subtree: Subtree) -> bytes:
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, low >> level)
    middle = low + _split(size)
    return node_hash(_range(low, middle, subtree), _range(middle, high, subtree))


def root(size: int, subtree: Subtree) -> bytes:
    """The root of the first `size` leaves."""
    return _range(0, size, subtree) if size else EMPTY


def inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of leaf `index` in the tree of the first `size` leaves, from the leaf upwards (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range(middle, high, subtree))
            high = middle
        else:
            path.append(_range(low, middle, subtree))
            low = middle
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Whether the audit path leads from the leaf hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for other in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(other, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    return last == 0 and found == expected


def consistency(first: int, second: int, subtree: Subtree) -> list[bytes]:
    """That the tree of `first` leaves is the beginning of that of `second` (RFC 9162, 2.1.4.1)."""
    if not 0 < first <= second:
        raise ValueError(f"there is no proof from {first} to {second} leaves")
    proof: list[bytes] = []
    low, high, whole = 0, second, True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            proof.append(_range(middle, high, subtree))
            high = middle
        else:
            proof.append(_range(low, middle, subtree))
            low, whole = middle, False
    if not whole:
        proof.append(_range(low, high, subtree))
    return proof[::-1]


def check_consistency(first: int, second: int, proof: Sequence[bytes], old: bytes, new: bytes) -> bool:
    """Whether the proof shows that the tree with root `old` is the beginning of that with root `new` (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and old == new
    steps = list(proof) if first & (first - 1) else [old, *proof]
    if not steps:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    left = right = steps[0]
    for other in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            left, right = node_hash(other, left), node_hash(other, right)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            right = node_hash(right, other)
        node, last = node >> 1, last >> 1
    return last == 0 and left == old and right == new
