"""The repository extension of the Open Inference Protocol, where models are served alone: load and unload.

Triton's extension_model_repository.md. A model is loaded beside those that answer, and comes into force on all workers at once; one
that is unloaded is answered with 404 until it is loaded again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from loopline.errors import LooplineError
from loopline.serving.problems import bad_input, of_error

Ask = Callable[[Literal["load", "unload"], str], Awaitable[None]]
_IGNORED = frozenset({"unload_dependents"})  # no model here depends on another


class _Request(msgspec.Struct):
    parameters: dict[str, Any] = {}


async def change(ask: Ask, action: str, model: str, body: bytes) -> None:
    """Loads or unloads a model. Raises `Problem`."""
    try:
        parameters = msgspec.json.decode(body, type=_Request).parameters if body.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        bad_input(f"The request is not one for the repository: {e}.", "not-inference", "Send {} or nothing.")
    if other := sorted(parameters.keys() - _IGNORED):
        bad_input(
            f"{other[0]!r} is not taken: a model is loaded as it was packaged.",
            "no-overrides",
            "Package it as it shall be served.",
        )
    try:
        await ask("load" if action == "load" else "unload", model)
    except LooplineError as e:
        raise of_error(e) from e
