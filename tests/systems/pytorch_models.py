"""Models of PyTorch, made by it and written into a folder, with what it answers itself for rows.csv. Run in its own environment."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(sys.argv[1])
ROWS = torch.from_numpy(np.loadtxt(FOLDER / "rows.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2), dtype=np.float32))
FREE = ({0: torch.export.Dim("n")},)
CODE = '''
import torch
from torch import nn
from parts import known


class Model(nn.Module):
    """Which way a row goes is decided in Python, so it has no graph."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, rows):
        found = []
        for row in known(rows):
            hidden = torch.relu(self.first(row))
            found.append(torch.softmax(self.last(hidden if hidden.sum() > 1 else -hidden), 0))
        return torch.stack(found)
'''
PARTS = "import torch\n\n\ndef known(rows):\n    return torch.nan_to_num(rows, nan=0.25)\n"


class Known(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(rows, nan=0.25)


class Bessel(torch.nn.Module):
    """What no exporter to ONNX knows."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.special.modified_bessel_k0(1 + rows.nan_to_num().abs()).sum(1))


def net(out: int, *end: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    layers = [Known(), torch.nn.Linear(3, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, out)]
    made = torch.nn.Sequential(*layers, *end)
    made(ROWS)  # the norm has seen some rows
    return made.eval()


def exported(name: str, module: torch.nn.Module, shapes: object = FREE) -> None:
    torch.export.save(torch.export.export(module, (ROWS[:8],), dynamic_shapes=shapes), FOLDER / f"{name}.pt2")


answers: dict[str, list[object]] = {}
MODULES = {
    "binary": net(1, torch.nn.Sigmoid()),
    "multiclass": net(3, torch.nn.Softmax(1)),
    "regression": net(1, torch.nn.Flatten(0)),
    "bessel": Bessel(),
}
for name, module in MODULES.items():
    exported(name, module)
    answers[name] = module(ROWS).tolist()
exported("logits", net(1))
exported("eight-rows", net(1, torch.nn.Sigmoid()), None)
exported("in-training", net(1, torch.nn.Sigmoid()).train())

script = torch.jit.trace(MODULES["binary"], ROWS[:8])
script.save(str(FOLDER / "script.pt"))
answers["script"] = answers["binary"]

torch.save(MODULES["binary"].state_dict(), FOLDER / "checkpoint.pt")
torch.save(MODULES["binary"], FOLDER / "pickled.pt")

(FOLDER / "code").mkdir()
(FOLDER / "code" / "model.py").write_text(CODE)
(FOLDER / "code" / "parts.py").write_text(PARTS)
sys.path.insert(0, str(FOLDER / "code"))
from model import Model  # noqa: E402 (it was written just now)

torch.manual_seed(5)
model = Model().eval()
save_file(model.state_dict(), FOLDER / "code" / "model.safetensors")
with torch.no_grad():
    answers["code"] = model(ROWS).tolist()
shutil.rmtree(FOLDER / "code" / "__pycache__", ignore_errors=True)

for name, weights in (("other", {"nothing": torch.zeros(2)}), ("half", model.half().state_dict())):
    shutil.copytree(FOLDER / "code", FOLDER / f"code-{name}")
    save_file(weights, FOLDER / f"code-{name}" / "model.safetensors")

(FOLDER / "answers.json").write_text(json.dumps(answers))
(FOLDER / "version.txt").write_text(torch.__version__)
