"""Arguments that name files and folders."""

from __future__ import annotations

import argparse
from pathlib import Path


def path_argument(text: str) -> Path:
    """The `type` of such an argument. `Path("")` is the current folder, which nobody means by an empty word."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)
