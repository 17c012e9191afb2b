"""Environments of their own for other systems, which tests and benchmarks run beside Loopline.

    python scripts/peers.py mlflow==3.17.2 ...

makes .venv/peers/mlflow-3.17.2, where it is not there yet, and prints its Python. What is installed is said in a stamp.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parents[1] / ".venv" / "peers"

MLFLOW = ("mlflow==3.17.2", "mlflow==3.6.0")
"""The versions of MLflow that the protocol is held against: the newest, and the oldest that is promised."""


_BOUNDS = {"mlflow==3.6.0": ("sqlalchemy<2.1", "starlette<1")}
"""What must not be newer beside a version that does not say so itself."""


def environment(requirement: str, *more: str, alone: bool = False) -> Path:
    """The Python of an environment that holds what is required, made at the first call; named after it.

    `alone`: without what that requires itself, where it is said in full.
    """
    folder = PEERS / "-".join(re.sub(r"[^\w.]+", "-", one) for one in (requirement, *more))
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [
            python,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            *(["--no-deps"] if alone else []),
        ]
        subprocess.run([*pip, requirement, *more, *_BOUNDS.get(requirement, ())], check=True)
        stamp.write_text(f"{requirement}\n")
    return python


def debian(package: str) -> Path:
    """The folder of a Debian package's programs, unpacked at the first call; nothing is installed on the machine."""
    folder = PEERS / f"debian-{package}"
    stamp = folder / "installed"
    if not stamp.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True)
        archive.unlink()
        stamp.write_text(f"{package}\n")
    return folder / "usr" / "bin"


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(environment(given))
