"""Makes the repository root importable: the benchmarks are a package beside the library, not a part of it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Worker processes find the fake engines of this folder as modules of its own name on their path.
for folder in (ROOT, Path(__file__).resolve().parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
