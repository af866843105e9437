"""Where data sets are found and how broken ones are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastcpu.errors import InputError

DATA_VARIABLE = "FASTCPU_DATA"


def data_folder(path: Path | None, name: str) -> Path:
    """`path`, or the folder `name` of the data collection that FASTCPU_DATA names."""
    if path is None:
        root = os.environ.get(DATA_VARIABLE)
        if not root:
            raise InputError(f"no data set: give --data, or set {DATA_VARIABLE} to a folder that holds {name}/")
        path = Path(root) / name
    if not path.exists():
        raise InputError(f"data set {str(path)!r} does not exist")
    return path


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not empty, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
