"""Virtual environments of engines whose packages cannot be beside the benchmark's own.

    python -m bench.environments deepsparse

makes build/bench/environments/deepsparse from requirements/engines/deepsparse.txt. The benchmark starts the engine's
worker with that Python; of its own code, what a worker imports needs NumPy alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / "build" / "bench" / "environments"
REQUIREMENTS = ROOT / "requirements" / "engines"
NEWEST = (3, 11)
"""The newest Python for which these engines have wheels."""


def names() -> tuple[str, ...]:
    """The environments that can be made."""
    return tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))


def python_path(name: str) -> Path:
    """Where the Python of environment `name` is, or would be."""
    return ENVIRONMENTS / name / "bin" / "python"


def python_of(name: str) -> Path:
    """The Python of environment `name`; FileNotFoundError that says how to make it."""
    python = python_path(name)
    if not python.exists():
        raise FileNotFoundError(f"no environment {name}; make it with python -m bench.environments {name}")
    return python


def _interpreter() -> str:
    """This Python if it is old enough, else another one on the PATH; FileNotFoundError if there is none."""
    if sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], 9, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise FileNotFoundError(f"these engines need Python {NEWEST[0]}.{NEWEST[1]} or older on the PATH")


def make(name: str) -> Path:
    """Makes environment `name` anew and returns its Python. Whatever fails leaves none behind."""
    directory = ENVIRONMENTS / name
    shutil.rmtree(directory, ignore_errors=True)
    try:
        subprocess.run([_interpreter(), "-m", "venv", str(directory)], check=True)
        python = python_path(name)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS / f"{name}.txt")]
        subprocess.run(install, check=True)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return python


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.environments", description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="+", choices=names())
    try:
        for name in parser.parse_args(argv).name:
            print(make(name))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"bench.environments: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
