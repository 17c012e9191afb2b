"""PyTorch's models: scored as they are, and as an ONNX graph. Nothing here is to run in any other than a child process.

Three forms: an archive of torch.export (`.pt2`); TorchScript (`.pt`); or a folder of code whose `model.py` has a module `Model`,
made without arguments, with its weights in `model.safetensors`. All of them are programs. Pickles are not read: weights are
safetensors, and what an archive itself keeps as a pickle is opened by torch's reader of plain tensors alone.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid, MissingExtra, NotFound
from loopline.packaging.code import copy_code, copy_file, made_by_code
from loopline.packaging.manifest import CODE, NATIVE, files_of, listed_bytes
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score, Strings
from loopline.registry.safetensors import Tensor, tensors

WEIGHTS = "model.safetensors"
OPSET = 18
"""What torch's exporter writes without converting it once more."""
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16", "BF16": "bfloat16",
    "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64", "F64": "float64",
}  # fmt: skip


def keep(form: Path, work: Path) -> None:
    """Copies a form into a bundle. Raises `NotFound`, or `Invalid` for a form that is none of the three."""
    if form.is_dir():
        copy_code(
            form,
            work / CODE,
            ("model.py", "It defines a class Model, a torch.nn.Module that is made without arguments."),
            (WEIGHTS, "Write it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."),
        )
        return
    if not form.is_file():
        raise NotFound(f"There is no {form}.", code="no-form", hint="Name the file or the folder of the model.")
    if form.suffix not in (".pt2", ".pt"):
        raise Invalid(
            f"{form} is no model of PyTorch that can be taken.",
            code="bad-model",
            hint="Write it by torch.export.save(..., 'model.pt2'), or give a folder of model.py and model.safetensors.",
        )
    copy_file(form, work / NATIVE / f"model{form.suffix}", form.name)


def open_module(folder: Path, manifest: Manifest) -> Score:
    """The module's own scores. Raises `Invalid`, `Refused` where a file changed since it was signed, `MissingExtra`."""
    torch = _library()
    module = _read(folder, manifest)

    def score(numbers: Floats, strings: Strings) -> Any:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.array(numbers, dtype=np.float32)))
        if not isinstance(found, torch.Tensor):
            raise ValueError(f"it gave a {type(found).__name__}, and one tensor is due")
        return found.detach().numpy()

    return score


def graph_of(folder: Path, manifest: Manifest) -> Any:
    """The ONNX graph of the module, by torch's own exporter: `numbers` in. Raises whatever the exporter does."""
    torch = _library()
    try:
        import onnxscript  # noqa: F401 (what the exporter writes with)
    except ImportError as e:
        raise MissingExtra("onnxscript is not installed.", extra="pytorch") from e
    module = _read(folder, manifest)
    example = torch.zeros(2, len(manifest.numbers))
    made = torch.onnx.export(
        module,
        (example,),
        input_names=["numbers"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    return made.model_proto


def _read(folder: Path, manifest: Manifest) -> Any:
    """The module, ready to score."""
    torch = _library()
    torch.set_num_threads(1)
    name = next(one for one in files_of("pytorch") if one in manifest.digests)
    if name.startswith(CODE):
        module = made_by_code(folder, manifest)
        if not isinstance(module, torch.nn.Module):
            raise Invalid(
                f"Model of {name!r} in {folder} is no torch.nn.Module.",
                code="bad-code",
                hint="A class of load(folder) and predict(rows) is packaged as code.",
            )
        weights = _weights(listed_bytes(folder, f"{CODE}/{WEIGHTS}", manifest), f"{CODE}/{WEIGHTS}")
        try:
            module.load_state_dict(weights)
        except RuntimeError as e:
            raise Invalid(
                f"The weights in {folder} are not those of its Model: {' '.join(str(e).split())[:300]}",
                code="other-weights",
                hint="Save the state_dict of this very class.",
            ) from e
        return module.eval()
    data = io.BytesIO(listed_bytes(folder, name, manifest))
    try:
        if name.endswith(".pt"):
            return torch.jit.load(data, map_location="cpu").eval()
        return torch.export.load(data).module()
    except Exception as e:  # what a made-up archive does to torch's reader can be anything
        raise Invalid(
            f"{name!r} in {folder} cannot be read by this PyTorch: {type(e).__name__}: {str(e)[:300]}.",
            code="bad-model",
            hint="Write it by the version of PyTorch that is here.",
        ) from e


def _weights(data: bytes, name: str) -> dict[str, Any]:
    """The tensors of a safetensors file. Raises `Invalid`."""
    torch = _library()
    try:
        found = tensors(data, len(data))
    except ValueError as e:
        raise Invalid(f"{name!r} is not safetensors: {e}.", code="bad-model", hint="Write the file again.") from e
    return {key: _tensor(torch, data, one) for key, one in found.items()}


def _tensor(torch: Any, data: bytes, one: Tensor) -> Any:
    dtype = getattr(torch, _DTYPES[one.dtype])
    if one.begin == one.end:  # torch makes none of no bytes
        return torch.empty(one.shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[one.begin : one.end]), dtype=dtype).reshape(one.shape)


def _library() -> Any:
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torch.export.load would fall back to a pickle of anything
    try:
        import torch
    except ImportError as e:
        raise MissingExtra("PyTorch is not installed.", extra="pytorch") from e
    return torch
