"""What a browser is shown where a call was refused or failed: what happened, and the way out."""

from __future__ import annotations

from loopline.api.pages.html import element, joined
from loopline.api.pages.style import document, status
from loopline.errors import LooplineError

_WAY_IN = (
    "On the server's own machine, the user who runs it needs no token.",
    "From anywhere else a token is asked for. The browser's own dialogue takes it as the password, with any user name.",
    "A token is made on the server's machine:",
)


def page(error: LooplineError, code: int) -> str:
    """The page as HTML."""
    unknown = code == 401
    if unknown:
        body = joined(*(element("p", text) for text in _WAY_IN), element("pre", "loopline access create-token"))
    else:
        body = element("p", error.hint, class_="soft") if error.hint else joined()
    head = element("h1", "This server does not know who asks" if unknown else error.message)
    word = status("person" if unknown else "bad", f"{code} {error.code}")
    nav = joined(element("a", "Loopline", href="/", class_="brand"))
    return document(f"Loopline: {error.code}", nav, element("section", word, head, body, class_="card"), joined())
