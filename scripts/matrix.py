"""docs/matrix.toml: every promise with the tests that keep it, and the table of README that is written from it.

python scripts/matrix.py readme     write README's table anew
python scripts/matrix.py systems    print the tests against other systems
python scripts/matrix.py verify     run every row's tests, and note the commit in the rows whose tests pass
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "matrix.toml"
README = ROOT / "README.md"
BEGIN = "<!-- what works: written from docs/matrix.toml by `make readme` -->"
END = "<!-- end of what works -->"

AREAS = {
    "D": "Data",
    "M": "Models",
    "R": "Release",
    "O": "Operations",
    "G": "Governance",
    "": "Other systems",
}  # fmt: skip


class Promise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promise: a capability by its id, or another system by its name, and what keeps it."""

    id: str = ""
    system: str = ""
    says: str
    counterpart: str
    grade: Literal["real", "client", "contract"]
    tests: tuple[str, ...]
    verified: str

    @property
    def area(self) -> str:
        """The part of the table it stands in."""
        return AREAS["" if self.system else self.id[0]]


def promises() -> tuple[Promise, ...]:
    """All rows; raises where one has an unknown field, no test, or neither id nor system."""
    rows = msgspec.convert(tomllib.loads(FILE.read_text())["promise"], tuple[Promise, ...])
    for row in rows:
        if bool(row.id) == bool(row.system) or not row.tests:
            raise ValueError(f"A row names one id or one system, and its tests: {row}")
    return rows


def exists(test: str) -> bool:
    """Whether a test of this id is written: its file, and the function (or class and method) in it."""
    place, *names = test.split("[")[0].split("::")
    file = ROOT / place
    if not file.is_file():
        return False
    here: list[ast.stmt] = ast.parse(file.read_text()).body
    for name in names:
        named = [
            n for n in here if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and n.name == name
        ]
        if not named:
            return False
        here = named[-1].body
    return bool(names)


def apart(test: str) -> bool:
    """Whether `make systems` runs the test, and `make test` does not: it makes an environment of another system."""
    file = ROOT / test.split("::")[0]
    return file.is_file() and "pytestmark = pytest.mark.systems" in file.read_text().replace("[pytest", "pytest")


def table() -> str:
    """The table of what works, as Markdown."""
    rows = promises()
    lines = []
    for area in AREAS.values():
        here = [r for r in rows if r.area == area]
        if here:
            lines += ["", f"| {area} | proven against | grade |", "|---|---|---|"]
        for row in here:
            system = f"**{row.system}**: " if row.system else ""
            place = row.tests[0].split("::")[0]
            lines.append(f"| {system}{row.says} | [{row.counterpart}]({place}) | {row.grade} |")
    return "\n".join(lines[1:])


def with_table(text: str) -> str:
    """README with the table as it is now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


def verify(*, new: bool = False) -> int:
    """Runs the tests of each row (`new`: of those never verified); a row whose tests all pass gets the commit at hand.

    Gives the number of the others.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    failed = 0
    for row in promises():
        if new and row.verified:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", *row.tests], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode or " skipped" in done.stdout.strip().splitlines()[-1]:
            failed += 1
            print(f"NOT KEPT  {row.says}\n{done.stdout[-600:]}")
            continue
        print(f"kept      {row.says}", flush=True)
        text = FILE.read_text()
        at = text.index(f"says = {_quoted(row.says)}")
        after = text[at:].replace(f'verified = "{row.verified}"', f'verified = "{commit}"', 1)
        FILE.write_text(text[:at] + after)
    return failed


def _quoted(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(what: str) -> int:
    """One of the four."""
    if what == "readme":
        README.write_text(with_table(README.read_text()))
    elif what == "systems":
        print(" ".join(dict.fromkeys(t for r in promises() if r.system for t in r.tests)))
    elif what in ("verify", "new"):
        return verify(new=what == "new")
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["help"]))
