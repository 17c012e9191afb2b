"""The conformance suite of the port of executors (needs pytest).

class TestMine(ExecutorLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        return MyExecutor(...)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.errors import Refused, Unavailable
from loopline.ports.executor import Executor, Workers
from loopline.testing.executor_task import TASK


class ExecutorLaws:
    """Every `Executor` passes these; a subclass gives the fixture `executor`."""

    @pytest.fixture
    def workers(self, executor: Executor, tmp_path: Path) -> Iterator[Workers]:
        """Workers whose given is "given" and whose folder says "content"."""
        files = tmp_path / "files"
        files.mkdir()
        (files / "content").write_bytes(b"content")
        workers = executor.start(TASK, b"given", files)
        yield workers
        workers.close()

    def test_each_piece_is_done_with_what_was_given(self, workers: Workers) -> None:
        handles = [workers.submit(b"say %d" % n) for n in range(50)]
        for n, handle in reversed(list(enumerate(handles))):
            assert handle.result() == b"given|content|%d" % n
        assert handles[0].result() == b"given|content|0", "it may be asked again"

    def test_pieces_may_be_large_and_empty(self, workers: Workers) -> None:
        large = bytes(range(256)) * 40_000
        handles = [workers.submit(b"say " + large), workers.submit(b"")]
        assert [handle.result() for handle in handles] == [b"given|content|" + large, b"given|content|"]

    def test_a_worker_opens_its_task_once(self, workers: Workers) -> None:
        found = [workers.submit(b"who").result().split() for _ in range(4 * workers.width)]
        assert len({pid for pid, _ in found}) <= workers.width
        assert max(int(done) for _, done in found) > 1

    def test_pieces_are_done_at_once(self, workers: Workers, tmp_path: Path) -> None:
        if workers.width > 1:
            there = str(tmp_path / "there").encode()
            handles = [workers.submit(b"until " + there), workers.submit(b"make " + there)]
            assert [handle.result() for handle in handles] == [b"given|content|" + there] * 2

    def test_what_a_lost_worker_did_is_done_again(self, workers: Workers, tmp_path: Path) -> None:
        killed = tmp_path / "killed"
        handles = [workers.submit(b"die " + str(killed).encode()), *(workers.submit(b"say %d" % n) for n in range(9))]
        assert handles[0].result() == b"given|content|" + str(killed).encode()
        assert killed.exists()
        assert [handle.result() for handle in handles[1:]] == [b"given|content|%d" % n for n in range(9)]

    def test_a_piece_that_ends_worker_after_worker_is_given_up(self, workers: Workers) -> None:
        with pytest.raises(Unavailable) as refused:
            workers.submit(b"die").result()
        assert refused.value.code == "worker-lost"
        assert workers.submit(b"say on").result() == b"given|content|on"

    def test_errors_come_back(self, workers: Workers) -> None:
        with pytest.raises(Refused, match=r"It is refused\.") as refused:
            workers.submit(b"refuse this").result()
        assert (refused.value.code, refused.value.details) == ("test-refused", {"piece": "this"})
        with pytest.raises(RuntimeError, match=r"KeyError.*that"):
            workers.submit(b"fail that").result()
        assert workers.submit(b"say on").result() == b"given|content|on"

    def test_only_tasks_of_our_own_are_done(self, executor: Executor, tmp_path: Path) -> None:
        for task in ("os:system", "looplines.x:y"):
            workers = executor.start(task, b"true", tmp_path)
            with pytest.raises(RuntimeError, match="no task of Loopline's"):
                workers.submit(b"").result()
            workers.close()

    def test_a_task_that_cannot_be_opened_says_why(self, executor: Executor, tmp_path: Path) -> None:
        workers = executor.start(TASK, b"given", tmp_path)  # without a content
        with pytest.raises(RuntimeError, match=r"FileNotFoundError"):
            workers.submit(b"say").result()
        workers.close()
