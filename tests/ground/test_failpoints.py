"""Failpoints: what they do, that every place which commits, renames or syncs has one, and a kill at each."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loopline import failpoints

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src" / "loopline"

ALLOWED = {
    "database.py:_rollback": "takes back, and keeps nothing",
    "adapters/kafka/stream.py:_commit": "the broker commits; the scoring of streams has one before and one behind it",
    "client/refused.py:put_file_aside": "a second name for a file that is whole; the folder's sync has one",
}
"""Functions with such a call and no failpoint, with the reason."""


# What a failpoint does


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_a_failpoint_that_is_not_armed_does_nothing() -> None:
    failpoints.failpoint("ground.test.a")
    failpoints.arm("ground.test.b=ENOSPC")
    failpoints.failpoint("ground.test.a")


def test_an_error_at_the_passage_that_was_asked_for() -> None:
    failpoints.arm("ground.test.a=EIO@2; ground.test.b=ENOSPC")
    failpoints.failpoint("ground.test.a")
    with pytest.raises(OSError, match=r"ground\.test\.a"):
        failpoints.failpoint("ground.test.a")
    failpoints.failpoint("ground.test.a")
    with pytest.raises(OSError, match="No space"):
        failpoints.failpoint("ground.test.b")


def test_a_trace_names_every_passage(tmp_path: Path) -> None:
    failpoints.arm(f"*=trace:{tmp_path / 'trace'}")
    for name in ("a.b.c", "d.e.f", "a.b.c"):
        failpoints.failpoint(name)
    assert (tmp_path / "trace").read_text().split() == ["a.b.c", "d.e.f", "a.b.c"]


def test_the_environment_arms_and_kill_kills() -> None:
    program = "from loopline.failpoints import failpoint; failpoint('x.y.z'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"LOOPLINE_FAILPOINTS": "x.y.z=kill"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (-9, "")


# The lint


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, those of functions in it apart."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from own(child)


def keeps(call: ast.Call) -> bool:
    """Whether it commits, renames or syncs."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, call.func.value
    in_os = isinstance(owner, ast.Name) and owner.id == "os"
    if name in ("rename", "renames", "replace", "fsync", "fdatasync", "link") and in_os:
        return True
    if name == "commit":
        return True
    # Path.replace and Path.rename take one argument; str.replace takes two, a polars rename a mapping.
    one = len(call.args) == 1 and not call.keywords
    return one and name in ("replace", "rename") and not isinstance(call.args[0], ast.Dict | ast.DictComp)


def names(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.walk(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "failpoint":
            yield child


def unguarded(text: str) -> list[str]:
    """Functions of a source that commit, rename or sync, and pass no failpoint."""
    found = []
    for function in functions(ast.parse(text)):
        nodes = list(own(function))
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        if any(keeps(call) for call in calls) and not any(
            isinstance(call.func, ast.Name) and call.func.id == "failpoint" for call in calls
        ):
            found.append(function.name)
    return found


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text()


def test_the_lint_sees_what_it_should() -> None:
    assert unguarded("def f():\n os.replace(a, b)") == ["f"]
    assert unguarded("def f():\n c.commit()") == ["f"]
    assert unguarded("def f():\n a.replace(b)") == ["f"]
    assert unguarded("def f():\n os.fsync(1)\n def g():\n  failpoint('x')") == ["f"]
    assert unguarded("def f():\n failpoint('x')\n os.fsync(1)") == []
    assert unguarded("def f():\n 'a'.replace('b', 'c')\n frame.rename({'a': 'b'})") == []


def test_every_commit_rename_and_sync_has_a_failpoint() -> None:
    found = {f"{name}:{function}" for name, text in sources() for function in unguarded(text)}
    assert sorted(found - set(ALLOWED)) == []


def declared() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in sources():
        if name == "failpoints.py":
            continue
        for call in names(ast.parse(text)):
            (argument,) = call.args
            assert isinstance(argument, ast.Constant), f"{name}:{call.lineno}: the name is not literal"
            assert argument.value not in found, f"{argument.value} is in {name} and in {found[argument.value]}"
            assert argument.value.count(".") == 2, f"{argument.value} is not room.verb.place"
            found[argument.value] = name
    return found


def test_names_are_literal_and_unique() -> None:
    assert "store.put.before_rename" in declared()


# The kill

_PATIENCE = 580
"""Seconds for a scenario: it is begun anew after each kill, on whatever machine."""


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scenarios() -> list[tuple[Path, str]]:
    files = sorted(TESTS.glob("*/crash_scenarios.py"))
    return [(file, name) for file in files for name in loaded(file).SCENARIOS]


@functools.cache
def killed(file: Path, name: str, folder: Path) -> dict[str, dict[str, int] | list[str]]:
    command = [sys.executable, str(Path(__file__).with_name("crash_runner.py")), str(file), name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def crash_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.mark.timeout(_PATIENCE + 20)
@pytest.mark.parametrize(("file", "name"), scenarios(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_kill_at_each_failpoint_leaves_everything_whole(file: Path, name: str, crash_folder: Path) -> None:
    found = killed(file, name, crash_folder / name)
    assert found["failures"] == []
    assert found["reached"]


@pytest.mark.timeout(_PATIENCE + 20)
def test_every_failpoint_is_killed_at(crash_folder: Path) -> None:
    done = {place for file, name in scenarios() for place in killed(file, name, crash_folder / name)["killed"]}
    assert sorted(set(declared()) - done) == []
