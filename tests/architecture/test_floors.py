"""The floors of docs/architecture.md hold: imports run downwards, in no ring, and adapters stand apart."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "loopline"
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
GROUND = {"ports", "adapters", "testing", "migrations", "examples"}


def test_the_import_contracts_are_kept() -> None:
    # In a process of its own: it silences every logger of the one that it runs in, and other tests listen to them.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_STATUS_SUCCESS, done.stdout + done.stderr


def test_every_stage_is_forbidden_to_adapters() -> None:
    stages = {f"loopline.{folder.name}" for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    stages |= {"loopline.catalog"}
    stages -= {f"loopline.{name}" for name in GROUND}
    assert set(CONTRACTS["adapters-know-no-stage"]["forbidden_modules"]) == stages


def test_records_and_verbs_are_light() -> None:
    """What a room declares may be imported by a serving worker or a client: the standard library, msgspec, and the same."""
    light = {"__future__", "msgspec", "loopline", *sys.stdlib_module_names}
    heavy = []
    for file in [*PACKAGE.glob("*/records.py"), *PACKAGE.glob("*/verbs.py"), *PACKAGE.glob("*/__init__.py")]:
        if file.parent.name in ("cli", "migrations"):  # a door; Alembic's own entry
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                heavy += [
                    f"{file.relative_to(PACKAGE)}: {a.name}" for a in node.names if a.name.split(".")[0] not in light
                ]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in light:
                heavy.append(f"{file.relative_to(PACKAGE)}: {node.module}")
    assert heavy == []
