"""What an unmodified MLflow client sees of files that it brings, as JSON: run by the environments of MLflow."""

import json
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from mlflow.artifacts import download_artifacts, load_dict, load_image, load_text
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

client = mlflow.MlflowClient()
seen = {}


def tree(run, path=None):
    """Every file and folder below a path, with its size where that is the same each time."""
    for file in client.list_artifacts(run, path):
        name = "images/..." if file.path.startswith("images/") else file.path  # their names hold times
        yield [name, file.is_dir, None if file.path.endswith((".png", ".webp")) else file.file_size]
        if file.is_dir:
            yield from tree(run, file.path)


def below(folder):
    """The files below a folder of this machine."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def refused(call, *args, **more):
    """What kind of error a call ends in."""
    try:
        call(*args, **more)
    except Exception as e:
        return type(e).__name__
    return "no error"


with tempfile.TemporaryDirectory() as temporary, mlflow.start_run() as active:
    run, here = active.info.run_id, Path(temporary)
    (here / "tree" / "deep").mkdir(parents=True)
    for name, content in {
        "one.txt": b"one", "ü b.bin": b"\0\1" * 100, "empty": b"", "tree/deep/y.csv": b"a,b\n1,2\n", "tree/z.md": b"# z",
        "100%.txt": b"all", "a+b&c=d.txt": b"signs", "a:b": b"colon",
    }.items():  # fmt: skip
        (here / name).write_bytes(content)
    mlflow.log_artifact(here / "one.txt")
    for name in ("one.txt", "ü b.bin", "100%.txt", "a+b&c=d.txt", "a:b"):
        mlflow.log_artifact(here / name, "sub/deep")
    mlflow.log_artifact(here / "a:b")
    mlflow.log_text("colons", "c:x/y:z.txt")
    mlflow.log_artifact(here / "empty")
    mlflow.log_artifacts(here / "tree", "tree")
    mlflow.log_dict({"a": [1, 2]}, "dicts/d.json")
    mlflow.log_dict({"a": [1, 2]}, "dicts/d.yaml")
    mlflow.log_text("hällo\n", "texts/t.html")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "img/i.png")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="shown", step=1, synchronous=True)
    mlflow.log_figure(plt.subplots()[0], "fig/f.png")
    mlflow.log_table({"a": [1, 2], "b": ["x", "y"]}, "tables/t.json")
    mlflow.log_table(pd.DataFrame({"a": [3], "b": ["z"]}), "tables/t.json")
    seen["listed"] = list(tree(run))
    seen["listed below"] = [
        [one.path for one in client.list_artifacts(run, path)] for path in ("none", "one.txt", "sub/deep")
    ]
    address = f"runs:/{run}"
    seen["dict"] = load_dict(f"{address}/dicts/d.json")
    seen["text"] = load_text(f"{address}/texts/t.html")
    seen["image"] = load_image(f"{address}/img/i.png").size
    seen["bytes"] = [
        Path(download_artifacts(run_id=run, artifact_path=f"sub/deep/{name}")).read_bytes().hex()
        for name in ("one.txt", "ü b.bin", "100%.txt", "a+b&c=d.txt")
    ]
    seen["empty"] = Path(download_artifacts(run_id=run, artifact_path="empty")).read_bytes().hex()
    seen["a folder"] = below(download_artifacts(run_id=run, artifact_path="tree"))
    seen["everything"] = [
        name for name in below(download_artifacts(run_id=run, artifact_path="")) if "images/" not in name
    ]
    seen["table"] = mlflow.load_table("tables/t.json", run_ids=[run]).to_dict("list")
    seen["absent"] = [refused(download_artifacts, run_id=run, artifact_path=path) for path in ("none.txt", "no/where")]
    seen["dots"] = [refused(client.list_artifacts, run, "../x"), refused(mlflow.log_artifact, here / "one.txt", "../x")]
    files = get_artifact_repository(active.info.artifact_uri)
    for path in ("tree", "one.txt", "nothing"):
        files.delete_artifacts(path)
    seen["left"] = [name for name, _, _ in tree(run)]
    files.delete_artifacts()
    seen["nothing is left"] = list(tree(run))
json.dump(seen, sys.stdout, sort_keys=True)
