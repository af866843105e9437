"""Arguments that name files and folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO


def path_argument(text: str) -> Path:
    """The `type` of such an argument. `Path("")` is the current folder, which nobody means by an empty word."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def for_people(json: Path | None) -> TextIO:
    """Where a command prints what people read: beside JSON that goes to standard output, to standard error."""
    return sys.stderr if json == Path("-") else sys.stdout


def check_json(json: Path | None) -> None:
    """OutputError for a --json that cannot be written, before anything is done that takes time."""
    from fastcpu import OutputError

    if json is None or json == Path("-"):
        return
    if json.is_dir():
        raise OutputError(f"--json {json}: is a folder")
    if not json.parent.is_dir():
        raise OutputError(f"--json {json}: there is no folder {json.parent}")


def check_outside(option: str, output: Path | None, models: Sequence[Path]) -> None:
    """InputError for an output that would damage a model: it is one, or lies within it."""
    from fastcpu import InputError

    if output is not None and any(output.resolve().is_relative_to(model.resolve()) for model in models):
        raise InputError(f"{option} {output}: that is a model of this command, or within it")
