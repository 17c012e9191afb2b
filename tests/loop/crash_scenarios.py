"""`loopline run` on a tiny loop, killed anywhere: what was finished is not repeated, nothing half-written shows, one champion.

Each kill takes seconds, so the usual tests draw a few places (`SAMPLED`); `make soak` kills at all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

LOOP = """\
import loopline as ll


@ll.step
def fit(train: ll.Table, *, strength: float = 1.0) -> ll.Model:
    with open({told!r}, "a") as file:
        file.write("fit\\n")
    return ll.linear(train, strength=strength)


loop = ll.Loop(
    "visits",
    data=ll.source({rows!r}, label="back", time="visit", group="person", protected=["sex"]),
    contract=ll.contract(ll.unique("visit"), ll.column("days").between(0, 60)),
    clean=[ll.clean.repair()],
    train=fit,
    gates=[ll.gate.at_least("roc_auc", 0.6)],
    rollout=ll.rollout.canary(10, rows=100),
)
"""


def prepare(folder: Path, rows: int = 600) -> Path:
    """Writes the loop's file and its rows beside the workspace, once."""
    place = folder / "place"
    if not (place / "visits.csv").exists():
        place.mkdir(parents=True, exist_ok=True)
        lines = ["visit,person,days,age,sex,back"]
        state = 12345
        for visit in range(rows):
            state = (state * 1103515245 + 12345) % 2**31
            days = 99 if visit < 5 else state // 1000 % 14
            state = (state * 1103515245 + 12345) % 2**31
            age, noise = 40 + state // 1000 % 50, state // 77777 % 12
            back = "yes" if days % 99 + noise + (age - 40) / 10 > 14 else "no"
            lines.append(f"{visit},{visit // 2},{days},{age},{'fm'[state // 3 % 2]},{back}")
        (place / "visits.py").write_text(LOOP.format(rows=str(place / "visits.csv"), told=str(folder / "told")))
        (place / "visits.csv.aside").write_text("\n".join(lines) + "\n")
        (place / "visits.csv.aside").rename(place / "visits.csv")
    return place


def work(folder: Path) -> None:
    """What `loopline run visits` does."""
    place = prepare(folder)
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1", XDG_STATE_HOME=str(folder / "state"))
    os.chdir(place)
    from loopline.app import Platform
    from loopline.loop.again import first
    from loopline.loop.lease import held

    workspace = folder / "workspace"
    with held(workspace, "a test"):
        platform = Platform.open(workspace=workspace)
        result = first(platform.session(), "visits", workspace)
        platform.close()
    assert result.outcome == "promoted", result


def check(folder: Path, finished: bool) -> None:
    """The ledger verifies; what shows is whole; after a whole run exactly one champion, each step done once, one look."""
    workspace = folder / "workspace"
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1", XDG_STATE_HOME=str(folder / "state"))
    if not finished and not (workspace / "loopline.db").exists():
        return
    from loopline.app import Platform
    from loopline.errors import Refused
    from loopline.hashing import digest_table

    platform = Platform.open(workspace=workspace)
    session = platform.session()
    try:
        assert session.ledger.verify().ok, session.ledger.verify()
        runs = session.pipelines.list()
        journal = [step.step for run in runs for step in run.steps if not step.cached]
        once = [step for step in journal if step not in ("gates", "deploy")]  # these two happen in every run
        assert sorted(once) == sorted(set(once)), journal
        for dataset in session.datasets.list():
            log = session.datasets.log(dataset.name)
            assert len(log) == 1, log
            try:
                data = session.datasets.read(dataset.name, "1").read()
            except Refused:
                assert log[0].sealed
            else:
                import io

                import polars as pl

                rows = pl.read_ipc_stream(io.BytesIO(data))
                if rows.height == log[0].rows:
                    assert digest_table(rows.to_arrow()) == log[0].digest
                else:  # the version that was split, without the rows that are sealed
                    assert rows.height == log[0].rows - session.datasets.show(f"{dataset.name}.test").rows
        for model in session.models.list():
            assert model.versions == 1, session.models.versions(model.name)
            assert session.models.verify(model.name, 1).ok
        for endpoint in session.endpoints.routes().endpoints.values():
            assert sum(variant.weight for variant in endpoint.variants) == 10_000
            assert all((Path(variant.bundle) / "manifest.json").is_file() for variant in endpoint.variants)
        if not finished:
            return
        assert {run.status for run in runs} == {"finished"}
        assert session.models.show("visits", "champion").version == 1
        assert session.endpoints.show("visits").champion == "model:visits@1"
        assert len(session.monitors.list()) == 1
        assert session.datasets.show("visits.test").looks == 1
        assert len(session.evaluations.list()) == 1
        assert {run.status for run in session.runs.list().runs} == {"finished"}
        assert {run.name for run in session.runs.list().runs} == {"visits", "visits.baseline"}
        assert len(session.runs.list().runs) == 2
    finally:
        platform.close()


def begin(folder: Path) -> None:
    """What `loopline init visits` does, and after it the rows of a run that an alert asked for."""
    place = prepare(folder)
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1", XDG_STATE_HOME=str(folder / "state"))
    from loopline.app import Platform
    from loopline.loop.again import rows_of
    from loopline.loop.files import read
    from loopline.loop.starter import write
    from loopline.operations import Body

    write(folder, "begun", place / "visits.csv", label="back", time="visit", group="person", overwrite=True)
    platform = Platform.open(workspace=folder / "workspace")
    session = platform.session()
    if not session.datasets.list():
        session.datasets.add("visits", Body(place / "visits.csv"))
    rows_of(session, read(place / "visits.py", "visits"), "asked", folder / "workspace")
    platform.close()


def check_begun(folder: Path, finished: bool) -> None:
    """The loop's file and the run's rows are whole or not there."""
    file, rows = folder / "begun.py", folder / "workspace" / "runs" / "asked.parquet"
    if finished or file.exists():
        from loopline.loop.files import read

        assert read(file).data.label == "back"
    if finished or rows.exists():
        import polars as pl

        assert pl.read_parquet(rows).columns == ["visit", "person", "days", "age", "sex", "back"]


SCENARIOS = {"loop": (work, check), "begun loop": (begin, check_begun)}
SAMPLED = {"loop": 3}
ROOMS = {"begun loop": ("loop",)}
