"""`loopline --help` against a click hello-world on the same machine (goal 1.3x), and the import of the package and its client.

Interleaved, medians of fifteen; bytecode has to be compiled beforehand (`make setup` does).

    python bench/start.py [--json FILE]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 15
HELLO = '''
import click

@click.group()
def cli():
    """Says hello."""

@cli.command()
def hello():
    """Say it."""
    click.echo("hello")

cli()
'''


def seconds(*arguments: str) -> float:
    """Seconds that an interpreter takes for these arguments."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        cases = {
            "python -c pass": ("-c", "pass"),
            "click hello-world --help": (str(hello), "--help"),
            "loopline --help": ("-m", "loopline", "--help"),
            "import loopline": ("-c", "import loopline"),
            "import loopline.client": ("-c", "import loopline.client"),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(REPEATS):
            for name, arguments in cases.items():
                times[name].append(seconds(*arguments))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = medians["loopline --help"] / medians["click hello-world --help"]
    for name, value in medians.items():
        print(f"{name:28} {value * 1000:8.1f} ms")
    print(f"loopline --help is {ratio:.2f}x the hello-world (goal 1.3x): {'met' if ratio <= 1.3 else 'MISSED'}")
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({**medians, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
