"""Files that are never seen half-written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastcpu.errors import FastcpuError, OutputError


@contextmanager
def replacing_file(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """A name in a temporary folder beside `path`; the file under it takes the place of `path` when the block ends well.

    Args:
        path: the file to write; what is there stays as it is until then.
        parents: whether to make folders that are missing.

    Raises:
        OutputError: the system refused something, in the block too.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            temporary.replace(path)
    except FastcpuError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; folders that are missing are made. OutputError names what cannot be written."""
    with replacing_file(path, parents=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON as `write_text` does; ValueError for a number that JSON lacks."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
