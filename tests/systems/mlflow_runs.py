"""Writes a folder mlruns/ with MLflow itself: `python mlflow_runs.py FOLDER`. tests/adapters/mlflow/mlruns.json is of it."""

import math
import os
import sys

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
from mlflow.tracking import MlflowClient

LONG = 'fit: "one" of a name that is so long that it would be folded over lines by whoever writes YAML with a width'

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment('visits: a & "b"')
with mlflow.start_run(run_name=LONG):
    mlflow.log_params({"rate": 0.1, "layers/depth": 3, "text": "a\nb"})
    for step in range(30):
        mlflow.log_metric("train/loss", 1 / (1 + step), step=step)
    for step, value in ((0, math.nan), (1, math.inf), (-5, -math.inf)):
        mlflow.log_metric("odd", value, step=step)
    mlflow.set_tags({"team": "clinic", "mlflow.note.content": "*fine*"})
    mlflow.log_text("hello\n", "notes/a.txt")
    mlflow.log_dict({"a": 1}, "d.json")
    for fold in range(3):
        with mlflow.start_run(run_name=f"fold {fold}", nested=True):
            mlflow.log_param("fold", fold)
            mlflow.log_metric("auc", 0.6 + fold / 100)
mlflow.set_experiment("other")
try:
    with mlflow.start_run(run_name="broken"):
        mlflow.log_metric("loss", 1.0)
        raise ValueError("no")
except ValueError:
    pass
client = MlflowClient()
left = mlflow.start_run(run_name="goes on")
mlflow.log_metric("loss", 2.0)
client.delete_run(client.create_run(left.info.experiment_id, run_name="deleted").info.run_id)
gone = client.create_experiment("gone")
client.create_run(gone, run_name="in a deleted one")
client.delete_experiment(gone)
os._exit(0)  # without the end of the run that goes on
