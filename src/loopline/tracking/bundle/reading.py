"""A run bundle unpacked, believed only as far as its signature reaches, and written down as runs of this instance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from loopline.errors import Invalid, LooplineError, Refused
from loopline.hashing import digest_file
from loopline.tracking import receiving
from loopline.tracking.bundle.statement import KEY, PREDICATE, STATEMENT, UNSIGNED, Signer
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import LARGEST_CONTENT, Entry, Points, decode
from loopline.tracking.params import set_tags
from loopline.tracking.paths import LONGEST_TEXT
from loopline.tracking.writing import Writing

SOURCE, CREATOR, INPUTS, OUTPUTS = "import.source", "import.creator", "import.inputs", "import.outputs"
"""The tags that say which run of which instance it is, who created it there, and the refs that it read and made there (as JSON:
here they would name other things)."""

_LARGEST = 64 << 20  # bytes of the statement
_SHORTEST = 16  # characters of a fingerprint that name a key


@dataclass(frozen=True)
class Opened:
    """A bundle whose files are what its key signed. `run`: the ref of the run there; `runs`: who created it and its children, by
    their ids there."""

    folder: Path
    fingerprint: str
    run: str
    runs: Mapping[str, str]
    batches: tuple[str, ...]
    digest: str

    @property
    def first(self) -> str:
        """The id there of the run that was exported."""
        return self.run.rpartition(":")[2].rpartition("/")[2]

    def id(self, run: str) -> str:
        """The id that a run has here: the same for the same run each time, and nobody else's to choose."""
        return ulid(_time(run), lambda size: sha256(f"{self.fingerprint}\n{self.run}\n{run}".encode()).digest()[:size])

    def source(self, run: str) -> str:
        """What the tag says of where a run comes from."""
        return f"loopline:{self.fingerprint}/{run}"


def opened(folder: Path, sizes: Mapping[str, int], signer: Signer, key: str) -> Opened:
    """Checks an unpacked bundle. Raises `Invalid` by the name of what does not fit, and `Refused` where its key is not trusted."""
    for name, most in ((STATEMENT, _LARGEST), (KEY, 10_000)):
        if not 0 < sizes.get(name, 0) <= most:
            _bad(f"it has no {name}")
    try:
        envelope = json.loads((folder / STATEMENT).read_bytes())
        fingerprint, told = signer.verify_by(envelope, (folder / KEY).read_text("ascii"))
    except (ValueError, RecursionError) as e:
        _bad(f"its {STATEMENT} or {KEY} is none: {e}")
    _check_key(signer, fingerprint, key)
    try:
        if told["predicateType"] != PREDICATE:
            _bad(f"what is signed is no run but {told['predicateType']!r}")
        signed = {one["name"]: f"blake3:{one['digest']['blake3']}" for one in told["subject"]}
        predicate = told["predicate"]
        runs = {str(run): str(creator) for run, creator in predicate["runs"].items()}
        ref = str(predicate["run"])
    except (KeyError, TypeError, AttributeError) as e:
        _bad(f"its statement lacks {e}")
    for name in sorted(signed.keys() | sizes.keys() - UNSIGNED):
        if name not in signed:
            _bad(f"{name} is not signed")
        if name not in sizes:
            _bad(f"{name} is missing")
        if digest_file(folder / name) != signed[name]:
            _bad(f"{name} is not what was signed")
    batches = tuple(sorted(name for name in sizes if name.startswith("journal/")))
    return Opened(folder, fingerprint, ref, runs, batches, digest_file(folder / STATEMENT))


def _check_key(signer: Signer, fingerprint: str, key: str) -> None:
    if key and (len(key) < _SHORTEST or not fingerprint.startswith(key.lower())):
        raise Refused(
            f"The bundle is signed by the key {fingerprint}, and not by {key}.",
            code="unknown-key",
            hint=f"Ask its owner which key is theirs, and give at least {_SHORTEST} characters of its fingerprint.",
        )
    if not key and not signer.owns(fingerprint):
        raise Refused(
            f"The bundle is signed by the key {fingerprint}, which is not one of this instance's.",
            code="unknown-key",
            hint=f"Ask its owner whether that is theirs, then: --key {fingerprint}",
        )


def check(bundle: Opened) -> set[str]:
    """Reads all that the journal says, so that nothing is written of a bundle that says what cannot be.

    Gives the digests of the artifacts. Raises `Invalid`.
    """
    begun: set[str] = set()
    needed: set[str] = set()
    for one in _entries(bundle):
        receiving.checked(one)
        if isinstance(one, Entry) and one.kind == "run":
            if one.run not in bundle.runs or one.run in begun:
                _bad(f"the run {one.run} is not one of those it is of")
            parent = one.fields.get("parent")
            if parent not in begun if begun else one.run != bundle.first:
                _bad(f"the run {one.run} is no child of those before it")
            begun.add(one.run)
        elif one.run not in begun or (isinstance(one, Entry) and one.kind == "link"):
            _bad(f"it says of the run {one.run} what has no place in it")
        elif isinstance(one, Entry) and one.kind == "artifact":
            name = f"files/{str(one.fields['digest']).removeprefix('blake3:')}"
            if not (bundle.folder / name).is_file():
                _bad(f"{name} is missing")
            needed.add(one.fields["digest"])
    if begun != bundle.runs.keys():
        _bad("its statement names other runs than it holds")
    return needed


def written(bundle: Opened, writing: Writing) -> Iterator[tuple[Any, Entry]]:
    """Writes the runs down, points included; gives each artifact with the row of its run, for who keeps the bytes."""
    held: dict[str, receiving.Held] = {}
    tags: dict[str, dict[str, str | None]] = {}
    for one in _entries(bundle):
        fields: Any = receiving.checked(one)
        if isinstance(fields, receiving.RunFields):
            fields.parent = None if one.run == bundle.first or fields.parent is None else bundle.id(fields.parent)
            tags[one.run] = {
                SOURCE: bundle.source(one.run),
                CREATOR: bundle.runs[one.run],
                **_refs(INPUTS, fields.inputs),
            }
            fields.inputs = []
            begun = receiving.begun(writing, bundle.id(one.run), fields, None)
            assert begun is not None  # none of them was removed for good: that was checked
            held[one.run] = begun
        elif isinstance(one, Points):
            receiving.take(writing, held[one.run], one, fields)
            writing.write_points()
        elif one.kind == "artifact":
            yield held[one.run], one
        else:
            if one.kind == "finish":
                tags[one.run] |= _refs(OUTPUTS, fields.outputs)
                fields.outputs = []
            receiving.take(writing, held[one.run], one, fields)
    writing.write_points()
    for run, said in tags.items():  # last: what the origin says of another origin is not its own
        set_tags(writing.tx, writing.words, held[run].number, said)


def _refs(tag: str, refs: list[str]) -> dict[str, str]:
    """Refs as a tag; none where there are none, or more than a tag holds."""
    text = json.dumps(refs)
    return {tag: text} if refs and len(text) <= LONGEST_TEXT else {}


def _entries(bundle: Opened) -> Iterator[Entry | Points]:
    for name in bundle.batches:
        path = bundle.folder / name
        if path.stat().st_size > LARGEST_CONTENT:
            _bad(f"{name} is too large")
        try:
            yield from decode(path.read_bytes())
        except LooplineError as e:
            _bad(f"{name} cannot be read: {e.message}")


def _time(run: str) -> int:
    """The time that a ULID carries."""
    number = 0
    for character in run[:10]:
        number = number << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    return number


def _bad(why: str) -> NoReturn:
    raise Invalid(
        f"The run bundle cannot be taken: {why}.",
        code="bad-bundle",
        hint="It was damaged or altered on its way: have it exported again.",
    )
