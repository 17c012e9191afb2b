"""What many write by hand: FastAPI, a pickled model, rows as JSON objects.

python serve_fastapi.py FILE PORT
"""

import sys

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI

model = joblib.load(sys.argv[1])
app = FastAPI()


@app.post("/predict")
def predict(rows: list[dict[str, float]]) -> list[list[float]]:
    """Probabilities of each row."""
    return model.predict_proba(np.array([list(row.values()) for row in rows], np.float32)).tolist()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="warning", timeout_keep_alive=75)
