"""Files that are never seen half-written, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastcpu.errors import FastcpuError, InputError, OutputError

_BLOCK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal digits. OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_regular(path: Path) -> None:
    """InputError if there is something at `path` that is not a file: opening a pipe waits for whoever writes to it,
    and a device has no end. What is not there is left to whoever opens it."""
    try:
        mode = _mode(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if mode is not None and not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no file")
        raise InputError(f"{path}: is {kind}; a file is needed")


@contextmanager
def replacing_file(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """A name in a temporary folder beside `path`; the file under it takes the place of `path` when the block ends well.

    Args:
        path: the file to write; what is there stays as it is until then. A symbolic link stays a link, and the file
            that it points to is replaced.
        parents: whether to make folders that are missing.

    Raises:
        OutputError: there is something else than a file at `path`, or the system refused something, in the block too.
    """
    with _refusals(path):
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            raise OutputError(f"{path}: exists and is not a file")
        target = Path(os.path.realpath(path))
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            temporary = Path(folder) / target.name
            yield temporary
            temporary.replace(target)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; folders that are missing are made. OutputError names what cannot be written."""
    with replacing_file(path, parents=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(data: dict[str, Any]) -> str:
    """JSON as fastcpu writes it; ValueError for a number that JSON lacks."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def is_refused(error: Exception) -> bool:
    """Whether an error says that a file cannot be written: safetensors has an exception of its own for a full disk."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON where a user asked for it: to a file, as `replacing_file` does, a device, a pipe or stdout (`-`).

    Raises:
        OutputError: names what cannot be written; a folder that is missing is not made.
        ValueError: a number that JSON lacks.
    """
    text = json_text(data)
    with _refusals(path):
        if path == Path("-"):
            sys.stdout.write(text)
            return
        own = _is_stdout(path)
        mode = _mode(path)
        if own or not (mode is None or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            if own:
                sys.stdout.flush()  # what was printed before comes first
            with open(sys.stdout.fileno() if own else path, "w", encoding="utf-8", closefd=not own) as stream:
                stream.write(text)
            return
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system refuses becomes an OutputError that names `path`."""
    try:
        yield
    except FastcpuError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


def _mode(path: Path) -> int | None:
    """Type and permissions of what `path` leads to, symbolic links followed; None where there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _is_stdout(path: Path) -> bool:
    """Whether `path`, say /dev/stdout, leads to where this process prints."""
    with suppress(OSError, ValueError, AttributeError):  # nothing there, or stdout is closed or has no descriptor
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False
