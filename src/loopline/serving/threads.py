"""A thread for each model that is too slow for the event loop, or whose runtime is a child process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loopline.serving.model import ServedModel

WAITING = 64
"""Batches that may wait for one model."""
T = TypeVar("T")


class ModelThreads:
    """One thread a model, with a bounded queue: a slow model keeps nobody waiting but its own callers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads: dict[ServedModel, ThreadPoolExecutor] = {}
        self._waiting: dict[ServedModel, int] = {}

    @property
    def waiting(self) -> int:
        """Batches that are not done yet."""
        return sum(self._waiting.values())

    def submit(self, model: ServedModel, work: Callable[[], T], done: Callable[[T], None]) -> bool:
        """Has `work` done in the model's thread and `done` called with the result in the loop; False where the queue is full."""
        waiting = self._waiting.get(model, 0)
        if waiting >= WAITING:
            return False
        self._waiting[model] = waiting + 1
        threads = self._threads.get(model)
        if threads is None:
            threads = self._threads[model] = ThreadPoolExecutor(1, thread_name_prefix="model")

        def finish(result: T) -> None:
            if model in self._waiting:
                self._waiting[model] -= 1
            done(result)

        threads.submit(lambda: self._loop.call_soon_threadsafe(finish, work()))
        return True

    def retire(self, model: ServedModel) -> None:
        """Frees a model once what is asked of it already is answered."""
        threads = self._threads.pop(model, None)
        self._waiting.pop(model, None)
        if threads is None:
            model.close()
        else:
            threads.submit(model.close)
            threads.shutdown(wait=False)
