"""Registers models with MLflow itself: `python mlflow_models.py FOLDER_OR_URL`."""

import os
import sys

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
import pandas as pd
from mlflow.tracking import MlflowClient


def double(model_input: list[str]) -> list[str]:
    return model_input * 2


mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
mlflow.set_experiment("models")
with mlflow.start_run(run_name="fit") as run:
    data = mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), source="visits.csv", name="visits")
    mlflow.log_input(data, context="training")
    logged = mlflow.pyfunc.log_model(name="double", python_model=double, pip_requirements=["mlflow"])
    mlflow.log_metric("auc", 0.5, step=1, model_id=logged.model_id, dataset=data)
    mlflow.log_text("weights", "plain/weights.txt")
name = "Fraud: model's".replace(":", "")
client.create_registered_model(name, tags={"team": "claims"}, description="Who asks twice")
source, made_by = f"models:/{logged.model_id}", {"run_id": run.info.run_id, "model_id": logged.model_id}
first = client.create_model_version(name, source, tags={"a": "b"}, description="first", **made_by)
gone = client.create_model_version(name, source, **made_by)
third = client.create_model_version(name, f"{run.info.artifact_uri}/plain", run.info.run_id)
client.delete_model_version(name, gone.version)
client.set_registered_model_alias(name, "champion", first.version)
client.set_registered_model_alias(name, "_odd", third.version)
client.transition_model_version_stage(name, first.version, "Production")
client.create_registered_model("empty")
client.copy_model_version(f"models:/{name}/{first.version}", "in use")
