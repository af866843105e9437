#!/usr/bin/env python3
"""Fail if a source file has more lines than a reader can keep in mind."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 600
FOLDERS = ("bench", "fastcpu", "kernels", "tests")
SUFFIXES = {".cc", ".cpp", ".def", ".h", ".inc", ".py", ".pyi"}


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    too_long = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > LIMIT:
                    too_long.append(f"{path.relative_to(root)}: {lines} lines, the limit is {LIMIT}")
    print("\n".join(too_long), end="\n" if too_long else "")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
