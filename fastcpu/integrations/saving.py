"""Saving what a drop-in has opened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fastcpu.errors import FileFormatError, OutputError, ResourceError
from fastcpu.export.directory import is_free, replacing_directory
from fastcpu.export.reader import read_header


def save_model(model: Path, out: str | os.PathLike[str], adapt: Callable[[Path], None]) -> None:
    """Copy a compiled directory; a compiled model at ``out`` is replaced as a whole.

    Args:
        model: the directory.
        out: the directory to write.
        adapt: called with the copy before it takes its place.

    Raises:
        OutputError: ``out`` cannot be written, or holds something else.
    """
    with replacing_directory(Path(os.path.realpath(out)), _check_replaceable) as partial:
        shutil.copytree(model, partial, dirs_exist_ok=True)
        adapt(partial)


def _check_replaceable(out: Path) -> None:
    if is_free(out):
        return
    try:
        read_header(out)
    except (FileFormatError, ResourceError):
        raise OutputError(
            f"{out}: exists and is not a fastcpu model; save a tokenizer after the model, or choose another directory"
        ) from None
