"""In MLflow's own environment: makes the model of tests/serving as a pyfunc, and drives a server with MLflow's clients.

python mlflow_scoring.py model FOLDER          saves the model and MLflow's example payload
python mlflow_scoring.py drive PORT            prints as JSON what the clients were answered
"""

import json
import math
import os
import sys
from datetime import date

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

ROWS = [
    {"age": 61.5, "visits": 2, "insured": True, "admitted": "2024-05-31", "ward": "north"},
    {"age": 3.25, "visits": 7, "insured": False, "admitted": "1969-12-31", "ward": "west"},
    {"age": 80.0, "visits": 0, "insured": True, "admitted": "1950-01-31", "ward": "east"},
]


class Model(mlflow.pyfunc.PythonModel):
    """The hand-made linear model, reckoned in plain Python."""

    def predict(self, context, model_input, params=None):
        found = []
        for row in model_input.to_dict("records"):
            days = (date.fromisoformat(row["admitted"]) - date(1970, 1, 1)).days
            ward = {"east": 0.25, "north": 0.5, "west": -0.75}.get(row["ward"], -0.125)
            score = 0.02 * row["age"] + 0.4 * row["visits"] - 0.5 * row["insured"] + 0.0001 * days + ward
            found.append("yes" if 1 / (1 + math.exp(-score)) >= 0.5 else "no")
        return np.array(found)


def model(folder):
    inputs = [
        ColSpec("double", "age"), ColSpec("long", "visits"), ColSpec("boolean", "insured"),
        ColSpec("string", "admitted"), ColSpec("string", "ward"),
    ]  # fmt: skip
    mlflow.pyfunc.save_model(
        folder,
        python_model=Model(),
        signature=ModelSignature(Schema(inputs), Schema([ColSpec("string")])),
        input_example=pd.DataFrame(ROWS),
        pip_requirements=["mlflow"],
    )


def drive(port):
    from mlflow.deployments import get_deploy_client
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    frame = pd.DataFrame(ROWS)
    client = ScoringServerClient("127.0.0.1", port)
    client.wait_server_ready(timeout=5)
    deployments = get_deploy_client(f"http://127.0.0.1:{port}")
    said = {
        "version": client.get_version(),
        "frame": client.invoke(frame).get_predictions()[0].tolist(),
        "array": client.invoke(frame, params={"x": 1}).get_predictions("ndarray").tolist(),
    }
    if len(sys.argv) > 3:
        answer = deployments.predict(endpoint=sys.argv[3], inputs={"dataframe_split": frame.to_dict("split")})
        said["deployment"] = answer["predictions"]
    print(json.dumps(said))


if sys.argv[1] == "model":
    model(sys.argv[2])
else:
    drive(int(sys.argv[2]))
