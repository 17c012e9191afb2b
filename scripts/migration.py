"""Writes the newest revision of the tables from their declaration: `make migration`.

Until a revision is released it is written anew whenever the tables change; a released one is never touched again, and the
next revision is written with Alembic's own comparison against a database of the last.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations.ops import CreateIndexOp
from mako.template import Template

from loopline import app  # makes every room's tables known
from loopline.database import REVISION, metadata

PACKAGE = Path(app.__file__).parent
FOLDER = PACKAGE / "migrations" / "versions"
WORDS = "The tables of 0.1.0."


def rendered() -> str:
    """The text of the revision, as `ruff format` spells it."""
    for file in sorted(PACKAGE.glob("*/tables.py")):
        import_module(f"loopline.{file.parent.name}.tables")
    known = sa.MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(known)
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/empty.db")
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"target_metadata": known})
            operations = produce_migrations(context, known).upgrade_ops
        engine.dispose()
    assert operations is not None
    # What SQLite cannot tell of its own indexes, those of expressions, Alembic leaves out of the comparison.
    for table in known.sorted_tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if any(not isinstance(part, sa.Column) for part in index.expressions):
                operations.ops.append(CreateIndexOp.from_index(index))
    template = Template(filename=str(FOLDER.parent / "script.py.mako"))
    text = template.render(
        message=WORDS,
        up_revision=REVISION,
        down_revision=None,
        upgrades=_without_remarks(render_python_code(operations)),
        statistics=[table.info["statistics"] for table in known.sorted_tables if "statistics" in table.info],
    )
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--line-length", "120", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return formatted.stdout


def _without_remarks(code: str) -> str:
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("# ###")).lstrip()


def main() -> None:
    """Writes the file."""
    file = FOLDER / f"{REVISION}_tables.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(rendered())
    print(f"Wrote {file.name}: {len(metadata.tables)} tables.")


if __name__ == "__main__":
    main()
