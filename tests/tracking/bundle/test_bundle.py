"""A run in one signed file: it arrives whole at another instance, once, and only as it was signed by a key that is named."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, LooplineError, Refused
from loopline.hashing import canonical_json, digest_bytes
from loopline.operations import Body
from loopline.packaging.signing import ModelSigner
from loopline.tracking.journal_format import KINDS, frame, pack, run_prefix
from loopline.tracking.records import Point


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Platform]:
    """The instance that a run comes from."""
    platform = Platform.open(workspace=tmp_path / "origin", checkpoints=str(tmp_path / "origin-copies"))
    yield platform
    platform.close()


def a_run(platform: Platform, points: int = 300) -> str:
    """A run with a bit of everything, and two children."""
    session = platform.session()
    runs = session.runs
    group = session.groups.create("visits").number
    run = runs.create(
        "fit", params={"rate": 0.1, "list": [1, None, "a"], "odd": "NaN"}, tags={"team": "clinic"}, inputs=("data:v@1",),
        environment={"commit": "c" * 40, "requirements": ["numpy==2.4.1"]}, group=group, created=1_700_000_000_000,
    ).id  # fmt: skip
    runs.correct(run, {"rate": 0.2}, "a typo")
    runs.correct(run, {"rate": 0.3, "depth": 4}, "another")
    at = 1_700_000_000_000
    runs.log(run, [Point(key="train/loss", value=1 / (n + 1), step=n, time=at + n) for n in range(points)])
    runs.log(run, [Point(key="odd", value=v, step=n, time=at) for n, v in enumerate([math.nan, math.inf, -math.inf])])
    runs.put_artifact(run, "plots/a.txt", Body(b"hello"))
    runs.put_artifact(run, "b.txt", Body(b"hello"))
    runs.put_artifact(run, "large.bin", Body(bytes(range(256)) * 10_000))
    runs.note(run, "*fine*")
    for fold in range(2):
        child = runs.create(f"fold {fold}", parent=run, params={"fold": fold}).id
        runs.log(child, [Point(key="auc", value=0.6 + fold / 10)])
        runs.finish(child, "failed" if fold else "finished", message="no" if fold else "")
    runs.finish(run, outputs=("model:m@1",))
    session.ledger.checkpoint()
    return str(run)


def fingerprint(packed: bytes) -> str:
    members = unpacked(packed)
    envelope = json.loads(members["statement.json"])
    return ModelSigner(Path("/nowhere")).verify_by(envelope, members["key.pem"].decode())[0]


def unpacked(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def repacked(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def told(platform: Platform, run: str) -> dict[str, Any]:
    runs = platform.session().runs
    shown = runs.show(run)
    return {
        "name": shown.name, "status": shown.status, "message": shown.message, "created": shown.created, "ended": shown.ended,
        "note": shown.note, "params": shown.params, "environment": shown.environment,
        "metrics": {k: str(v) for k, v in shown.metrics.items()},
        "tags": {key: tag for key, tag in shown.tags.items() if not key.startswith("import.")},
        "group": platform.session().groups.show(shown.group).name,
        "points": {k: [(p.step, p.time, str(p.value)) for p in runs.history(run, k)] for k in shown.metrics},
        "files": [(file.path, file.digest, file.size) for file in runs.artifacts(run)],
        "corrected": [(c.key, c.value) for c in runs.corrections(run)],
    }  # fmt: skip


def test_a_run_arrives_whole_and_once(origin: Platform, either: Platform) -> None:
    run = a_run(origin)
    packed = origin.session().runs.export_bundle(run).read()
    key = fingerprint(packed)
    runs = either.session().runs
    for _ in range(3):
        arrived = runs.import_bundle(Body(packed), key)
    assert told(either, arrived.id) == told(origin, run)
    assert len(runs.list(limit=100).runs) == 3
    assert arrived.id != run
    assert arrived.tags["import.source"] == f"loopline:{key}/{run}"
    assert arrived.tags["import.creator"] == origin.session().runs.show(run).creator
    assert (arrived.inputs, arrived.outputs) == ((), ()), "here its refs would name other things"
    assert json.loads(arrived.tags["import.inputs"]) == ["data:v@1"]
    assert json.loads(arrived.tags["import.outputs"]) == ["model:m@1"]
    children = runs.list(parent=arrived.id).runs
    assert all("" not in child.tags.values() for child in (arrived, *children))
    theirs = {
        told(origin, child.id)["name"]: told(origin, child.id) for child in origin.session().runs.list(parent=run).runs
    }
    assert {child.name: told(either, child.id) for child in children} == theirs
    assert "c" * 64 not in runs.corrections(arrived.id)[0].reason
    assert runs.corrections(arrived.id)[0].reason.startswith("a typo (by ")
    assert either.session().ledger.verify().ok
    again = runs.export_bundle(arrived.id).read()
    assert told(either, either.session().runs.import_bundle(Body(again)).id) == told(origin, run), (
        "and from there goes on"
    )


def test_the_same_bundle_has_the_same_files(origin: Platform) -> None:
    run = a_run(origin)
    first, second = (unpacked(origin.session().runs.export_bundle(run).read()) for _ in range(2))
    for members in (first, second):
        members.pop("statement.json")  # it says when
    assert first == second


def test_what_the_ledger_says_of_it_can_be_checked(origin: Platform) -> None:
    from loopline.ledger.merkle import check_inclusion, leaf_hash
    from loopline.ledger.notes import read

    members = unpacked(origin.session().runs.export_bundle(a_run(origin)).read())
    proofs = json.loads(members["ledger.json"])
    assert json.loads(proofs[0]["entry"])["o"] == "runs.create"
    for proof in proofs:
        path = [bytes.fromhex(node) for node in proof["path"]]
        leaf = leaf_hash(proof["entry"].encode())
        assert check_inclusion(leaf, proof["seq"], proof["size"], path, read(proof["checkpoint"]).root)


def test_a_key_is_trusted_only_where_it_is_named(origin: Platform, platform: Platform) -> None:
    run = a_run(origin)
    packed = origin.session().runs.export_bundle(run).read()
    key = fingerprint(packed)
    for given in ("", key[:15], "0" * 64, key[:-1] + ("0" if key[-1] != "0" else "1"), key + "0"):
        with pytest.raises(Refused, match=key) as told_:
            platform.session().runs.import_bundle(Body(packed), given)
        assert told_.value.code == "unknown-key"
    assert platform.session().runs.list().runs == ()
    assert platform.session().runs.import_bundle(Body(packed), key[:16].upper()).name == "fit"
    origin.session().projects.create("other")
    assert origin.session(project="other").runs.import_bundle(Body(packed)).name == "fit", "its own key needs no name"


def test_a_run_that_goes_on_is_not_given_away(origin: Platform) -> None:
    runs = origin.session().runs
    run = runs.create("fit").id
    with pytest.raises(Conflict) as told_:
        runs.export_bundle(run)
    assert told_.value.code == "run-not-ended"


ALTERED: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "a journal": (lambda m: m.update({"journal/000001": m["journal/000001"][:-1] + b"x"}), "journal/000001 is not what was signed"),
    "no journal": (lambda m: m.pop("journal/000001"), "journal/000001 is missing"),
    "one more file": (lambda m: m.update({"files/" + "0" * 64: b"x"}), "files/0+ is not signed"),
    "a file": (lambda m: m.update({next(n for n in m if n.startswith("files/")): b"x"}), "files/[0-9a-f]+ is not what was signed"),
    "the ledger": (lambda m: m.update({"ledger.json": b"[]"}), "ledger.json is not what was signed"),
    "no statement": (lambda m: m.pop("statement.json"), "no statement.json"),
    "no key": (lambda m: m.pop("key.pem"), "no key.pem"),
    "no JSON": (lambda m: m.update({"statement.json": b"{"}), "statement.json"),
    "too deep": (lambda m: m.update({"statement.json": b"[" * 100_000}), "statement.json"),
    "no envelope": (lambda m: m.update({"statement.json": b"[]"}), "DSSE"),
    "another key": (lambda m: m.update({"key.pem": m["key.pem"][:-40] + b"\n"}), "key"),
}  # fmt: skip


@pytest.mark.parametrize("case", ALTERED)
def test_what_was_altered_is_named_and_nothing_taken(origin: Platform, platform: Platform, case: str) -> None:
    packed = origin.session().runs.export_bundle(a_run(origin)).read()
    key, members = fingerprint(packed), unpacked(packed)
    alter, why = ALTERED[case]
    alter(members)
    with pytest.raises(Invalid, match=why):
        platform.session().runs.import_bundle(Body(repacked(members)), key)
    assert platform.session().runs.list().runs == ()


def test_any_byte_that_was_changed_is_found(origin: Platform, platform: Platform) -> None:
    run = origin.session().runs.create("small").id
    origin.session().runs.finish(run)
    packed = origin.session().runs.export_bundle(run).read()
    key = fingerprint(packed)
    whole = platform.session().runs.import_bundle(Body(packed), key)
    platform.session().runs.delete(whole.id)
    refused = 0
    for place in range(0, len(packed), 97):
        damaged = bytearray(packed)
        damaged[place] ^= 0x10
        try:
            got = platform.session().runs.import_bundle(Body(bytes(damaged)), key)
        except LooplineError:
            refused += 1
        else:  # padding, or a field of the tar that says nothing
            assert got.id == whole.id
    assert refused > 10
    for cut in range(512, len(packed) - 2048, 512):
        with pytest.raises(LooplineError):
            platform.session().runs.import_bundle(Body(packed[:cut]), key)


def signed(origin: Platform, members: dict[str, bytes], runs: dict[str, str], run: str) -> tuple[bytes, str]:
    """A bundle of these files that an instance's own key signs, whatever they say."""
    signer = ModelSigner(origin.settings.workspace / "keys")
    subject = [{"name": name, "digest": {"blake3": digest_bytes(data)[7:]}} for name, data in members.items()]
    statement = {
        "predicateType": "https://loopline.dev/run/v1",
        "subject": subject,
        "predicate": {"run": run, "runs": runs},
    }
    envelope = signer.sign(statement)
    pem = signer.public_key(envelope["signatures"][0]["keyid"])
    packed = repacked({**members, "statement.json": canonical_json(envelope), "key.pem": pem.encode()})
    return packed, fingerprint(packed)


RUN, CHILD = "01HZZZZZZZZZZZZZZZZZZZZZZZ", "01HZZZZZZZZZZZZZZZZZZZZZZY"


def said(kind: str, run: str = RUN, **fields: Any) -> bytes:
    return frame(KINDS.index(kind) + 1, run_prefix(run) + json.dumps(fields).encode())


BEGUN = said("run", name="x", created=1)
LIES: dict[str, list[bytes]] = {
    "nothing": [],
    "another run": [BEGUN, said("run", CHILD, name="y", created=1)],
    "no beginning": [said("note", text="x")],
    "twice": [BEGUN, BEGUN],
    "a link": [BEGUN, said("link", inputs=["data:v@1"])],
    "a file that is not there": [BEGUN, said("artifact", path="a", digest="blake3:" + "0" * 64, size=1)],
    "a file elsewhere": [BEGUN, said("artifact", path="a", digest="blake3:../../key.pem", size=1)],
    "a path that climbs": [BEGUN, said("artifact", path="../a", digest="blake3:" + "0" * 64, size=1)],
    "a name that is none": [said("run", name="\n", created=1)],
    "a time that is none": [said("run", name="x", created=-1)],
    "a key that is none": [BEGUN, said("params", params={"": 1})],
    "more than is read": [BEGUN, b"\0" * 100],
}


@pytest.mark.parametrize("case", LIES)
def test_a_trusted_key_that_signs_nonsense_leaves_nothing(origin: Platform, platform: Platform, case: str) -> None:
    packed, key = signed(origin, {"journal/000001": pack(b"".join(LIES[case]) or b"\0")}, {RUN: "ann"}, f"run:{RUN}")
    with pytest.raises(Invalid):
        platform.session().runs.import_bundle(Body(packed), key)
    assert platform.session().runs.list().runs == ()
    assert platform.session().ledger.verify().ok


def test_a_bomb_is_not_blown_up(origin: Platform, platform: Platform) -> None:
    import zlib

    bomb = b"\1" + zlib.compress(bytes(1 << 28), 9)
    packed, key = signed(origin, {"journal/000001": bomb}, {RUN: "ann"}, f"run:{RUN}")
    with pytest.raises(Invalid, match="inflates"):
        platform.session().runs.import_bundle(Body(packed), key)


def tar_of(*members: tuple[str, bytes, dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in more.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK\x03\x04" * 200, b"\x1f\x8b" * 300, b"\0" * 10_240,
        tar_of(("../up", b"x", {})), tar_of(("/etc/x", b"x", {})),
        tar_of(("a", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc"})),
        tar_of(("a", b"x", {})).replace(b"00000000001\0", b"77777777777\0", 1),
    ],
)  # fmt: skip
def test_what_is_no_bundle_is_refused(platform: Platform, content: bytes) -> None:
    with pytest.raises(Invalid) as told_:
        platform.session().runs.import_bundle(Body(content), "0" * 64)
    assert told_.value.code == "bad-bundle"
    scratch = platform.settings.workspace / "scratch"
    assert not scratch.exists() or list(scratch.iterdir()) == []


def test_many_points_arrive(origin: Platform, either: Platform) -> None:
    runs = origin.session().runs
    run = runs.create("long").id
    for part in range(3):
        runs.log(
            run, [Point(key="loss", value=n / 7, step=n, time=1 + n) for n in range(part * 90_000, (part + 1) * 90_000)]
        )
    runs.finish(run)
    packed = runs.export_bundle(run).read()
    assert sum(name.startswith("journal/") for name in unpacked(packed)) > 2
    arrived = either.session().runs.import_bundle(Body(packed), fingerprint(packed))
    assert either.session().runs.history(arrived.id, "loss") == runs.history(run, "loss")
