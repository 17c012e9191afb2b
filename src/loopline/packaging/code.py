"""A user's own code as a model: `code/model.py` of a signed bundle. Nothing here is to run in any other than a child process.

class Model:
    def load(self, folder):      # the folder of the code, a pathlib.Path: read there what is needed
        ...
    def predict(self, rows):     # a list of rows, each a dictionary by column; None where a value is missing
        ...                      # one number a row, or a list of the classes' probabilities
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from loopline.errors import Invalid, NotFound
from loopline.packaging.manifest import CODE, file_of, listed_bytes
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score, Strings
from loopline.registry.formats import check_file


def open_code(folder: Path, manifest: Manifest) -> Score:
    """The model of a bundle whose signature was checked. Raises `Refused` where the file changed since, `Invalid` for no model."""
    model = made_by_code(folder, manifest)
    try:
        model.load(folder / CODE)
        predict = model.predict
    except Exception as e:
        raise _does_not_load(folder, e) from e
    read = _reader(manifest)

    def score(numbers: Floats, strings: Strings) -> Any:
        return predict(read(numbers, strings))

    return score


def made_by_code(folder: Path, manifest: Manifest) -> Any:
    """`Model()` of the code of a bundle whose signature was checked. Raises as `open_code` does."""
    name = file_of("code")
    source = listed_bytes(folder, name, manifest)
    sys.path.insert(0, str(folder / CODE))
    sys.dont_write_bytecode = True  # a bundle holds what its manifest lists
    module = ModuleType("model")
    module.__file__ = str(folder / name)
    sys.modules["model"] = module
    try:
        exec(compile(source, str(folder / name), "exec"), module.__dict__)  # noqa: S102 (signed, and in a process of its own)
        return module.Model()
    except Exception as e:
        raise _does_not_load(folder, e) from e


def copy_code(form: Path, into: Path, *needed: tuple[str, str]) -> None:
    """Copies a folder of code into a bundle. `needed`: files that it must have, each with what to do where it has not.

    Raises `NotFound` for a file that is missing, `Invalid` for a link or a kind of file that no bundle holds.
    """
    for name, hint in needed:
        if not (form / name).is_file():
            raise NotFound(f"There is no {name} in {form}.", code="no-code", hint=hint)
    for path in sorted(form.rglob("*")):
        name = path.relative_to(form).as_posix()
        if "__pycache__" in path.parts or path.is_dir():
            continue
        copy_file(path, into / name, name)


def copy_file(path: Path, to: Path, name: str) -> None:
    """Copies a file into a bundle, looked into. Raises `Invalid` for a link or a kind of file that no bundle holds."""
    if path.is_symlink():
        raise Invalid(f"{path} is a link, and a bundle holds files.", code="bundle-path", hint="Copy what it names.")
    check_file(path, name)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _does_not_load(folder: Path, e: Exception) -> Invalid:
    return Invalid(
        f"The code of {folder} does not load: {type(e).__name__}: {e}.",
        code="bad-code",
        hint="code/model.py defines a class Model with load(folder) and predict(rows).",
    )


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
