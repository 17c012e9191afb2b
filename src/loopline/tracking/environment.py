"""What a run was executed in: interpreter, machine, installed packages, command line, and the state of the code.

No environment variables are taken (they hold secrets), but for `PYTHONHASHSEED`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from loopline.hashing import digest_json
from loopline.tracking.masking import masked
from loopline.tracking.paths import escaped
from loopline.tracking.working_copy import working_copy


def capture(folder: Path | None = None) -> dict[str, Any]:
    """The environment of this process, as `runs.create(environment=...)` takes it. `folder`: where to look for a working copy.

    `packages` is the digest of `requirements`, which are the installed packages in the form of pip. What it says of code is
    `working_copy.WorkingCopy.facts`.
    """
    return {**process(), **working_copy(folder or Path.cwd()).facts}


def process() -> dict[str, Any]:
    """The same without the state of the code."""
    installed = requirements()
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        **hardware(),
        "argv": [escaped(argument) for argument in masked(sys.argv)],
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "packages": digest_json(installed),
        "requirements": installed,
    }


def hardware() -> dict[str, Any]:
    """The machine: architecture, model of the processor, cores, bytes of memory, GPUs. What cannot be seen is left out.

    `cores` are those that this process may use, of `cpus` in all. GPUs are read from NVIDIA's driver without starting a program.
    """
    found: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count() or 1}
    if model := _field(Path("/proc/cpuinfo"), "model name") or platform.processor():
        found["cpu"] = model
    if hasattr(os, "sched_getaffinity"):
        found["cores"] = len(os.sched_getaffinity(0))
    with contextlib.suppress(AttributeError, OSError, ValueError):  # another system than POSIX
        found["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if gpus := [model for card in cards if (model := _field(card, "Model"))]:
        found["gpus"] = gpus
    return found


def requirements() -> list[str]:
    """The installed packages as `name==version`, sorted, each once: the one that an import finds.

    It reads the names of folders only, which takes a tenth of the time of reading the metadata.
    """
    found: dict[str, str] = {}
    for place in dict.fromkeys(sys.path):
        try:
            names = os.listdir(place or ".")
        except OSError:  # no folder, or a zip file
            continue
        for name in names:
            stem, dot, kind = name.rpartition(".")
            if dot and kind in ("dist-info", "egg-info"):
                project, _, version = stem.partition("-")
                if not version or kind == "egg-info":
                    project, version = _read(Path(place, name), project)
                found.setdefault(re.sub(r"[-_.]+", "-", project).lower(), version)
    return sorted(f"{project}=={version}" for project, version in found.items() if version)


def _read(place: Path, project: str) -> tuple[str, str]:
    """Name and version of an older form of package, from its metadata."""
    from importlib import metadata  # it brings a parser of mail, and few machines have such a package

    try:
        told = metadata.PathDistribution(place).metadata
        return told["Name"] or project, told["Version"] or ""
    except (OSError, KeyError):
        return project, ""


def _field(file: Path, name: str) -> str:
    """The first value of `name` in a file of `name: value` lines; empty where there is none."""
    try:
        with file.open(errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""
