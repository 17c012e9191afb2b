"""From a dataset to a registered model's folder, and a model's end, killed anywhere: what is named is whole, what went is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def _open(folder: Path) -> Any:
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1")
    from loopline.app import Platform

    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))


def work(folder: Path) -> None:
    """A dataset version, a run with points, a bundle, a draft of it, its registration, and its folder as workers open it."""
    import polars as pl

    from loopline.loop.table import Table, linear
    from loopline.operations import Body
    from loopline.packaging.bundle import write_bundle
    from loopline.packaging.pulling import pull
    from loopline.registry.bundle_tar import pack
    from loopline.tracking.records import Point

    platform = _open(folder)
    session = platform.session()
    if not session.datasets.list():
        lines = "".join(f"{n},{'ab'[n % 2]}\n" for n in range(60))
        session.datasets.add("visits", Body(b"x,y\n" + lines.encode(), name="visits.csv"))
    found = session.runs.list(name="fit").runs
    run = found[0] if found else session.runs.create("fit")
    session.runs.log(run.id, [Point(key="loss", value=n / 3, step=n, time=1 + n) for n in range(5)])
    if not (folder / "bundle").exists():
        frame = pl.DataFrame({"x": [float(n) for n in range(60)], "y": ["ab"[n % 3 % 2] for n in range(60)]})
        model = linear(Table(frame[:40], frame[40:], label="y"))
        write_bundle(
            model,
            folder / "bundle",
            name="visits",
            version=1,
            example={"x": 1.0},
            validation_frame=frame[40:],
            created=1,
        )
    made = session.models.draft("visits", Body(pack(folder / "bundle"), name="bundle.tar"), run=run.id)
    if made.status == "draft":
        session.models.register("visits", made.version)
    session.models.set_alias("visits", "champion", made.version)
    platform.open_model("model:visits@1")
    if not (folder / "pulled").exists():
        pull(session.models, "visits", "champion", folder / "pulled")
    platform.close()


def check(folder: Path, finished: bool) -> None:
    """One version of each, read back whole; what is half done shows nowhere."""
    if not finished and not (folder / "workspace" / "loopline.db").exists():
        return
    from loopline.packaging.manifest import read_manifest

    platform = _open(folder)
    session = platform.session()
    assert session.ledger.verify().ok
    for dataset in session.datasets.list():
        (version,) = session.datasets.log(dataset.name)
        assert (version.rows, len(session.datasets.read(dataset.name, "1").read()) > 0) == (60, True)
    for run in session.runs.list().runs:
        assert [point.step for point in session.runs.history(run.id, "loss")] in ([], [0, 1, 2, 3, 4])
    for model in session.models.list():
        (kept,) = session.models.versions(model.name)
        assert kept.status == "draft" or session.models.verify(model.name, 1).ok
    for bundle in [
        folder / "bundle",
        folder / "pulled",
        *(folder / "workspace" / "serving" / "bundles").glob("[!.b]*"),
    ]:
        assert not bundle.exists() or read_manifest(bundle).name == "visits"
    if finished:
        assert not list(folder.glob(".pulled-*"))
        assert len(session.datasets.list()) == len(session.runs.list().runs) == len(session.models.list()) == 1
        assert session.models.show("visits", "champion").status == "registered"
    platform.close()


def purge(folder: Path) -> None:
    """A version of a run's files, deleted, and removed for good."""
    from loopline.operations import Body

    platform = _open(folder)
    session = platform.session()
    found = session.runs.list(name="fit").runs
    run = found[0] if found else session.runs.create("fit")
    session.runs.put_artifact(run.id, "model/weights.txt", Body(b"0.25"))
    if not session.models.list(lifecycle="all"):
        session.models.add("gone", files=run.ref, path="model", run=run.ref)
    session.models.delete("gone")
    session.models.purge("gone")
    platform.close()


def check_purged(folder: Path, finished: bool) -> None:
    """The version is whole or gone, and nothing that is needed is missing."""
    if not finished and not (folder / "workspace" / "loopline.db").exists():
        return
    from loopline.store.service import Store

    platform = _open(folder)
    session = platform.session()
    assert session.ledger.verify().ok
    for model in session.models.list(lifecycle="all"):
        versions = session.models.versions(model.name, lifecycle="all")
        assert len(versions) <= (0 if finished else 1)
        with platform.database.begin() as tx:
            store = Store(tx, platform.blobs)
            assert store.damages() == []
            held = store.of("model:gone@1")
            assert held == sorted(digest for version in versions for digest in version.forms.values())
    platform.close()


SCENARIOS = {"model version": (work, check), "purged model": (purge, check_purged)}
ROOMS = {"model version": ("data", "tracking", "packaging", "registry"), "purged model": ("registry",)}
