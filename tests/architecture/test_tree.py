"""The house style that a program can see: names, lengths, and nothing of one machine in the tree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "loopline"
FOLDERS = ("src", "tests", "scripts", "bench", "docs", "requirements", "examples", ".ci")
KINDS = {".py", ".md", ".toml", ".txt", ".mako", ".json", ".html", ".css", ".js", ".ts", ".svg", ""}

LONGEST = 420
"""Lines of a source file: about 400, so that it is read in one go."""

LONGER = {
    "migrations/versions/0001_tables.py": 2000,  # written by scripts/migration.py, read by nobody
}

EMPTY_WORDS = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc", "core"}


def sources() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def texts() -> Iterator[Path]:
    """Every text of the tree."""
    for file in sorted(ROOT.iterdir()):
        if file.is_file() and file.suffix in KINDS:
            yield file
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and file.suffix in KINDS and "__pycache__" not in file.parts:
                yield file


def test_files_are_short() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in sources()
        if (lines := len(file.read_text().splitlines())) > LONGER.get(str(file.relative_to(PACKAGE)), LONGEST)
    }
    assert long == {}


def test_files_are_named_by_the_fields_own_word() -> None:
    found = [f for f in sources() if {f.stem, *(p for p in f.relative_to(PACKAGE).parts[:-1])} & EMPTY_WORDS]
    assert found == []


def test_the_face_is_small() -> None:
    assert len((PACKAGE / "__init__.py").read_text().splitlines()) < 40


def test_type_checkers_see_the_face_that_is_there() -> None:
    import loopline

    typed = {
        (node.module, name.asname)
        for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert typed == {(place, name) for name, place in loopline._WHERE.items()}


def test_nothing_of_one_machine_is_in_the_tree() -> None:
    # Written apart, so that this file does not name them itself.
    places = ["/wo" + "rk/", "/ro" + "ot/.", "/ho" + "me/", "/o" + "pt/"]
    hosts = ["py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js.org", "deb.deb" + "ian.org"]
    public = r"(?!ml/model\b)"  # where SageMaker puts a container's model, wherever it runs
    pattern = re.compile(
        "|".join([rf"(?<![\w.}}{{~-]){re.escape(p)}{public}" for p in places] + [re.escape(h) for h in hosts])
    )
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in texts()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_what_is_declared_is_imported_and_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    spelled = {
        "scikit-learn": "sklearn",
        "prometheus-client": "prometheus_client",
        "protobuf": "google",
        "python-calamine": "python_calamine",
        "pyyaml": "yaml",
        "confluent-kafka": "confluent_kafka",
        "grpcio": "grpc",
        "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
        "opentelemetry-sdk": "opentelemetry",
        "paho-mqtt": "paho",
    }
    capped = {"python-dateutil"}  # not imported: its upper bound keeps other clients installable
    names = [re.split(r"[<>=;\[ ]", d)[0] for d in project["dependencies"]]
    declared = {spelled.get(n, n) for n in names} - capped
    extras = [re.split(r"[<>=;\[ ]", d)[0] for extra in project["optional-dependencies"].values() for d in extra]
    optional = {spelled.get(n, n) for n in extras}
    imported = set()
    for file in sources():
        if file.parent.name == "testing":  # suites for pytest, which whoever runs them has
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"loopline", "__future__"}
    assert declared - foreign == set(), "declared, but nothing imports it"
    assert foreign - declared - optional == set(), "imported, but not declared"
