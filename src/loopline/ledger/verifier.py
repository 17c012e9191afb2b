#!/usr/bin/env python3
"""Checks a ledger with nothing but Python's standard library: neither Loopline nor its host needs to be trusted.

    python verifier.py ledger.ndjson 1042.note [more.note ...] --key NAME+ID+BASE64
    python verifier.py --proof proof.json [--key NAME+ID+BASE64]

The first recomputes the Merkle tree (RFC 6962) over an export and compares it with signed checkpoints (C2SP signed notes,
Ed25519), also with those in the export; the second checks that one entry is in the ledger of the checkpoint that its proof
carries. `--key` is the key you trust (the file `keys` beside the copies of the checkpoints); keys that followed it are taken
only where the ledger itself, under a checkpoint signed by the key before, says so. Exit code 0: it holds; 1: it does not;
2: a file cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from typing import Any

Point = tuple[int, int, int, int]
Note = tuple[str, int, bytes, str, dict[str, bytes]]

# Ed25519 verification, after RFC 8032, section 6: slow, short, and for public values only.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def recover_x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


def point_add(a: Point, b: Point) -> Point:
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_multiply(factor: int, point: Point) -> Point:
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        factor >>= 1
    return result


def point_read(data: bytes) -> Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0) or 0
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the 64 bytes are this key's signature of the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r, s = point_read(public), point_read(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = point_multiply(s, BASE), point_add(r, point_multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


class Bad(Exception):
    """What does not hold."""


def read_key(text: str) -> tuple[str, str, bytes]:
    """(name, key id, public key) of a verifier key."""
    try:
        name, identity, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Bad(f"{text!r} is no key") from None
    if raw[:1] != b"\x01" or hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] != identity:
        raise Bad(f"{text!r} is no Ed25519 key, or its id is not its own")
    return name, identity, raw[1:]


def read_note(note: str) -> Note:
    """(origin, size, root, text, {key id: signature}) of a checkpoint."""
    text, _, lines = note.rpartition("\n\n")
    try:
        origin, size, root = text.split("\n")[:3]
        signatures = {}
        for line in lines.splitlines():
            name, _, encoded = line.removeprefix("\N{EM DASH} ").rpartition(" ")
            raw = base64.b64decode(encoded, validate=True)
            if name == origin:
                signatures[raw[:4].hex()] = raw[4:]
        return origin, int(size), base64.b64decode(root, validate=True), text + "\n", signatures
    except ValueError:
        raise Bad("a checkpoint cannot be read") from None


def check_signature(note: Note, keys: list[str], what: str) -> None:
    """Raises Bad unless one of the keys signed the note."""
    origin, _, _, text, signatures = note
    for key in keys:
        name, identity, public = read_key(key)
        if name == origin and identity in signatures and ed25519_verify(public, text.encode(), signatures[identity]):
            return
    raise Bad(f"{what} is not signed by a key that is trusted")


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(frontier: list[tuple[int, bytes]]) -> bytes:
    if not frontier:
        return hashlib.sha256(b"").digest()
    root = frontier[-1][1]
    for _, left in reversed(frontier[:-1]):
        root = node(left, root)
    return root


def walk(lines: list[bytes], sizes: set[int]) -> tuple[int, dict[int, bytes], dict[str, int]]:
    """Reads the entries; gives their number, the roots at the sizes, and the digests of keys with their place."""
    frontier: list[tuple[int, bytes]] = []
    roots: dict[int, bytes] = {}
    keys: dict[str, int] = {}
    count = last = 0
    if 0 in sizes:
        roots[0] = root_of([])
    for line in lines:
        entry = json.loads(line)
        if entry.get("s") != count:
            raise Bad(f"at place {count} stands entry {entry.get('s')}: entries are missing, added or swapped")
        if entry["t"] < last:
            raise Bad(f"entry {count} is older than the one in front of it")
        last = entry["t"]
        if entry["o"] in ("ledger.created", "ledger.rotate_key"):
            keys[entry["d"]["key"]] = count
        level, value = 0, hashlib.sha256(b"\x00" + line).digest()
        while frontier and frontier[-1][0] == level:
            value = node(frontier.pop()[1], value)
            level += 1
        frontier.append((level, value))
        count += 1
        if count in sizes:
            roots[count] = root_of(frontier)
    return count, roots, keys


def check_export(path: str, notes: list[str], trusted: str) -> str:
    """Checks the export against the checkpoint files and its own; gives lines that say what holds."""
    entries: list[bytes] = []
    carried: list[tuple[str, str]] = []
    succession: list[dict[str, Any]] = []
    with open(path, "rb") as file:
        for line in file:
            line = line.rstrip(b"\n")
            if line.startswith(b'{"checkpoint":'):
                carried.append(("a checkpoint in the export", json.loads(line)["checkpoint"]))
            elif line.startswith(b'{"key":'):
                succession.append(json.loads(line))
            elif line:
                entries.append(line)
    for name in notes:
        with open(name, encoding="utf-8") as text:
            carried.append((name, text.read()))
    read = [(name, read_note(content)) for name, content in carried]
    count, roots, recorded = walk(entries, {note[1] for _, note in read})

    # The keys of the ledger in order; one counts from its entry on, and is trusted where it is the given one or follows it.
    order = sorted(succession, key=lambda key: key["since"])
    if trusted not in [key["key"] for key in order]:
        raise Bad("the key that you trust is not among the ledger's keys")
    for key in order:
        if recorded.get("sha256:" + hashlib.sha256(key["key"].encode()).hexdigest()) != key["since"]:
            raise Bad(f"the key {key['key']} is not on the ledger at entry {key['since']}")
    first = [key["key"] for key in order].index(trusted)
    by_size: dict[int, list[tuple[str, Note]]] = {}
    for name, note in read:
        by_size.setdefault(note[1], []).append((name, note))
    for former, follower in zip(order[first:-1], order[first + 1 :], strict=True):
        handed = by_size.get(follower["since"] + 1, [])
        if not handed:
            raise Bad(f"no checkpoint hands over from the key before to {follower['key']}")
        check_signature(handed[0][1], [former["key"]], f"the checkpoint that hands over at entry {follower['since']}")
    for name, note in read:
        size = note[1]
        if size > count:
            raise Bad(
                f"{name} speaks of {size} entries and the export has {count}: entries {count} to {size - 1} are missing"
            )
        valid = [key for key in order if key["since"] < max(size, 1)][-1]
        if order.index(valid) >= first:
            check_signature(note, [valid["key"]], f"{name} ({size} entries)")
        if roots[size] != note[2]:
            raise Bad(f"{name} is signed for other entries than these first {size}: something was changed")
    covered = max((note[1] for _, note in read), default=0)
    if not read:
        raise Bad("there is no checkpoint to compare with")
    return f"{count} entries, {len(read)} checkpoints: all hold. {count - covered} entries are after the newest checkpoint."


def check_proof(path: str, trusted: str | None) -> str:
    """Checks an inclusion proof (RFC 9162, section 2.1.3.2)."""
    with open(path, "rb") as file:
        proof = json.load(file)
    note = read_note(proof["checkpoint"])
    check_signature(note, [trusted or proof["key"]], "the proof's checkpoint")
    if note[1] != proof["size"]:
        raise Bad("the proof is for another size than its checkpoint")
    place, last = proof["seq"], note[1] - 1
    value = hashlib.sha256(b"\x00" + proof["entry"].encode()).digest()
    entry = json.loads(proof["entry"])
    if entry["s"] != place or not 0 <= place <= last:
        raise Bad("the proof is for another place than its entry's")
    for other in map(bytes.fromhex, proof["path"]):
        if last == 0:
            raise Bad("the proof is too long")
        if place & 1 or place == last:
            value = node(other, value)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            value = node(value, other)
        place, last = place >> 1, last >> 1
    if last or value != note[2]:
        raise Bad("the entry is not in the ledger that was signed")
    word = "" if trusted else f" The key was not given by you; compare it: {proof['key']}"
    return f"entry {proof['seq']} ({entry['o']}) is in the ledger of {note[1]} entries.{word}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", nargs="?", help="the ledger's export (NDJSON)")
    parser.add_argument("checkpoints", nargs="*", help="files of signed checkpoints, from outside the workspace")
    parser.add_argument("--key", help="the key to trust: NAME+ID+BASE64")
    parser.add_argument("--proof", help="an inclusion proof (JSON) instead of an export")
    given = parser.parse_args(arguments)
    if not given.proof and not (given.export and given.key):
        parser.error("give an export and --key, or --proof")
    try:
        said = (
            check_proof(given.proof, given.key)
            if given.proof
            else check_export(given.export, given.checkpoints, given.key)
        )
    except Bad as bad:
        print(f"BAD: {bad}")
        return 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot be read: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"ok: {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
