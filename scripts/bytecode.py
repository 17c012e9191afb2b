"""Compiles the bytecode of every module that Loopline imports, and of no other: `python scripts/bytecode.py`."""

from __future__ import annotations

import compileall
import contextlib
import pkgutil
import sys
from importlib import import_module

import loopline

SKIPPED = ("loopline.migrations.env", "loopline.testing", "loopline.__main__")


def main() -> None:
    """Imports all of Loopline, then compiles what that has loaded."""
    for module in pkgutil.walk_packages(loopline.__path__, "loopline."):
        if not module.name.startswith(SKIPPED):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                import_module(module.name)
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    with contextlib.redirect_stdout(sys.stderr):
        for file in sorted(f for f in files if f.endswith(".py")):
            compileall.compile_file(file, quiet=1)


if __name__ == "__main__":
    main()
