"""The demo's stage times and peak memory (goals: 60 s and 1.5 GB in all, on 2 cores, after set-up).

Memory is the sum over the demo and all of its processes of what each holds alone plus its share of what it shares (PSS), looked
at ten times a second. Uses LOOPLINE_DATA where it is set, else synthetic patients.

    python bench/demo.py [--json FILE]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def descendants(root: int) -> list[int]:
    """The process and all below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def memory(root: int) -> float:
    """Megabytes held by the process and all below it."""
    total = 0
    for pid in descendants(root):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loopline", "demo", "--json", "--exit", "--workspace", f"{folder}/demo"]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
        peak = [0.0]

        def watch() -> None:
            while process.poll() is None:
                peak[0] = max(peak[0], memory(process.pid))
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        stages: list[dict[str, object]] = []
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            at = time.perf_counter() - began
            if event["event"] == "stage_ended":
                stages.append({"stage": event["stage"], "seconds": event["seconds"], "at": at})
            elif event["event"] in ("serve", "alert", "rollout", "replay", "quality", "done"):
                stages.append({"stage": event["event"], "seconds": None, "at": at})
        code = process.wait()
        watcher.join()
    total = time.perf_counter() - began
    for stage in stages:
        taken = "" if stage["seconds"] is None else f"{stage['seconds']:8.2f} s"
        print(f"{stage['at']:8.1f} s  {stage['stage']:10} {taken}")
    print(f"in all {total:.1f} s (goal 60): {'met' if total <= 60 else 'MISSED'}")
    print(f"peak memory {peak[0]:,.0f} MB (goal 1,536): {'met' if peak[0] <= 1536 else 'MISSED'}")
    if "--json" in sys.argv:
        result = {"seconds": total, "peak_mb": peak[0], "stages": stages}
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(result, indent=1))
    sys.exit(code)


if __name__ == "__main__":
    main()
