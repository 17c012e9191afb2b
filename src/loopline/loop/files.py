"""Loop files: found, run and read. A loop's file is its owner's own code; it is run in this process, as any script is."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar

from loopline.errors import Invalid, LooplineError, NotFound, did_you_mean
from loopline.loop.declaration import Loop
from loopline.quality.contract_functions import OF_FILE


class Named(Protocol):
    """What a file declares, with its name."""

    @property
    def name(self) -> str: ...


D = TypeVar("D", bound=Named)


def read(path: Path, name: str | None = None) -> Loop:
    """The loop that a file declares (the one called `name`, where it declares several)."""
    if not path.is_file():
        near = [file.stem for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise NotFound(
            f"There is no loop file {path}.",
            code="no-loop",
            hint=f"{did_you_mean(path.stem, near)} Make one: loopline init NAME --data FILE --label COLUMN.",
        )
    loops = declared(path, Loop)
    if not loops:
        raise Invalid(f"{path} declares no loop.", code="bad-loop", hint="It should end with: loop = ll.Loop(...).")
    if name is None and len(loops) == 1:
        return next(iter(loops.values()))
    if name not in loops:
        raise NotFound(f"{path} declares no loop {name!r}.", code="no-loop", hint=did_you_mean(name or "", loops))
    return loops[name]


def declared(path: Path, kind: type[D]) -> dict[str, D]:
    """What of a kind (loops, feature views) a file declares, by name. Runs it; raises `Invalid` where that fails."""
    return {value.name: value for value in vars(run(path)).values() if isinstance(value, kind)}


def run(path: Path) -> ModuleType:
    """What a file is as a module, once it has run. Raises `Invalid` where that fails."""
    spec = importlib.util.spec_from_file_location(f"{OF_FILE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} is no Python file.", code="bad-loop", hint="A loop's file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # inspect.getsource looks it up there
    try:
        spec.loader.exec_module(module)
    except LooplineError as e:
        raise Invalid(f"{path}{_line(e, path)}: {e.message}", code=e.code, hint=e.hint, **e.details) from e
    except Exception as e:
        raise Invalid(f"{path}{_line(e, path)} cannot be run: {type(e).__name__}: {e}", code="bad-loop") from e
    return module


class RuleFiles:
    """The files whose functions contracts may name, as the owner of this process lists them (setting `rules`, by commas).

    Calling it runs those that changed since the last call: their `@ll.rule` functions are known from then on.
    """

    def __init__(self, listed: str) -> None:
        self._paths = [Path(one.strip()).expanduser().absolute() for one in listed.split(",") if one.strip()]
        self._ran: dict[Path, int] = {}

    def __call__(self) -> None:
        for path in self._paths:
            if not path.is_file():
                raise NotFound(
                    f"There is no file {path}, which the setting `rules` lists.",
                    code="no-rules",
                    hint="Write whole paths, separated by commas; `loopline doctor` shows where a setting comes from.",
                )
            if self._ran.get(path) != (at := path.stat().st_mtime_ns):
                run(path)
                self._ran[path] = at


def _line(error: BaseException, path: Path) -> str:
    """Where in the file it happened, as ", line 12"."""
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    if isinstance(error, SyntaxError):
        places = [error.lineno]
    return f", line {places[-1]}" if places and places[-1] else ""
