"""HTML out of Python: every text is escaped unless it is HTML already."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML already. Only `element` and `joined` make it, out of escaped parts."""


def element(tag: str, *children: object, **attributes: str | bool) -> Html:
    """One element; a trailing underscore of an attribute's name falls away, others become hyphens. None says nothing."""
    named = "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    if tag in ("meta", "link", "br", "img"):
        return Html(f"<{tag}{named}>")
    return Html(f"<{tag}{named}>{joined(*children)}</{tag}>")


def joined(*children: object, by: str = "") -> Html:
    """Parts one after the other, each escaped unless it is `Html`; None says nothing."""
    return Html(
        escape(by).join(
            child if isinstance(child, Html) else escape(str(child)) for child in children if child is not None
        )
    )


def _attribute(name: str, value: str | bool) -> str:
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{escape(value)}"' if value else ""
