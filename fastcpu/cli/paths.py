"""Arguments that name files and folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def path_argument(text: str) -> Path:
    """The `type` of such an argument. `Path("")` is the current folder, which nobody means by an empty word."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def check_outside(option: str, output: Path | None, models: Sequence[Path]) -> None:
    """InputError for an output that would damage a model: it is one, or lies within it."""
    from fastcpu import InputError

    if output is not None and any(output.resolve().is_relative_to(model.resolve()) for model in models):
        raise InputError(f"{option} {output}: that is a model of this command, or within it")
