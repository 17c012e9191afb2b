"""Ensembles: what is declared is computed, as one graph and node by node alike; what cannot be is refused by its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import loopline as ll
from loopline.errors import Invalid, LooplineError, Refused
from loopline.features.raw import raw_signature
from loopline.features.table import raw_rows
from loopline.packaging.bundle import write_bundle
from loopline.packaging.child import ChildRuntime
from loopline.packaging.ensemble import from_dict, read_ensemble
from loopline.packaging.ensemble_packaging import package_ensemble
from loopline.packaging.foreign import package
from loopline.packaging.manifest import read_manifest
from loopline.packaging.predictor import BundlePredictor
from loopline.packaging.records import Opening
from loopline.packaging.runtime import Session, predict_rows
from loopline.packaging.signing import ModelSigner
from loopline.ports.runtime import ModelDown
from loopline.quality.cleaning import Cleaning
from loopline.serving.model import load
from loopline.testing.runtime import RuntimeLaws, Subject
from loopline.training.linear import fit_linear
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams
from loopline.training.train import train

RNG = np.random.default_rng(8)
N = 400
ROWS = pl.DataFrame({name: RNG.normal(size=N).astype(np.float32) for name in ("x", "y", "z")})
SCORE = (ROWS["x"] * 2 - ROWS["y"] + RNG.normal(size=N) / 3).to_numpy()
BACK = np.where(SCORE > 0.4, "yes", "no")
KIND = np.where(SCORE > 1, "c", np.where(SCORE > -1, "b", "a"))
CODE = """
import os


class Model:
    def load(self, folder):
        pass

    def predict(self, rows):
        if any(row["x"] > 100 for row in rows):
            os._exit(3)
        return [min(max(0.5 + row["x"] / 8, 0), 1) for row in rows]
"""


def labelled(labels: Any, columns: tuple[str, ...] = ("x", "y", "z")) -> pl.DataFrame:
    return ROWS.select(columns).with_columns(pl.Series("label", labels))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, signer: ModelSigner) -> dict[str, Path]:
    """Bundles of single models: of two classes, of three, of amounts, of the probabilities of two others, and of code."""
    folder = tmp_path_factory.mktemp("members")
    p = RNG.uniform(size=(N, 2)).astype(np.float32)
    stacked = pl.DataFrame({"one": p[:, 0], "two": p[:, 1]})
    specs: dict[str, tuple[Any, pl.DataFrame, Any, float | None]] = {
        "linear": (LogisticRegression(), ROWS, BACK, None),
        "tree": (DecisionTreeClassifier(max_depth=3), ROWS.select("x", "z"), BACK, 0.3),
        "net": (
            MLPClassifier(hidden_layer_sizes=(8,), max_iter=60, tol=1.0, n_iter_no_change=20, random_state=1),
            ROWS,
            BACK,
            None,
        ),
        "kinds": (LogisticRegression(), ROWS, KIND, None),
        "kinds-tree": (DecisionTreeClassifier(max_depth=3), ROWS, KIND, None),
        "amount": (LinearRegression(), ROWS, SCORE, None),
        "amount-tree": (DecisionTreeRegressor(max_depth=3), ROWS.select("y", "x"), SCORE, None),
        "stack": (LogisticRegression(), stacked, np.where(p.sum(axis=1) > 1, "yes", "no"), None),
    }
    found = {}
    for name, (estimator, rows, labels, threshold) in specs.items():
        estimator.fit(rows.to_numpy(), labels)
        skops.io.dump(estimator, folder / "form.skops")
        package(
            folder / "form.skops", folder / name, kind="skops", name=name, rows=rows.with_columns(pl.Series("label", labels)),
            label="label", signer=signer, created=0, threshold=threshold,
        )  # fmt: skip
        found[name] = folder / name
    (folder / "source").mkdir()
    (folder / "source" / "model.py").write_text(CODE)
    package(
        folder / "source", folder / "code", kind="code", name="code", rows=labelled(BACK, ("x",)), label="label",
        signer=signer, created=0,
    )  # fmt: skip
    return {**found, "code": folder / "code"}


def nowhere(ref: str, into: Path) -> str:
    raise AssertionError(ref)


@pytest.fixture(scope="module")
def packaged(members: dict[str, Path], signer: ModelSigner, opening: Opening) -> Callable[..., Any]:
    def make(folder: Path, answer: str, nodes: dict[str, Any], labels: Any = BACK, **options: Any) -> Any:
        declared = {k: v if not isinstance(v, str) else {"model": str(members[v])} for k, v in nodes.items()}
        for one in declared.values():
            if "model" in one and one["model"] in members:
                one["model"] = str(members[one["model"]])
        shape = {"name": "blend", "answer": answer, "nodes": declared, "steps": options.pop("steps", [])}
        rows = options.pop("rows", labelled(labels))
        manifest = package_ensemble(
            from_dict(shape), folder, fetch=options.pop("fetch", nowhere), rows=rows, label="label", signer=signer,
            created=0, opening=options.pop("opening", opening), **options,
        )  # fmt: skip
        return manifest, json.loads((folder / "parity.json").read_bytes())

    return make


def scores(folder: Path, opening: Opening, rows: pl.DataFrame = ROWS) -> Any:
    """What a bundle answers: the probabilities of its classes by name, or the values."""
    session = Session(folder, opening=opening)
    try:
        names = [field.name for field in session.manifest.signature.inputs]
        found = predict_rows(session, rows.select(names).to_dicts())
    finally:
        session.close()
    if session.manifest.task == "regression":
        return np.array([[one["value"]] for one in found])
    return np.array([[one["probabilities"][label] for label in sorted(one["probabilities"])] for one in found])


def hard(p: Any, threshold: float) -> Any:
    return np.stack([p[:, 1] < threshold, p[:, 1] >= threshold], axis=1).astype(float)


def logit(p: Any) -> Any:
    return np.log(p / (1 - p))


def combine(what: str, of: Callable[[str], Any]) -> Any:
    """What the ensemble is to answer, reckoned from its members' own answers."""
    match what:
        case "average":
            return (of("linear") + of("tree") + of("net")) / 3
        case "weights":
            return 0.75 * of("linear") + 0.25 * of("tree")
        case "vote":
            return (hard(of("linear"), 0.5) + hard(of("tree"), 0.3) + 2 * hard(of("net"), 0.5)) / 4
        case "kinds vote":
            both = of("kinds"), of("kinds-tree")
            return sum(np.eye(3)[p.argmax(axis=1)] for p in both) / 2
        case "kinds":
            return (of("kinds") + of("kinds-tree")) / 2
        case "amounts":
            return np.clip(10 * (of("amount") + of("amount-tree")) / 2 + 3, 0, 20)
        case "cascade":
            first = of("tree")
            return np.where(first.max(axis=1, keepdims=True) >= 0.8, first, of("net"))
        case "calibrated":
            p = 1 / (1 + np.exp(-(0.5 * logit(of("net")[:, 1]) - 0.7)))
            return np.stack([1 - p, p], axis=1)
        case "kinds tempered":
            p = of("kinds") ** 0.5
            return p / p.sum(axis=1, keepdims=True)
    raise AssertionError(what)


MEAN = {"average": ["linear", "tree", "net"]}
ENSEMBLES: dict[str, tuple[dict[str, Any], Any]] = {
    "average": ({"linear": "linear", "tree": "tree", "net": "net", "mean": MEAN}, BACK),
    "weights": ({"linear": "linear", "tree": "tree", "mean": {"average": ["linear", "tree"], "weights": [3, 1]}}, BACK),
    "vote": (
        {"linear": "linear", "tree": "tree", "net": "net", "mean": {"vote": ["linear", "tree", "net"], "weights": [1, 1, 2]}},
        BACK,
    ),
    "kinds": ({"a": "kinds", "b": "kinds-tree", "mean": {"average": ["a", "b"]}}, KIND),
    "kinds vote": ({"a": "kinds", "b": "kinds-tree", "mean": {"vote": ["a", "b"]}}, KIND),
    "amounts": (
        {
            "a": "amount", "b": "amount-tree", "both": {"average": ["a", "b"]},
            "mean": {"adjust": "both", "factor": 10, "offset": 3, "lowest": 0, "highest": 20},
        },
        SCORE,
    ),
    "cascade": ({"tree": "tree", "net": "net", "mean": {"cascade": ["tree", "net"], "sure": 0.8}}, BACK),
    "calibrated": ({"net": "net", "mean": {"calibrate": "net", "slope": 0.5, "intercept": -0.7}}, BACK),
    "kinds tempered": ({"a": "kinds", "mean": {"calibrate": "a", "slope": 0.5}}, KIND),
}  # fmt: skip


@pytest.mark.parametrize("what", ENSEMBLES)
def test_as_one_graph_it_answers_what_is_declared(
    what: str, packaged: Any, members: dict[str, Path], opening: Opening, tmp_path: Path
) -> None:
    nodes, labels = ENSEMBLES[what]
    manifest, parity = packaged(tmp_path / "b", "mean", nodes, labels)
    assert manifest.runtime == "onnx", parity
    assert set(manifest.digests) == {"model.onnx", "parity.json", "ensemble.json"}, "the graph is all that serves"
    wanted = combine(what, lambda name: scores(members[name], opening))
    np.testing.assert_allclose(scores(tmp_path / "b", opening), wanted, rtol=1e-4, atol=1e-5)
    served = load(tmp_path / "b", opening)
    assert served.manifest.golden == manifest.golden
    served.close()


@pytest.mark.parametrize("what", ["vote", "amounts", "cascade", "kinds tempered"])
def test_node_by_node_it_answers_the_same(
    what: str,
    packaged: Any,
    members: dict[str, Path],
    opening: Opening,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The children compute it; here the one graph is not to be had."""
    from loopline.packaging import ensemble_packaging

    def fails(*_: Any) -> Any:
        raise Invalid("ONNX cannot say it.", code="not-convertible", operator="Riddle")

    monkeypatch.setattr(ensemble_packaging, "merged", fails)
    nodes, labels = ENSEMBLES[what]
    manifest, parity = packaged(tmp_path / "b", "mean", nodes, labels)
    assert (manifest.runtime, parity["operator"]) == ("ensemble", "Riddle")
    assert parity["reason"] == "The conversion failed: ONNX cannot say it."
    wanted = combine(what, lambda name: scores(members[name], opening))
    np.testing.assert_allclose(scores(tmp_path / "b", opening), wanted, rtol=1e-4, atol=1e-5)


def test_a_stack_takes_the_others_answers(
    packaged: Any, members: dict[str, Path], opening: Opening, tmp_path: Path
) -> None:
    takes = {"one": "linear.yes", "two": "tree.yes"}
    stack = {"model": str(members["stack"]), "takes": takes}
    manifest, _ = packaged(tmp_path / "b", "stack", {"linear": "linear", "tree": "tree", "stack": stack})
    assert manifest.runtime == "onnx"
    assert {field.name for field in manifest.signature.inputs} == {"x", "y", "z"}
    fed = pl.DataFrame({"one": scores(members["linear"], opening)[:, 1], "two": scores(members["tree"], opening)[:, 1]})
    wanted = scores(members["stack"], opening, fed)
    np.testing.assert_allclose(scores(tmp_path / "b", opening), wanted, rtol=1e-4, atol=1e-5)
    # With code among them it is computed node by node, and why is said.
    takes = {"one": "linear.yes", "two": "code.yes"}
    nodes = {"linear": "linear", "code": "code", "stack": {"model": str(members["stack"]), "takes": takes}}
    manifest, parity = packaged(tmp_path / "c", "stack", nodes)
    assert manifest.runtime == "ensemble"
    assert parity["reason"] == "'code' is computed by code, so the members are asked each by itself."
    code = np.clip(0.5 + ROWS["x"].to_numpy() / 8, 0, 1)
    wanted = scores(members["stack"], opening, pl.DataFrame({"one": fed["one"], "two": code}))
    np.testing.assert_allclose(scores(tmp_path / "c", opening), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        BundlePredictor(tmp_path / "c", opening).predict(ROWS), wanted[:, 1], rtol=1e-4, atol=1e-5
    )


class TestLaws(RuntimeLaws):
    """Node by node, with code and a cascade in it."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, packaged: Any, opening: Opening, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
        folder = tmp_path_factory.mktemp("laws") / "b"
        nodes = {"tree": "tree", "code": "code", "sure": {"cascade": ["tree", "code"], "sure": 0.8}}
        packaged(folder, "sure", nodes)
        manifest = read_manifest(folder)
        assert manifest.runtime == "ensemble"
        numbers, _ = Session(folder, opening=opening).boundary.decode(ROWS[:12].select(manifest.numbers).to_dicts())
        runtime = ChildRuntime(folder, opening)
        yield Subject(runtime=runtime, numbers=numbers, strings=None, width=2)
        runtime.close()


def test_a_member_that_dies_is_no_answer_and_is_started_again(packaged: Any, opening: Opening, tmp_path: Path) -> None:
    nodes = {"tree": "tree", "code": "code", "mean": {"average": ["tree", "code"]}}
    packaged(tmp_path / "b", "mean", nodes)
    numbers, _ = Session(tmp_path / "b", opening=opening).boundary.decode(ROWS[:12].select("x", "z").to_dicts())
    runtime = ChildRuntime(tmp_path / "b", opening)
    try:
        before = runtime.run(numbers, None)
        with pytest.raises(ModelDown):
            runtime.run(np.full((3, 2), 200, np.float32), None)
        np.testing.assert_array_equal(runtime.run(numbers, None), before)
    finally:
        runtime.close()


# What is done to rows before


def fitted(tmp_path: Path, name: str, cleaning: bool = True) -> list[Path]:
    """Bundles of a boosted and a linear model of one loop, whose rows one cleaning repairs."""
    n = 500
    ward = np.array(["East", " east", "WEST", None], dtype=object)[RNG.integers(0, 4, n)]
    age = np.where(RNG.uniform(size=n) < 0.2, np.nan, RNG.normal(50, 10, n))
    back = np.where(np.nan_to_num(age, nan=50) + 5 * (ward == "WEST") + RNG.normal(size=n) > 52, "yes", "no")
    frame = pl.DataFrame({"age": age, "ward": ward.tolist(), "back": back}).with_columns(pl.col("age").fill_nan(None))
    steps = (
        [ll.clean.repair("ward"), ll.clean.median("age"), ll.clean.mode("ward")]
        if cleaning
        else [ll.clean.median("age")]
    )
    done = Cleaning.fit(frame[:400], steps, hidden=("back",))
    problem = Problem.of(done.apply(frame[:400], training=True).kept, done.apply(frame[400:]).kept, label="back")
    found = []
    params = BoostedParams(learning_rate=0.2, leaves=6, min_rows=5, rounds=15)
    for kind, model in (("boosted", train(problem, params=params).model), ("linear", fit_linear(problem)[0])):
        rows = done.rows.reads(field.name for field in model.signature.inputs)
        signature = raw_signature(frame[:400], model.signature, rows)
        example = raw_rows(frame[:1], signature.inputs)[0]
        folder = tmp_path / f"{name}-{kind}"
        write_bundle(
            model, folder, name=kind, version=1, example=example, validation_frame=problem.validation, created=0,
            cleaning=rows, signature=signature,
        )  # fmt: skip
        found.append(folder)
    frame.rename({"back": "label"}).write_parquet(tmp_path / "rows.parquet")
    return found


def test_members_of_one_loop_keep_its_cleaning(packaged: Any, opening: Opening, tmp_path: Path) -> None:
    boosted, linear = fitted(tmp_path, "one")
    rows = pl.read_parquet(tmp_path / "rows.parquet")
    nodes = {"a": {"model": str(boosted)}, "b": {"model": str(linear)}, "mean": {"average": ["a", "b"]}}
    manifest, parity = packaged(tmp_path / "b", "mean", nodes, rows=rows)
    assert manifest.runtime == "onnx", parity
    assert "cleaning.json" in manifest.digests
    asked = rows.drop("label")
    wanted = (scores(boosted, opening, asked) + scores(linear, opening, asked)) / 2
    np.testing.assert_allclose(scores(tmp_path / "b", opening, asked), wanted, rtol=1e-4, atol=1e-5)
    # Of other loops: each member cleans its rows in its own way.
    other = fitted(tmp_path, "two", cleaning=False)[0]
    nodes["b"] = {"model": str(other)}
    manifest, parity = packaged(tmp_path / "c", "mean", nodes, rows=rows)
    assert manifest.runtime == "ensemble"
    assert "cleans its rows in a way of its own" in parity["reason"]
    wanted = (scores(boosted, opening, asked) + scores(other, opening, asked)) / 2
    np.testing.assert_allclose(scores(tmp_path / "c", opening, asked), wanted, rtol=1e-4, atol=1e-5)


def test_declared_steps_are_learned_and_done_before(
    packaged: Any, members: dict[str, Path], opening: Opening, tmp_path: Path
) -> None:
    raw = labelled(BACK).with_columns(
        pl.when(pl.col("x") > 1).then(None).otherwise(pl.col("x")).alias("x"),
        pl.when(pl.col("y") > 0).then(pl.lit("N/A")).otherwise(pl.lit("0.5")).alias("y"),
    )
    steps = [{"step": "median", "columns": ["x"]}, {"step": "placeholders", "columns": ["y"]},
             {"step": "number", "columns": ["y"]}, {"step": "constant", "columns": ["y"], "value": 2}]  # fmt: skip
    nodes = {"linear": "linear", "tree": "tree", "mean": {"average": ["linear", "tree"]}}
    with pytest.raises(Invalid, match="no rows to learn them from"):
        packaged(tmp_path / "b", "mean", nodes, rows=raw, steps=steps)
    manifest, parity = packaged(tmp_path / "b", "mean", nodes, rows=raw, steps=steps, train=raw)
    assert manifest.runtime == "onnx", parity
    kinds = {field.name: field.kind for field in manifest.signature.inputs}
    assert kinds == {"x": "number", "y": "category", "z": "number"}
    mended = raw.with_columns(
        pl.col("x").fill_null(pl.col("x").median()),
        pl.when(pl.col("y") == "N/A").then(2.0).otherwise(0.5).cast(pl.Float32).alias("y"),
    )
    wanted = (scores(members["linear"], opening, mended) + scores(members["tree"], opening, mended)) / 2
    np.testing.assert_allclose(scores(tmp_path / "b", opening, raw), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(Invalid, match="no 'y', and no step makes it"):
        packaged(tmp_path / "c", "mean", nodes, rows=raw, steps=steps[:1], train=raw.drop("y"))


# Trust


def test_code_in_it_runs_only_where_what_holds_it_is_signed(
    packaged: Any, members: dict[str, Path], opening: Opening, tmp_path: Path
) -> None:
    nodes = {"linear": "linear", "code": "code", "mean": {"average": ["linear", "code"]}}
    with pytest.raises(Refused, match="the member 'code' is a program"):
        packaged(tmp_path / "b", "mean", nodes, opening=Opening())
    packaged(tmp_path / "b", "mean", nodes)
    with pytest.raises(Refused, match="it holds code"):
        load(tmp_path / "b")
    inner = tmp_path / "b" / "nodes" / "code"
    for change in ("code/model.py", "manifest.json"):
        copy = tmp_path / f"copy-{change.partition('/')[0]}"
        shutil.copytree(tmp_path / "b", copy)
        path = copy / "nodes" / "code" / change
        path.write_text(path.read_text().replace("/ 8", "/ 9").replace('"code"', '"core"'))
        with pytest.raises(Refused, match="was changed"):
            load(copy, opening)
    # Without the signature of what holds it, its own is enough.
    assert list((inner / "signatures").iterdir())
    shutil.rmtree(tmp_path / "b" / "signatures")
    load(tmp_path / "b", opening).close()


# What is declared


def test_python_toml_and_json_declare_the_same(tmp_path: Path) -> None:
    python = ll.Ensemble(
        name="blend",
        answer="sure",
        nodes={
            "one": ll.node.model("readmission@champion"),
            "two": ll.node.model("./two", score="one.yes"),
            "both": ll.node.average("one", "two", weights=(1, 2)),
            "votes": ll.node.vote("one", "two"),
            "flat": ll.node.calibrate("votes", slope=0.5, intercept=0.1),
            "sure": ll.node.cascade("both", "flat", sure=0.9),
        },
        steps=(ll.clean.median("age"),),
    )
    (tmp_path / "e.json").write_text(json.dumps(python.to_dict()))
    (tmp_path / "e.toml").write_text("""
name = "blend"
answer = "sure"
[nodes.one]
model = "readmission@champion"
[nodes.two]
model = "./two"
takes = { score = "one.yes" }
[nodes.both]
average = ["one", "two"]
weights = [1, 2]
[nodes.votes]
vote = ["one", "two"]
[nodes.flat]
calibrate = "votes"
slope = 0.5
intercept = 0.1
[nodes.sure]
cascade = ["both", "flat"]
sure = 0.9
[[steps]]
step = "median"
columns = ["age"]
""")
    assert read_ensemble(tmp_path / "e.json") == read_ensemble(tmp_path / "e.toml") == python
    assert python.order == ["one", "two", "both", "votes", "flat", "sure"]


GOOD: dict[str, Any] = {"one": {"model": "a@1"}, "two": {"model": "b@1"}}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no nodes": ({}, "mean", "it has 0 nodes"),
    "no such answer": ({"one": {"model": "a@1"}}, "on", "it has no node 'on'"),
    "no such part": ({**GOOD, "mean": {"average": ["one", "twoo"]}}, "mean", "it has no node 'twoo'"),
    "a ring": ({"a": {"average": ["b"]}, "b": {"average": ["a"]}}, "a", "in a ring: a -> b -> a"),
    "unused": ({**GOOD}, "one", "nothing comes of the node 'two'"),
    "nothing": ({"one": {}}, "one", "the node 'one' is nothing that there is"),
    "two things": ({"one": {"model": "a@1", "vote": ["one"]}}, "one", "is model and vote"),
    "a field that is not there": ({"one": {"model": "a@1", "wieghts": []}}, "one", "wieghts"),
    "weights": ({**GOOD, "mean": {"average": ["one", "two"], "weights": [1]}}, "mean", "the weights of 'mean' are"),
    "weights below 0": (
        {**GOOD, "mean": {"vote": ["one", "two"], "weights": [2, -1]}},
        "mean",
        "the weights of 'mean'",
    ),
    "no weight": ({**GOOD, "mean": {"vote": ["one", "two"], "weights": [0, 0]}}, "mean", "the weights of 'mean' are"),
    "twice": ({"one": {"model": "a@1"}, "mean": {"average": ["one", "one"]}}, "mean", "names a node twice"),
    "made of nothing": ({"mean": {"average": []}}, "mean", "is made of nothing"),
    "sure": ({**GOOD, "mean": {"cascade": ["one", "two"], "sure": 1.5}}, "mean", "is sure from 1.5 on"),
    "slope": ({"one": {"model": "a@1"}, "mean": {"calibrate": "one", "slope": 0}}, "mean", "the slope of 'mean' is 0"),
    "bounds": (
        {"one": {"model": "a@1"}, "mean": {"adjust": "one", "lowest": 2, "highest": 1}},
        "mean",
        "between its bounds",
    ),
    "a dot": ({"a.b": {"model": "a@1"}}, "a.b", "has a dot in its name"),
    "a path": ({"../a": {"model": "a@1"}}, "../a", "cannot be a name of a node"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_declared_says_why(what: str) -> None:
    nodes, answer, said = BAD[what]
    with pytest.raises(LooplineError, match=said.replace("(", r"\(")) as told:
        from_dict({"name": "blend", "answer": answer, "nodes": nodes})
    assert told.value.code in ("bad-ensemble", "bad-name")


@pytest.mark.parametrize(
    ("nodes", "labels", "said"),
    [
        ({"a": "linear", "b": "kinds", "mean": {"average": ["a", "b"]}}, BACK, "the classes no, yes"),
        ({"a": "linear", "b": "amount", "mean": {"average": ["a", "b"]}}, BACK, "amounts"),
        ({"a": "amount", "b": "amount-tree", "mean": {"vote": ["a", "b"]}}, SCORE, "nothing for amounts"),
        ({"a": "linear", "mean": {"adjust": "a"}}, BACK, "nothing for classes"),
        ({"a": "kinds", "mean": {"calibrate": "a", "intercept": 1.0}}, KIND, "has an intercept"),
        (
            {"a": "linear", "mean": {"model": "stack", "takes": {"one": "a.maybe", "two": "a.yes"}}},
            BACK,
            "There are a.no, a.yes",
        ),
        ({"a": "linear", "mean": {"model": "stack", "takes": {"three": "a.yes"}}}, BACK, "takes no 'three'"),
        ({"a": "kinds", "b": "kinds-tree", "mean": {"average": ["a", "b"]}}, BACK, "the rows' label has"),
    ],
)
def test_what_does_not_fit_together_says_why(
    packaged: Any, nodes: dict[str, Any], labels: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match=said):
        packaged(tmp_path / "b", "mean", nodes, labels)
    assert not list(tmp_path.iterdir())


def test_int8_goes_through_the_same_gate(
    packaged: Any, members: dict[str, Path], opening: Opening, tmp_path: Path
) -> None:
    nodes = {"net": "net", "linear": "linear", "mean": {"average": ["net", "linear"]}}
    manifest, parity = packaged(tmp_path / "b", "mean", nodes, int8=0.1)
    assert parity["int8"]["accepted"], parity
    wanted = (scores(members["net"], opening) + scores(members["linear"], opening)) / 2
    assert 0 < np.abs(scores(tmp_path / "b", opening) - wanted).max() < 0.1
    assert manifest.runtime == "onnx"
    with pytest.raises(Invalid, match="rows of their own"):
        packaged(tmp_path / "c", "a", {"a": "amount"}, rows=labelled(SCORE)[:1], int8=0.1)
