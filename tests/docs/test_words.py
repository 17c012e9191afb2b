"""One word for each concept: the glossary's words, and none of those that it does not use."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"

ALLOWED: dict[tuple[str, str], str] = {
    ("src/loopline/api/mlflow/values.py", "flavor"): "a field of MLflow's models",
    ("src/loopline/ledger/openlineage.py", "job"): "a field of OpenLineage's events",
}
"""Where a word is somebody else's own: the file, the word, and why."""


def rows() -> list[tuple[str, str, str]]:
    """The glossary's table: word, meaning, what is not said."""
    found = []
    for line in GLOSSARY.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= {"-"} and cells[0] != "word":
            found.append((cells[0], cells[1], cells[2]))
    return found


def synonyms() -> list[str]:
    return [word.strip() for _, _, unused in rows() for word in unused.split(",") if word.strip()]


def texts() -> list[Path]:
    docs = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return [f for f in [*docs, *(ROOT / "src").rglob("*.py")] if f != GLOSSARY]


def test_the_glossary_is_read() -> None:
    assert len(rows()) >= 15
    assert {"job", "deployment target"} <= set(synonyms())


def test_no_synonym_is_used() -> None:
    patterns = {word: re.compile(rf"\b{re.escape(word)}s?\b", re.IGNORECASE) for word in synonyms()}
    found = [
        f"{file.relative_to(ROOT)}:{number}: {word}: {line.strip()[:90]}"
        for file in texts()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for word, pattern in patterns.items()
        if pattern.search(line) and (str(file.relative_to(ROOT)), word) not in ALLOWED
    ]
    assert found == []


def test_what_is_allowed_is_still_needed() -> None:
    for file, word in ALLOWED:
        assert re.search(rf"\b{word}s?\b", (ROOT / file).read_text(), re.IGNORECASE), f"{word} is no longer in {file}"
