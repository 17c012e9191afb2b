"""Work in processes of this machine."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import pytest

from loopline.adapters.processes.executor import Processes
from loopline.ports.executor import Executor
from loopline.testing.executor import ExecutorLaws
from loopline.testing.executor_task import TASK


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "loopline.adapters.processes.worker" in p.cmdline()]


class TestProcesses(ExecutorLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Executor:
        return Processes(2)


def test_nothing_is_left_when_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"")
    workers = Processes(2).start(TASK, b"", tmp_path)
    assert children() == [], "they start with their first pieces"
    busy, idle = workers.submit(b"until " + str(tmp_path / "never").encode()), workers.submit(b"who")
    idle.result()
    assert len(children()) == 2
    closing = threading.Thread(target=workers.close)
    closing.start()
    with pytest.raises(Exception, match=r"processes ended"):
        busy.result()
    closing.join()
    assert children() == []
