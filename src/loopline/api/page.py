"""The page that lists the operations for people: one file, nothing fetched from elsewhere, no script."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby

from loopline.api.routing import PREFIX
from loopline.operations import Operation

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }
code { font: 14px ui-monospace, monospace; overflow-wrap: anywhere; } .quiet { opacity: .7; }
nav a { margin-right: .8rem; }
"""


def render(operations: Iterable[Operation]) -> str:
    """The page as HTML, operations by group."""
    ordered = sorted(operations, key=lambda op: (op.group, op.path, op.method))
    groups = [(group, list(ops)) for group, ops in groupby(ordered, key=lambda op: op.group)]
    links = " ".join(f'<a href="#{escape(group)}">{escape(group)}</a>' for group, _ in groups)
    body = "\n".join(_group(group, ops) for group, ops in groups)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Loopline API</title><style>{_STYLE}</style>"
        '<h1>Loopline API</h1><p>For programs: <a href="/api/openapi.json">OpenAPI 3.1</a>. Send a token as '
        "<code>Authorization: Bearer ll_...</code>; on the server's own machine its user needs none.</p>"
        f"<nav>{links}</nav><main>{body}</main></html>"
    )


def _group(group: str, operations: list[Operation]) -> str:
    rows = "\n".join(_row(op) for op in operations)
    return (
        f'<h2 id="{escape(group)}">{escape(group)}</h2><table><thead><tr><th>call<th>what it gives<th>permission</thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(op: Operation) -> str:
    names = ", ".join(name for name in op.parameters if name not in op.placed)
    rest = f'<br><span class="quiet">{escape(names)}</span>' if names else ""
    return (
        f"<tr><td><code>{op.method} {escape(PREFIX + op.path)}</code>{rest}"
        f'<td>{escape(op.summary)}<br><code class="quiet">{escape(op.name)}</code><td>{op.action}'
    )
