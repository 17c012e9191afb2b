"""Explanations on request: asked of a child process of the model's bundle, so that the event loop answers others meanwhile.

A request asks for them in its query (`explain=true`), or, in the Open Inference Protocol, by its parameter `explain`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl

import msgspec

from loopline.errors import Unavailable
from loopline.packaging.child import environment
from loopline.packaging.manifest import NATIVE, file_of
from loopline.packaging.records import Manifest
from loopline.serving.call import Call, Codec, Headers
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import tensors
from loopline.serving.problems import Problem, bad_input, busy, model_failed, too_large

logger = logging.getLogger("loopline.serving")
ROWS = 100
"""Rows of a request that is explained."""
WAITING = 8
"""Requests that may wait for the explanations of one model."""
CHILDREN = 4
"""Models whose child processes stay up."""
TIMEOUT = 30.0
"""Seconds for one request; the first one of a model waits for its child to start, too."""
_LINE = 64 << 20


class Explaining(Codec, Protocol):
    """A codec whose answers can be explained."""

    def explain(self, call: Call, found: list[Any] | None, problem: Problem | None) -> tuple[bytes, Headers]:
        """The body and headers of an answer with its explanations, one a row, or with why there are none.

        Raises `Problem` where the protocol's answer is explanations alone.
        """
        ...


class _Child:
    """The child process of one bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting = 0
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, rows: list[Any]) -> list[dict[str, Any]]:
        """Raises OSError, TimeoutError, EOFError or RuntimeError where there is no explanation."""
        async with self._turn, asyncio.timeout(TIMEOUT):
            try:
                return await self._ask(rows)
            except BaseException:
                self.close()  # what it would still say must not be taken for the next answer
                raise

    async def _ask(self, rows: list[Any]) -> list[dict[str, Any]]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "loopline.packaging.explaining", str(self.folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE,
                env=environment(),
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(rows) + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("its process ended")
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        found: list[dict[str, Any]] = answer["explanations"]
        return found

    def close(self) -> None:
        """Ends the child."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None


class Explainers:
    """The child processes of a worker, at most `CHILDREN`; the one that was longest not asked goes first."""

    def __init__(self) -> None:
        self._children: OrderedDict[Path, _Child] = OrderedDict()
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Call,
        body: bytes,
        headers: Headers,
        answer: Callable[[Call, int, bytes, Headers], None],
    ) -> None:
        """Has an answer, which is on record by now, explained, and then given to `answer`."""

        async def work() -> None:
            try:
                status, made, added = await explained(self, call, body, headers)
            except Exception as e:
                logger.exception("An answer could not be explained")
                problem = model_failed("The server", type(e).__name__)
                status, (made, added) = problem.status, call.refusal(problem)
            traced = () if call.trace is None else (call.trace.header(),)
            answer(call, status, made, (*(pair for pair in added if pair not in traced), *traced))

        task = loop.create_task(work())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def explain(self, folder: Path, model: str, rows: list[Any]) -> list[dict[str, Any]]:
        """One explanation a row. Raises the 503 `Problem` where too many wait, or the child does not answer."""
        child = self._children.get(folder)
        if child is None:
            child = self._children[folder] = _Child(folder)
            idle = [f for f, other in self._children.items() if not other.waiting and other is not child]
            for unused in idle[: max(0, len(self._children) - CHILDREN)]:
                self._children.pop(unused).close()
        self._children.move_to_end(folder)
        if child.waiting >= WAITING:
            raise busy(f"Too many requests wait for explanations of {model}.")
        child.waiting += 1
        try:
            return await child.ask(rows)
        except (OSError, TimeoutError, EOFError, ValueError, RuntimeError) as e:
            raise Problem(
                503,
                Unavailable(
                    f"The answer of {model} could not be explained: {e or type(e).__name__}.",
                    code="explanation-failed",
                    hint="The prediction itself stands; try again in a moment.",
                ),
            ) from e
        finally:
            child.waiting -= 1


async def explanations(explainers: Explainers, call: Call) -> list[Any]:
    """What an answered call's rows are explained by, one each. Raises `Problem`."""
    assert call.rows is not None
    found: list[Any] = [None] * len(call.rows.rows)
    if len(found) > ROWS:
        raise too_large(
            f"The request has {len(found)} rows, and at most {ROWS} are explained at once.",
            "too-many-rows",
            "Send them in several requests, or without asking for that.",
            limit=ROWS,
        )
    for share in call.shares:
        variant = share.variant
        each = await explainers.explain(variant.served.folder, variant.model, share.rows)
        for at, one in zip(share.at or range(len(found)), each, strict=True):
            found[at] = one
    return found


async def explained(explainers: Explainers, call: Call, body: bytes, headers: Headers) -> tuple[int, bytes, Headers]:
    """The status, body and headers of an answered call that wants to be explained.

    Where there are no explanations the prediction stands, and the reason beside it; in a protocol whose answer is explanations
    alone it is refused.
    """
    found: list[Any] | None = None
    problem: Problem | None = None
    try:
        found = await explanations(explainers, call)
    except Problem as e:
        problem = e
    if call.codec is not None:
        try:
            return 200, *cast(Explaining, call.codec).explain(call, found, problem)
        except Problem as e:
            return e.status, *call.refusal(e)
    if not call.plain:
        return 200, *tensors(call, found, problem)
    added: dict[str, Any] = {"explanations": found}
    if problem is not None:
        added["explanation_error"] = problem.error.to_dict()["error"]
    return 200, body[:-1] + b"," + msgspec.json.encode(added)[1:], headers


def asked(query: bytes) -> bool:
    """Whether a request's query asks for explanations. Raises the 400 `Problem` of a word that says neither."""
    said = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("explain", "false")
    if said not in ("true", "false"):
        bad_input(f"explain={said[:40]} is not understood.", "bad-query", "Give explain=true, or leave it out.")
    return said == "true"


def check_explainable(endpoint: LiveEndpoint) -> None:
    """Raises the 400 `Problem` of an endpoint whose answers cannot be explained."""
    for variant in endpoint.variants:
        if not can_explain(variant.served.manifest):
            bad_input(
                f"The answers of {variant.model} cannot be explained: its bundle has neither trees nor a linear model in "
                "their own form.",
                "no-explainer",
                "Ask for predictions alone.",
            )


def can_explain(manifest: Manifest) -> bool:
    """Whether the bundle holds what explains: trees or a linear model in their own form, and their library is here."""
    if file_of("xgboost") in manifest.digests:
        return find_spec("xgboost") is not None
    return not manifest.digests.keys().isdisjoint((f"{NATIVE}/model.json", file_of("lightgbm")))
