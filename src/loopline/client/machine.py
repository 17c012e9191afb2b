"""How much of the machine is in use: processor, memory, disk, network, and NVIDIA's GPUs where there are some."""

from __future__ import annotations

import shutil
import subprocess

import psutil

from loopline.tracking.records import SYSTEM

_GPU_SECONDS = 5


class Machine:
    """Samples the machine's use. What is counted (disk, network) is counted from the making of this object."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cards = shutil.which("nvidia-smi")
        psutil.cpu_percent()  # the first call has nothing to compare with, and gives 0
        self._process.cpu_percent()
        self._start = _counted()

    def sample(self) -> dict[str, float]:
        """The metrics of this moment, under the keys of a run. What the system does not tell is left out.

        `cpu_percent` is of all cores together, 0 to 100; `process_cpu_percent` of one core, so more than 100 for several
        threads; both since the last sample. Memory, disk and network are in bytes.
        """
        memory = psutil.virtual_memory()
        found = {
            f"{SYSTEM}cpu_percent": psutil.cpu_percent(),
            f"{SYSTEM}process_cpu_percent": self._process.cpu_percent(),
            f"{SYSTEM}memory_percent": memory.percent,
            f"{SYSTEM}memory_used": float(memory.used),
            f"{SYSTEM}process_memory": float(self._process.memory_info().rss),
        }
        found |= {key: value - self._start[key] for key, value in _counted().items() if key in self._start}
        return found | self._gpus()

    def _gpus(self) -> dict[str, float]:
        if self._cards is None:
            return {}
        asked = "--query-gpu=index,utilization.gpu,memory.used"
        try:
            told = subprocess.run(
                [self._cards, asked, "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_GPU_SECONDS,
                check=True,
                stdin=subprocess.DEVNULL,
            ).stdout
            rows = [[float(cell) for cell in line.split(",")] for line in told.splitlines()]
            return {
                key: value
                for index, percent, mebibytes in rows
                for key, value in (
                    (f"{SYSTEM}gpu_{index:.0f}_percent", percent),
                    (f"{SYSTEM}gpu_{index:.0f}_memory", mebibytes * 2**20),
                )
            }
        except (OSError, subprocess.SubprocessError, ValueError):  # a driver that is broken or says "[N/A]"
            self._cards = None
            return {}


def _counted() -> dict[str, float]:
    found: dict[str, float] = {}
    if (disk := psutil.disk_io_counters()) is not None:  # containers may hide it
        found |= {f"{SYSTEM}disk_read": disk.read_bytes, f"{SYSTEM}disk_written": disk.write_bytes}
    if (network := psutil.net_io_counters()) is not None:
        found |= {f"{SYSTEM}network_received": network.bytes_recv, f"{SYSTEM}network_sent": network.bytes_sent}
    return found
