"""PyTorch itself, in an environment of its own: models that it wrote answer in our runtimes as they do in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from peers import environment

from loopline.errors import Invalid, LooplineError, NotFound, Refused
from loopline.packaging.child import ChildRuntime
from loopline.packaging.foreign import package
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.runtime import Session, predict_rows
from loopline.packaging.signing import ModelSigner
from loopline.registry.formats import check_file
from loopline.serving.model import load
from loopline.testing.runtime import RuntimeLaws, Subject

pytestmark = [pytest.mark.systems, pytest.mark.timeout(900)]

RNG = np.random.default_rng(4)
N = 300
FRAME = pl.DataFrame(
    {
        "x": RNG.normal(size=N).astype(np.float32),
        "y": RNG.normal(size=N).astype(np.float32),
        "z": [None if n % 9 == 4 else float(np.float32(n / 100)) for n in range(N)],
    }
)
LABELS = {
    "binary": ["no" if n % 3 else "yes" for n in range(N)],
    "multiclass": ["abc"[n % 3] for n in range(N)],
    "regression": [n / 7 for n in range(N)],
}
TASKS = {"multiclass": "multiclass", "regression": "regression"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the models; while it is used, child processes find PyTorch."""
    folder = tmp_path_factory.mktemp("pytorch")
    FRAME.with_columns(pl.col("z").fill_null(float("nan"))).write_csv(folder / "rows.csv")
    python = environment("torch==2.13.0", "onnxscript", "safetensors", "numpy")
    done = subprocess.run(
        [python, "-W", "ignore", Path(__file__).with_name("pytorch_models.py"), folder],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (place,) = python.parents[1].glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        yield folder


@pytest.fixture(scope="module")
def bundled(made: Path, signer: ModelSigner, tmp_path_factory: pytest.TempPathFactory) -> Any:
    known: dict[str, tuple[Path, Manifest, dict[str, Any]]] = {}

    def make(what: str, **options: Any) -> tuple[Path, Manifest, dict[str, Any]]:
        if what not in known:
            folder = tmp_path_factory.mktemp(what) / "bundle"
            manifest = packaged(made, what, folder, signer, **options)
            known[what] = folder, manifest, json.loads((folder / "parity.json").read_bytes())
        return known[what]

    return make


def form_of(made: Path, what: str) -> Path:
    if what.startswith("code"):
        return made / what
    return made / (what if "." in what else f"{what}.pt" if what == "script" else f"{what}.pt2")


def packaged(made: Path, what: str, folder: Path, signer: ModelSigner, **options: Any) -> Manifest:
    task = TASKS.get(what, "binary")
    rows = FRAME.with_columns(pl.Series("label", LABELS[task]))
    return package(
        form_of(made, what), folder, kind="pytorch", name="risk", rows=rows, label="label", signer=signer, created=0,
        task=task, **options,
    )  # type: ignore[arg-type]  # fmt: skip


def own(made: Path, what: str) -> Any:
    return np.array(json.loads((made / "answers.json").read_text())[what], np.float32)


def answers(folder: Path, opening: Opening, task: str) -> Any:
    session = Session(folder, opening=opening)
    try:
        found = predict_rows(session, FRAME.to_dicts())
    finally:
        session.close()
    if task == "regression":
        return np.array([one["value"] for one in found], np.float32)
    return np.array([list(one["probabilities"].values()) for one in found], np.float32)


@pytest.mark.parametrize(
    ("what", "runtime"),
    [("binary", "onnx"), ("multiclass", "onnx"), ("regression", "onnx"), ("script", "pytorch"), ("bessel", "pytorch"),
     ("code", "pytorch")],
)  # fmt: skip
def test_what_pytorch_wrote_answers_as_in_pytorch(
    made: Path, bundled: Any, opening: Opening, what: str, runtime: str
) -> None:
    folder, manifest, parity = bundled(what)
    assert manifest.runtime == parity["runtime"] == runtime, parity
    wanted, found = own(made, what), answers(folder, opening, manifest.task)
    if manifest.task == "binary" and what != "code":
        found = found[:, 1]
    np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-5)
    # What the workers of the server load answers its example as it was packaged.
    served = load(folder, opening)
    served.close()
    inside = {name.rpartition(".")[2] for name in manifest.digests}
    if runtime == "onnx":
        assert inside == {"onnx", "json"}, "what ONNX serves holds no program"
        text = (folder / "model.onnx").read_bytes()
        assert b"pytorch_models" not in text, "and nothing of where it came from"
        assert str(made).encode() not in text


def test_why_the_graph_does_not_serve_is_said(bundled: Any) -> None:
    _, _, parity = bundled("bessel")
    assert "modified_bessel_k0" in parity["operator"]
    for what in ("bessel", "code", "script"):
        parity = bundled(what)[2]
        assert parity["reason"].startswith("The conversion failed: "), parity
        assert parity["operator"]


def test_an_int8_form_goes_through_the_same_gate(
    made: Path, signer: ModelSigner, opening: Opening, tmp_path: Path
) -> None:
    manifest = packaged(made, "multiclass", tmp_path / "b", signer, int8=0.1)
    said = json.loads((tmp_path / "b" / "parity.json").read_bytes())["int8"]
    assert manifest.runtime == "onnx"
    assert said["accepted"], said
    far = np.abs(answers(tmp_path / "b", opening, "multiclass") - own(made, "multiclass")).max()
    assert 0 < far <= 0.1


class Laws(RuntimeLaws):
    what = ""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, bundled: Any, opening: Opening) -> Iterator[Subject]:
        folder, _, _ = bundled(cls.what)
        assert read_manifest(folder).runtime == "pytorch"
        numbers, _ = Session(folder, opening=opening).boundary.decode(FRAME[:12].to_dicts())
        runtime = ChildRuntime(folder, opening)
        yield Subject(runtime=runtime, numbers=numbers, strings=None, width=2)
        runtime.close()


class TestExported(Laws):
    what = "bessel"


class TestTorchScript(Laws):
    what = "script"


class TestModule(Laws):
    what = "code"


del Laws  # not to be collected itself


def refusal(made: Path, what: str, folder: Path, signer: ModelSigner) -> LooplineError:
    with pytest.raises(LooplineError) as told:
        packaged(made, what, folder, signer)
    assert not folder.exists()
    return told.value


def test_what_cannot_be_served_is_refused_by_its_reason(made: Path, signer: ModelSigner, tmp_path: Path) -> None:
    for what, code in (
        ("logits", "no-probabilities"), ("eight-rows", "fails-on-rows"), ("in-training", "rows-depend"),
        ("checkpoint.pt", "unsafe-form"), ("pickled.pt", "unsafe-form"), ("code-other", "other-weights"),
        ("nothing.pt2", "no-form"), ("rows.csv", "bad-model"),
    ):  # fmt: skip
        told = refusal(made, what, tmp_path / "b", signer)
        assert told.code == code, (what, told)
        assert told.hint
    assert "model.eval()" in refusal(made, "in-training", tmp_path / "b", signer).hint
    shutil.copytree(made / "code", tmp_path / "code")
    (tmp_path / "code" / "model.safetensors").unlink()
    with pytest.raises(NotFound, match=r"model\.safetensors"):
        packaged(tmp_path, "code", tmp_path / "b", signer)


def test_weights_of_another_precision_are_the_module_s_own(
    made: Path, signer: ModelSigner, opening: Opening, tmp_path: Path
) -> None:
    packaged(made, "code-half", tmp_path / "b", signer)
    np.testing.assert_allclose(answers(tmp_path / "b", opening, "binary"), own(made, "code"), atol=2e-3)


def test_a_program_runs_only_where_a_trusted_key_signed_it(bundled: Any, opening: Opening, tmp_path: Path) -> None:
    for what in ("bessel", "script", "code"):
        folder, _, _ = bundled(what)
        with pytest.raises(Refused, match="it holds code"):
            Session(folder)
        with pytest.raises(Refused, match="it holds code"):
            load(folder)
    shutil.copytree(folder, tmp_path / "copy")
    with (tmp_path / "copy" / "code" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Refused, match="was changed"):
        ChildRuntime(tmp_path / "copy", opening)


def test_what_an_archive_keeps_as_a_pickle_is_not_run(made: Path, signer: ModelSigner, tmp_path: Path) -> None:
    """torch.export.load opens sample inputs as a pickle of anything, where they are no plain tensors."""
    import pickle
    import zipfile

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    with zipfile.ZipFile(made / "bessel.pt2") as old:
        members = {one: old.read(one) for one in old.namelist()}
    (inner,) = [one for one in members if "sample_inputs" in one]
    members[inner] = pickle.dumps((Trap(),))
    with zipfile.ZipFile(tmp_path / "trap.pt2", "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    check_file(tmp_path / "trap.pt2", "trap.pt2")
    rows = FRAME.with_columns(pl.Series("label", LABELS["binary"]))
    with pytest.raises(Invalid) as told:
        package(
            tmp_path / "trap.pt2", tmp_path / "b", kind="pytorch", name="risk", rows=rows, label="label", signer=signer, created=0
        )  # fmt: skip
    assert told.value.code == "bad-model"
    assert not (tmp_path / "sprung").exists()
