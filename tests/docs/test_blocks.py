"""Every code block of README and docs runs, in order, document by document.

A comment before a block says otherwise: `<!-- file: visits.py -->` saves it under that name for the blocks that follow, and
`<!-- not run: reason -->` leaves it out, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"(?:^<!-- (file|not run): (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its language, its text, the line it begins at, and what is said of it."""

    language: str
    text: str
    line: int
    mark: str
    said: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [Block(m[3], m[4], text.count("\n", 0, m.start(4)), m[1] or "", m[2] or "") for m in BLOCK.finditer(text)]


WITH_BLOCKS = [d for d in DOCUMENTS if blocks(d)]


def run(block: Block, place: Path, where: str) -> None:
    """Runs one block; its failure is told with what it said."""
    match block.language:
        case "python":
            command = [sys.executable, "-c", block.text]
        case "bash" | "sh":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
        case "json":
            json.loads(block.text)
            return
        case "toml":
            tomllib.loads(block.text)
            return
        case other:
            pytest.fail(f"{where}: a block of {other or 'no language'} cannot be run; mark it <!-- not run: reason -->")
    home = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")}
    home |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "XDG_STATE_HOME": str(place / ".state")}
    done = subprocess.run(command, cwd=place, env=home, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{where}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.timeout(900)  # the tutorial runs loops and a server
@pytest.mark.parametrize("document", WITH_BLOCKS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_block_runs(document: Path, tmp_path: Path) -> None:
    for block in blocks(document):
        where = f"{document.name}, line {block.line}"
        if block.mark == "file":
            (tmp_path / block.said).write_text(block.text)
        elif block.mark == "not run":
            assert len(block.said.split()) >= 3, f"{where}: say why it is not run"
        else:
            run(block, tmp_path, where)


def test_no_block_is_overlooked() -> None:
    for document in DOCUMENTS:
        fences = len(re.findall(r"^\s*```", document.read_text(), re.MULTILINE))
        assert fences == 2 * len(blocks(document)), f"{document.name} has a block that is indented or not closed"


def test_links_lead_somewhere() -> None:
    """Links between the documents, and to files of the tree."""
    broken = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            here = not target.startswith(("http://", "https://", "#"))
            if here and not (document.parent / target.split("#")[0]).exists():
                broken.append(f"{document.name}: {target}")
    assert broken == []
