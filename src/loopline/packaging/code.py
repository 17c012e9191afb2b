"""A user's own code as a model: `code/model.py` of a signed bundle. Nothing here is to run in any other than a child process.

class Model:
    def load(self, folder):      # the folder of the code, a pathlib.Path: read there what is needed
        ...
    def predict(self, rows):     # a list of rows, each a dictionary by column; None where a value is missing
        ...                      # one number a row, or a list of the classes' probabilities
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from loopline.errors import Invalid, Refused
from loopline.hashing import digest_bytes
from loopline.packaging.manifest import CODE, file_of
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score, Strings


def open_code(folder: Path, manifest: Manifest) -> Score:
    """The model of a bundle whose signature was checked. Raises `Refused` where the file changed since, `Invalid` for no model."""
    name = file_of("code")
    source = (folder / name).read_bytes()
    if digest_bytes(source) != manifest.digests[name]:  # what runs is what was signed
        raise Refused(f"{name!r} in {folder} was changed since the bundle was written.", code="bundle-changed")
    place = folder / CODE
    sys.path.insert(0, str(place))
    sys.dont_write_bytecode = True  # a bundle holds what its manifest lists
    module = ModuleType("model")
    module.__file__ = str(folder / name)
    sys.modules["model"] = module
    try:
        exec(compile(source, str(folder / name), "exec"), module.__dict__)  # noqa: S102 (signed, and in a process of its own)
        model = module.Model()
        model.load(place)
        predict = model.predict
    except Exception as e:
        raise Invalid(
            f"The code of {folder} does not load: {type(e).__name__}: {e}.",
            code="bad-code",
            hint="code/model.py defines a class Model with load(folder) and predict(rows).",
        ) from e
    read = _reader(manifest)

    def score(numbers: Floats, strings: Strings) -> Any:
        return predict(read(numbers, strings))

    return score


def _reader(manifest: Manifest) -> Callable[[Floats, Strings], list[dict[str, Any]]]:
    """What makes rows of arrays: numbers as they are, whole numbers, booleans, dates as days since 1970, texts."""
    kinds = {field.name: field.kind for field in manifest.signature.inputs}
    as_type = {"integer": int, "boolean": bool}
    types = [as_type.get(kinds[name], float) for name in manifest.numbers]

    def read(numbers: Floats, strings: Strings) -> list[dict[str, Any]]:
        return [
            {
                **{n: None if v != v else of(v) for n, of, v in zip(manifest.numbers, types, values, strict=True)},
                **{n: text or None for n, text in zip(manifest.strings, texts, strict=True)},
            }
            for values, texts in zip(numbers.tolist(), strings.tolist(), strict=True)
        ]

    return read
