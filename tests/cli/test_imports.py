"""What starting costs: help and `import loopline` load nothing heavy. Each case in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from loopline.cli import COMMANDS

HEAVY = ("numpy", "pandas", "polars", "sqlalchemy", "starlette", "sklearn", "rich", "httpx", "msgspec")
COUNT = "import json, sys; print(json.dumps([m for m in sys.modules]))"
HELP = f"""
import sys
sys.argv = ["loopline", *sys.argv[1:]]
from loopline.cli import main
try:
    main()
except SystemExit as e:
    assert e.code == 0, e.code
{COUNT}
"""


def modules(program: str, *arguments: str) -> list[str]:
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_importing_loopline_loads_little() -> None:
    found = modules(f"import loopline\n{COUNT}")
    assert "loopline" in found
    assert set(HEAVY).isdisjoint(found)
    assert len(found) <= 150


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_loads_little(arguments: list[str]) -> None:
    alone = "e.code == 2"  # the group without a command shows its help, too
    found = modules(HELP if arguments else HELP.replace("e.code == 0", alone), *arguments)
    assert "loopline.cli" in found
    assert set(HEAVY).isdisjoint(found)
    assert len(found) <= 120


def test_the_help_of_every_command_loads_no_engine() -> None:
    program = """
import json, sys
from click.testing import CliRunner
from loopline.cli import COMMANDS, cli
for name in COMMANDS:
    ended = CliRunner().invoke(cli, [name, "--help"])
    assert ended.exit_code == 0, (name, ended.output)
print(json.dumps(list(sys.modules)))
"""
    found = modules(program)
    assert {f"loopline.cli.{module}" for _, module, _ in COMMANDS.values()} <= set(found)
    assert {"numpy", "pandas", "polars", "sqlalchemy", "starlette", "sklearn", "rich"}.isdisjoint(found)
