"""Writes docs/errors.md from the code: every stable code, what is said with it, and what to do. `make errors`.

The errors are read from the source, not run: each call of one of the family's classes with a literal `code`, and each call of a
function that hands its own `code` argument on to one of them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "loopline"
PAGE = ROOT / "docs" / "errors.md"

BRANCHES = {
    "NotFound": ("The thing named is not there", "404", "2", "Look what there is, and name it otherwise."),
    "Invalid": ("The input cannot be taken", "400", "2", "Mend the input."),
    "Refused": ("A permission or a gate says no", "401, 403", "3", "Ask somebody who may, or meet the gate."),
    "Conflict": ("It clashes with what is there", "409", "2", "Look at what is there, and decide."),
    "Unavailable": ("A part does not answer for now", "503", "4", "Try again."),
    "MissingExtra": ("An optional part is not installed", "501", "5", "Install it by the command given."),
}

HEAD = """# Errors

Every error says what happened and names the thing, says the way out, and carries a stable code. Programs may rely on the branch
and the code; the sentences may get better. The one JSON shape, over HTTP and from `--json`:

```json
{"error": {"branch": "not_found", "code": "no-endpoint", "message": "...", "hint": "...", "details": {}}}
```

This page is written from the code by `make errors`. "…" stands for what the error names.
"""


class Said(NamedTuple):
    """One place that raises an error: its branch, code, sentence and way out (empty: the branch's own)."""

    branch: str
    code: str
    message: str
    hint: str


class Passing(NamedTuple):
    """A function that hands its own arguments on to an error: where its code, message and hint stand among them."""

    branch: str
    parameters: tuple[str, ...]
    code: str
    default: str
    message: ast.expr | None
    hint: ast.expr | None


def text(node: ast.expr | None, known: dict[str, ast.expr] | None = None) -> str:
    """The sentence that an expression gives, with "…" for what is filled in."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text(left, known) + text(right, known)
        case ast.IfExp(body=body):
            return text(body, known)
        case ast.Call(func=ast.Name(id="did_you_mean")):
            return "Take the nearest of the names that it tells."
        case ast.Name(id=name) if known and name in known:
            return text(known[name])
        case None:
            return ""
    return "…"


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in call.keywords if k.arg}


def _passing(tree: ast.AST) -> dict[str, Passing]:
    """The functions of a file that hand a code on."""
    found = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        given = function.args
        parameters = tuple(a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs))
        defaults = dict(zip(reversed([a.arg for a in given.args]), reversed(given.defaults), strict=False))
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and _name(call) in BRANCHES:
                code = _keywords(call).get("code")
                if isinstance(code, ast.Name) and code.id in parameters:
                    found[function.name] = Passing(
                        _name(call),
                        tuple(p for p in parameters if p not in ("self", "cls")),
                        code.id,
                        text(defaults.get(code.id)),
                        call.args[0] if call.args else None,
                        _keywords(call).get("hint"),
                    )
    return found


def _kinds(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The classes of a file that are one of the family's, and something else besides."""
    for one in ast.walk(tree):
        if isinstance(one, ast.ClassDef) and one.bases and getattr(one.bases[0], "id", "") in BRANCHES:
            yield one.name, one.bases[0].id


def said() -> list[Said]:
    """Every error with a code that the source raises."""
    trees = {file: ast.parse(file.read_text()) for file in sorted(SOURCE.rglob("*.py"))}
    passing = {name: p for tree in trees.values() for name, p in _passing(tree).items()}
    kinds = {name: branch for tree in trees.values() for name, branch in _kinds(tree)}
    found = []
    for tree in trees.values():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name, keywords = _name(call), _keywords(call)
            name = kinds.get(name, name)
            if name in BRANCHES and not isinstance(keywords.get("code"), ast.Name | ast.Attribute | ast.Call):
                code = text(keywords.get("code"))
                if code:
                    message = text(call.args[0] if call.args else keywords.get("message"))
                    found.append(Said(name, code, message, text(keywords.get("hint"))))
            elif name in passing:
                handed = passing[name]
                known = dict(zip(handed.parameters, call.args, strict=False)) | keywords
                code = text(known.get(handed.code)) or handed.default
                if code and code != "…":
                    found.append(Said(handed.branch, code, text(handed.message, known), text(handed.hint, known)))
    return found


def page() -> str:
    """The whole of docs/errors.md."""
    everything = said()
    parts = [HEAD]
    for branch, (title, status, exit_code, otherwise) in BRANCHES.items():
        codes = sorted({s.code for s in everything if s.branch == branch})
        parts.append(f"\n## {branch}: {title.lower()}\n\nHTTP {status}, exit code {exit_code}.\n")
        for code in codes:
            here = [s for s in everything if s.branch == branch and s.code == code]
            messages = _distinct([s.message for s in here])
            hints = _distinct([s.hint for s in here]) or [otherwise]
            parts.append(f"- **`{code}`**: {' / '.join(messages[:2]) or '…'} **Do:** {' '.join(hints[:2])}")
        if not codes:
            parts.append("None yet.")
    return "\n".join(parts) + "\n"


def _distinct(sentences: list[str]) -> list[str]:
    """The sentences that say something, each once."""
    plain = (" ".join(s.split()).replace("<", "&lt;") for s in sentences)
    return [s for s in dict.fromkeys(plain) if s.strip("… .:")]


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page())
    print(f"Wrote {PAGE.relative_to(ROOT)}: {len({s.code for s in said()})} codes.")


if __name__ == "__main__":
    sys.exit(main())
