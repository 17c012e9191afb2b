"""Model versions through a session: numbers, signatures, tampering, documents, withdrawal, other projects."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.packaging.manifest import read_manifest
from loopline.registry import bundle_tar
from loopline.registry.tables import model_versions

Bundle = Callable[..., bytes]
Files = Callable[..., dict[str, bytes]]

EVIDENCE = {"metrics": [{"name": "roc_auc", "value": 0.66, "low": 0.64, "high": 0.68, "n": 900}], "n": 900}


def test_a_version_goes_from_draft_to_registered(either: Platform, bundle: Bundle, bundle_files: Files) -> None:
    session = either.session()
    run = session.runs.create("fit", params={"rate": 0.1})
    made = session.models.draft(
        "readmission", bundle(), run=run.id, inputs=("data:visits@1",), facts={"data": "synthetic"}
    )
    assert (made.ref, made.version, made.status, made.signature) == ("model:readmission@1", 1, "draft", "")
    assert (made.run, made.inputs, made.task) == (run.ref, ("data:visits@1",), "binary")
    assert set(made.forms) == set(bundle_files())
    assert made.parity["runtime"] == "native", "the bundle's own report is attached"
    evaluation = session.models.attach("readmission", 1, "evaluation", EVIDENCE)
    verdicts = session.models.attach("readmission", 1, "verdicts", {"outcome": "pass", "verdicts": []})
    with pytest.raises(Conflict):
        session.models.register("readmission", 1, evaluation=verdicts.digest)
    done = session.models.register("readmission", 1, evaluation=evaluation.digest, verdicts=verdicts.digest)
    assert done.status == "registered"
    assert len(done.signature) == 16
    assert done.metrics["roc_auc"]["low"] == 0.64
    assert session.models.register("readmission", 1) == done, "the same again, after a lost answer"
    with pytest.raises(Conflict):
        session.models.attach("readmission", 1, "evaluation", {"metrics": []})
    found = session.models.verify("readmission", 1)
    assert (found.ok, found.signed, found.problems, found.forms) == (True, True, (), 5)
    assert session.models.document("readmission", 1, "evaluation").document == EVIDENCE
    assert session.models.show("readmission", "latest") == done
    assert [m.ref for m in session.models.versions("readmission")] == [done.ref]
    assert [(m.name, m.versions, m.latest) for m in session.models.list()] == [("readmission", 1, 1)]


def test_the_bundle_comes_back_as_it_was(platform: Platform, tmp_path: Path, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle())
    answer = session.models.bundle("readmission", 1)
    assert answer.read() == bundle(), "the tar of the same files is the same"
    bundle_tar.unpack([answer.read()], tmp_path / "out")
    assert read_manifest(tmp_path / "out").name == "readmission"
    with platform.database.begin(lazy=True) as tx:
        models = platform._service("models", tx)
        checked: set[Path] = set()
        folder = models.folder("model:readmission@1", tmp_path / "bundles", checked)
        assert read_manifest(folder).name == "readmission"
        assert models.folder("model:readmission@1", tmp_path / "bundles", checked) == folder


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "linked"])
def test_a_damaged_folder_of_a_bundle_is_written_anew(
    platform: Platform, tmp_path: Path, bundle: Bundle, damage: str
) -> None:
    platform.session().models.draft("readmission", bundle())

    def folder() -> Path:
        with platform.database.begin(lazy=True) as tx:
            return platform._service("models", tx).folder("model:readmission@1", tmp_path / "bundles", set())

    place = folder()
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    form = place / "manifest.json"
    if damage == "changed":
        form.write_bytes(form.read_bytes()[:-1] + b"?")
    elif damage == "missing":
        form.unlink()
    elif damage == "added":
        (place / "more.txt").write_text("more")
    else:
        form.rename(tmp_path / "elsewhere")
        form.symlink_to(tmp_path / "elsewhere")
    assert folder() == place
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
    assert not form.is_symlink()


def test_the_same_bytes_are_stored_once(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle())
    before = {blob.digest for blob in platform.blobs.list()}
    session.models.draft("readmission", bundle(seed=1))
    after = {blob.digest for blob in platform.blobs.list()}
    assert before < after
    assert len(after - before) == 2, "the changed form and the manifest"


def test_the_same_draft_again_is_one_version(either: Platform, bundle: Bundle) -> None:
    session = either.session()
    made = session.models.draft("readmission", bundle(), inputs=("data:visits@1",))
    assert session.models.draft("readmission", bundle(), inputs=("data:visits@1",)) == made
    assert session.models.draft("readmission", bundle(), inputs=("data:visits@2",)).version == 2
    assert session.models.draft("readmission", bundle(), inputs=("data:visits@1",)).version == 3
    done = session.models.register("readmission", 3)
    assert session.models.draft("readmission", bundle(), inputs=("data:visits@1",)) == done
    session.models.withdraw("readmission", 3, "leaks")
    assert session.models.draft("readmission", bundle(), inputs=("data:visits@1",)).version == 4


def test_a_signature_can_be_checked_by_an_outsider(platform: Platform, bundle: Bundle, bundle_files: Files) -> None:
    import base64
    import hashlib

    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    session = platform.session()
    session.models.draft("readmission", bundle())
    session.models.register("readmission", 1)
    answer = session.models.signature("readmission", 1)
    envelope = answer["envelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    public: Any = load_pem_public_key(answer["public_key"].encode())
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    said = json.loads(payload)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    files = bundle_files()
    assert {s["name"]: s["digest"]["sha256"] for s in said["subject"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


def test_a_draft_has_no_signature(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle())
    found = session.models.verify("readmission", 1)
    assert (found.ok, found.signed) == (True, False)
    with pytest.raises(NotFound):
        session.models.signature("readmission", 1)


def test_a_changed_form_is_found_and_not_handed_out(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    made = session.models.draft("readmission", bundle())
    session.models.register("readmission", 1)
    path = platform.blobs.path(made.forms["native/model.json"])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75"))
    found = session.models.verify("readmission", 1)
    assert not found.ok
    assert any("native/model.json" in problem for problem in found.problems)
    with pytest.raises(Refused):
        session.models.bundle("readmission", 1)
    path.unlink()
    assert any("missing" in problem for problem in session.models.verify("readmission", 1).problems)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": ["data:visits@9"]},
        {"facts": {"data": "real"}},
        {"run": "run:01ARZ3NDEKTSV4RRFFQ69G5FAV"},
        {"task": "regression"},
        {"registrar": "somebody"},
        {"registered": 5},
        {"key": "0" * 16},
        {"envelope": None},
        {"forms": {}},
        {"bundle": "sha256:" + "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_record_is_found(platform: Platform, change: dict[str, Any], bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle(), inputs=("data:visits@1",), facts={"data": "synthetic"})
    session.models.register("readmission", 1)
    assert session.models.verify("readmission", 1).ok
    with platform.database.begin() as tx:
        tx.execute(model_versions.update().values(**change))
    assert not session.models.verify("readmission", 1).ok


def test_a_document_swapped_after_signing_is_found(platform: Platform, bundle: Bundle) -> None:
    from loopline.registry.tables import model_documents

    session = platform.session()
    session.models.draft("readmission", bundle())
    session.models.attach("readmission", 1, "evaluation", EVIDENCE)
    session.models.register("readmission", 1)
    better = platform.blobs.put([b'{"metrics":[]}'])
    with platform.database.begin() as tx:
        tx.execute(model_documents.update().where(model_documents.c.kind == "evaluation").values(digest=better.digest))
    assert not session.models.verify("readmission", 1).ok


def test_a_signature_of_another_workspaces_key_is_not_trusted(
    platform: Platform, tmp_path: Path, bundle: Bundle
) -> None:
    from loopline.packaging.signing import ModelSigner

    session = platform.session()
    session.models.draft("readmission", bundle())
    session.models.register("readmission", 1)
    with platform.database.begin() as tx:
        row = tx.first(sa.select(model_versions))
        assert row is not None
        signer = ModelSigner(tmp_path / "foreign")
        _, said = ModelSigner(platform.settings.workspace / "keys").verify(row.envelope)
        forged = signer.sign(said)
        tx.execute(model_versions.update().values(envelope=forged, key=forged["signatures"][0]["keyid"]))
    assert not session.models.verify("readmission", 1).ok


def test_concurrent_drafts_get_numbers_of_their_own(either: Platform, bundle: Bundle) -> None:
    session = either.session()
    numbers: list[int] = []
    failures: list[Exception] = []

    def work(seed: int) -> None:
        try:
            numbers.extend(session.models.draft("readmission", bundle(seed=seed * 10 + i)).version for i in range(3))
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(numbers) == list(range(1, 13))


def test_withdrawal_is_for_good(platform: Platform, bundle: Bundle) -> None:
    models = platform.session().models
    models.draft("readmission", bundle())
    models.draft("readmission", bundle(seed=1))
    for version in (1, 2):
        models.register("readmission", version)
        models.set_alias("readmission", "champion", version)
    with pytest.raises(Conflict):
        models.withdraw("readmission", 2, "leaks")
    with pytest.raises(Invalid):
        models.withdraw("readmission", 1, " ")
    gone = models.withdraw("readmission", 1, "leaks")
    assert (gone.status, gone.reason) == ("withdrawn", "leaks")
    assert models.verify("readmission", 1).ok, "it stays on record with its signature"
    for attempt in (
        lambda: models.set_alias("readmission", "champion", 1),
        lambda: models.set_alias("readmission", "other", 1),
        lambda: models.roll_back("readmission", "champion"),
        lambda: models.request_approval("readmission", 1),
        lambda: models.withdraw("readmission", 1, "again"),
    ):
        with pytest.raises(Conflict):
            attempt()
    with pytest.raises(Conflict):
        models.register("readmission", 1)


def test_what_is_not_there_is_said_with_the_way_out(platform: Platform, bundle: Bundle) -> None:
    models = platform.session().models
    models.draft("readmission", bundle())
    with pytest.raises(NotFound, match="Did you mean 'readmission'"):
        models.show("readmision", 1)
    with pytest.raises(NotFound, match="newest is 1"):
        models.show("readmission", 2)
    with pytest.raises(NotFound):
        models.show("readmission", "champion")
    with pytest.raises(NotFound):
        models.document("readmission", 1, "evaluation")
    with pytest.raises(NotFound):
        models.versions("other")
    with pytest.raises(Invalid, match="numbers no version"):
        models.show("readmission", 10**30)
    with pytest.raises(Invalid):
        models.draft("../up", bundle())
    with pytest.raises(Invalid, match="is of the model"):
        models.draft("other", bundle())
    with pytest.raises(NotFound):
        models.draft("readmission", bundle(), run="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert [m.version for m in models.versions("readmission")] == [1]


def test_another_projects_models_and_runs_are_not_there(platform: Platform, bundle: Bundle) -> None:
    here = platform.session()
    here.projects.create("clinic")
    there = platform.session(project="clinic")
    run = there.runs.create("fit")
    there.models.draft("readmission", bundle())
    there.models.register("readmission", 1)
    assert there.models.show("readmission", 1).ref == "model:clinic/readmission@1"
    here.models.draft("readmission", bundle(seed=5))
    for attempt in (
        lambda: here.models.draft("readmission", bundle(), run=run.id),
        lambda: here.models.draft("readmission", bundle(), inputs=("data:clinic/visits@1",)),
        lambda: here.models.show("readmission", 2),
        lambda: here.models.set_alias("readmission", "champion", 2),
    ):
        with pytest.raises(NotFound):
            attempt()
    with pytest.raises(Conflict, match="draft"):
        here.models.set_alias("readmission", "champion", 1)
    assert there.models.show("readmission", 1).status == "registered"
    assert here.models.show("readmission", 1).status == "draft"


def test_a_refused_bundle_leaves_nothing(platform: Platform, bundle_files: Files) -> None:
    session = platform.session()
    files = bundle_files()
    files["native/model.json"] = b'{"weights": [9]}'  # not what the manifest says
    with pytest.raises(Refused):
        session.models.draft("readmission", bundle_tar.pack_files(files.items()))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.json"))
    with pytest.raises(Invalid):
        session.models.draft("readmission", buffer.getvalue())
    assert session.models.list() == ()
    assert list(platform.blobs.list()) == []
    assert list((platform.settings.workspace / "scratch").iterdir()) == []
