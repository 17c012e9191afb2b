"""What a run was executed in: interpreter, platform, packages, the working copy's commit and what differs from it.

No environment variables are taken (they hold secrets) and no text of the patch, only its digest.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from loopline.hashing import digest_bytes, digest_json

_GIT_SECONDS = 10
_SECRET = re.compile(r"passw|secret|token|credential|api[-_]?key|auth", re.IGNORECASE)


def capture(folder: Path | None = None) -> dict[str, Any]:
    """The environment of this process, as `runs.create(environment=...)` takes it. `folder`: where to look for a working copy."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "argv": masked(sys.argv),
        "packages": digest_json(packages()),
        **working_copy(folder or Path.cwd()),
    }


def masked(argv: Sequence[str]) -> list[str]:
    """The arguments of a command without the values of options that sound like secrets."""
    kept: list[str] = []
    hide = False
    for argument in argv:
        option, sign, _ = argument.partition("=")
        secret = option.startswith("-") and _SECRET.search(option) is not None
        kept.append("***" if hide else f"{option}=***" if secret and sign else argument)
        hide = secret and not sign and not hide
    return kept


def packages() -> list[str]:
    """The installed packages as `name==version`, sorted, each once."""
    found = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.add(f"{name.lower().replace('_', '-')}=={distribution.version}")
    return sorted(found)


def working_copy(folder: Path) -> dict[str, Any]:
    """Commit, whether something differs from it, and the digest of the difference; empty where it is no working copy of Git.

    Of files that Git does not know, their names count and not their bytes (they may be data of any size).
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    patch = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD") or b""
    unknown = _git(folder, "ls-files", "--others", "--exclude-standard", "-z") or b""
    found: dict[str, Any] = {"commit": commit.decode().strip(), "dirty": bool(patch or unknown)}
    if found["dirty"]:
        found["patch"] = digest_bytes(patch + unknown)
    return found


def _git(folder: Path, *arguments: str) -> bytes | None:
    # No hooks, no pagers, no locks taken; a broken or missing git is the same as no working copy.
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
