"""Small summaries of many values that merge exactly: an ordered histogram of bit prefixes, and HyperLogLog registers.

Both give the same state whatever the order or the grouping of the merges, so a profile made in pieces equals the profile
made at once. (KLL sketches keep quantiles in less space, but by random compaction: neither their merges nor their counts
are exact, and a reference with inexact counts makes a two-sample test alarm by itself.)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

DISTINCT: Final = 1024  # as many distinct values, or prefixes of values, a column keeps
_INDEX_BITS: Final = 11  # 2,048 registers: a standard error of 2.3 %
_AT_HAND: Final = 1 << 15
_PLACES: Final = 16  # bits: values are counted in as many places as a processor keeps at hand
_FEW: Final = 4 * DISTINCT  # whole numbers that are counted one by one
_EXPONENT: Final = 52  # the bits of a double below its sign and exponent
_SIGN: Final = np.int64(0x7FFF_FFFF_FFFF_FFFF)


def ordered(values: Floats) -> Integers:
    """Integers in the order of the doubles they stand for (NaN left out by the caller; -0.0 equals 0.0)."""
    bits = (values + 0.0).view(np.int64)
    return np.where(bits < 0, bits ^ _SIGN, bits)


def unordered(keys: Integers) -> Floats:
    """The doubles again, from `ordered`."""
    return np.where(keys < 0, keys ^ _SIGN, keys).view(np.float64)


class Prefixes(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of values by the leading bits of their ordered form: exact values (`shift` 0) as long as at most 1,024 are
    distinct, else the finest prefixes of which there are at most 1,024.

    The shift is the least one for which the prefixes fit; it depends on the set of values alone, which is why merging is
    exactly associative. `first` is the lowest prefix, `gaps` the distances to the next ones (modulo 2**64, as integers of the
    machine add), `counts` belong to them.
    """

    shift: int = 0
    first: int = 0
    gaps: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of_values(cls, values: Floats) -> Prefixes:
        """From doubles in any order, none of them NaN."""
        if not len(values):
            return cls()
        low, high = float(values.min()), float(values.max())
        if high - low < _FEW and (values == np.floor(values)).all():
            counts = np.bincount((values - low).astype(np.int64))
            there = np.flatnonzero(counts)
            return cls.of(ordered(low + there.astype(np.float64)), counts[there])
        keys, counts, shift = _counted(values, low, high)
        if shift and len(keys) <= DISTINCT:  # the values themselves may be few
            keys = np.sort(ordered(values))
            starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
            keys, counts, shift = keys[starts], np.diff(np.concatenate((starts, [len(keys)]))), 0
        return cls.of(keys, counts, shift)

    @classmethod
    def of(cls, keys: Integers, counts: Integers, shift: int = 0) -> Prefixes:
        """From ascending distinct prefixes at `shift` and how often each is there."""
        if not len(keys):
            return cls()
        low = 0
        if len(keys) > DISTINCT:  # neighbours share a prefix once the shift is as long as what they differ in
            apart = (keys[1:] ^ keys[:-1]).view(np.uint64)
            # The length of the DISTINCT-th largest: how many are longer is counted faster than that one is found.
            low = bisect_left(
                range(64), True, key=lambda bits: int(np.count_nonzero(apart >= np.uint64(1 << bits))) < DISTINCT
            )
        if low:
            keys = keys >> low
            starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
            keys, counts = keys[starts], np.add.reduceat(counts, starts)
        return cls(
            shift=shift + low,
            first=int(keys[0]),
            gaps=tuple(np.diff(keys).tolist()),
            counts=tuple(counts.tolist()),
        )

    @property
    def keys(self) -> Integers:
        """The ascending prefixes."""
        if not self.counts:
            return np.zeros(0, np.int64)
        return np.cumsum(np.array((self.first, *self.gaps), np.int64))

    @property
    def lower(self) -> Floats:
        """The least value that each prefix stands for; the value itself while the shift is 0."""
        return unordered(self.keys << self.shift)

    @property
    def beyond(self) -> float:
        """The least value above the last prefix (NaN or infinity where there is none)."""
        end = (int(self.keys[-1]) + 1) << self.shift
        return float(unordered(np.array([end], np.int64))[0]) if end < 2**63 else math.inf

    def merge(self, other: Prefixes) -> Prefixes:
        """Both together."""
        shift = max(self.shift, other.shift)
        keys = np.concatenate((self.keys >> (shift - self.shift), other.keys >> (shift - other.shift)))
        counts = np.array(self.counts + other.counts, np.int64)
        distinct, place = np.unique(keys, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, place, counts)
        return Prefixes.of(distinct, total, shift)


def _counted(values: Floats, low: float, high: float) -> tuple[Integers, Integers, int]:
    """Ascending distinct prefixes of values from `low` to `high`, how often each is there, and their shift, without sorting.

    The prefixes are as long as there are places for: counted from the lowest one on, or by the exponents that are there.
    """
    first, last = ordered(np.array([low, high])).tolist()
    shift = max(0, (last - first).bit_length() - _PLACES)
    if shift <= _EXPONENT - _PLACES:
        bottom = first >> shift
        counts = _tally(values, lambda keys: (keys >> shift) - bottom, (last >> shift) - bottom + 1)
        places = np.flatnonzero(counts)
        return places + bottom, counts[places], shift
    bottom = first >> _EXPONENT
    exponents = np.flatnonzero(
        _tally(values, lambda keys: (keys >> _EXPONENT) - bottom, (last >> _EXPONENT) - bottom + 1)
    )
    rank = np.zeros(int(exponents[-1]) + 1, np.int64)
    rank[exponents] = np.arange(len(exponents))
    bits = _PLACES - (len(exponents) - 1).bit_length()
    shift, mask = _EXPONENT - bits, (1 << bits) - 1
    counts = _tally(
        values,
        lambda keys: (rank[(keys >> _EXPONENT) - bottom] << bits) | ((keys >> shift) & mask),
        len(exponents) << bits,
    )
    places = np.flatnonzero(counts)
    return ((exponents[places >> bits] + bottom) << bits) | (places & mask), counts[places], shift


def _tally(values: Floats, place: Callable[[Integers], Integers], size: int) -> Integers:
    """How many values are at each place."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(values), 1 << _PLACES):
        counts += np.bincount(place(ordered(values[start : start + (1 << _PLACES)])), minlength=size)
    return counts


def hash_names(names: Collection[str]) -> Hashes:
    """The XXH3 hashes of some strings: the same on every machine and in every version."""
    try:
        return np.fromiter(map(xxh3_64_intdigest, map(str.encode, names)), np.uint64, len(names))
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can spell it
        return np.fromiter((xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")) for name in names), np.uint64)


def hash_numbers(keys: Integers) -> Hashes:
    """Hashes of ordered integers (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        h = keys.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))


def registers(hashes: Hashes) -> bytes:
    """The HyperLogLog registers of some hashes, one byte each (Flajolet et al. 2007)."""
    state = np.zeros(1 << _INDEX_BITS, np.uint8)
    _note(state, hashes)
    return state.tobytes()


def number_registers(values: Floats) -> bytes:
    """As `registers`, of the hashes of doubles; so many at a time as a processor keeps at hand."""
    state = np.zeros(1 << _INDEX_BITS, np.uint8)
    for start in range(0, len(values), _AT_HAND):
        _note(state, hash_numbers(ordered(values[start : start + _AT_HAND])))
    return state.tobytes()


def _note(state: npt.NDArray[np.uint8], hashes: Hashes) -> None:
    index = (hashes >> np.uint64(64 - _INDEX_BITS)).astype(np.int64)
    rest = (hashes << np.uint64(_INDEX_BITS)) >> np.uint64(12)  # 52 bits, which a double holds exactly
    length = (rest.astype(np.float64).view(np.int64) >> 52) - 1022  # how many of them, by the double's exponent
    np.maximum.at(state, index, (53 - np.maximum(length, 0)).astype(np.uint8))


def join_registers(a: bytes, b: bytes) -> bytes:
    """The registers of both sets together."""
    return np.maximum(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)).tobytes()


def estimate_distinct(state: bytes) -> int:
    """How many distinct hashes went into the registers, +-2.3 % (the improved estimator of Ertl 2017)."""
    size, most = 1 << _INDEX_BITS, 53
    histogram = np.bincount(np.frombuffer(state, np.uint8), minlength=most + 1)
    z = size * _tau(1 - histogram[most] / size)
    for k in range(most - 1, 0, -1):
        z = 0.5 * (z + histogram[k])
    z += size * _sigma(histogram[0] / size)
    return round(size * size / (2 * math.log(2)) / z) if math.isfinite(z) else 0


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z, last = 1.0, x, -1.0
    while z != last:
        x *= x
        last, z, y = z, z + x * y, y + y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, last = 1.0, 1 - x, -1.0
    while z != last:
        x = math.sqrt(x)
        y *= 0.5
        last, z = z, z - (1 - x) ** 2 * y
    return z / 3


def json_float(value: Any) -> float | None:
    """A float that JSON carries, or None where the number is beyond what a double holds."""
    return float(value) if math.isfinite(value) else None
