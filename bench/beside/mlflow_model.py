"""The folder of a model as MLflow keeps it.

python mlflow_model.py KIND FOLDER
"""

import sys

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from models import NAMES, fitted, rows

TRUSTED = ["sklearn.tree._tree.Tree", "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]
"""What skops wants to be told of, in models that were fitted here."""

model = fitted(sys.argv[1])
frame = pd.DataFrame(rows(4), columns=NAMES)
signature = infer_signature(frame, model.predict_proba(frame.to_numpy()))
mlflow.sklearn.save_model(
    model,
    sys.argv[2],
    signature=signature,
    pyfunc_predict_fn="predict_proba",
    skops_trusted_types=TRUSTED,
)
