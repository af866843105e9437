"""Replacing a directory as a whole: at every moment its name stands for all of the old one or all of the new one."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastcpu.errors import FastcpuError, OutputError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def is_free(path: Path) -> bool:
    """Whether there is nothing at ``path``, or an empty directory."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def replacing_directory(out: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new directory beside ``out`` that takes its place when the block ends well, or disappears when it does not.

    What was at ``out`` is deleted once the new directory is there. Where the file system cannot exchange two names,
    there is a moment without either; whoever is killed in it finds the old directory beside ``out``, named ``.old``.

    Args:
        out: the directory; none of its own path may be a symbolic link.
        check: raises an error if ``out`` must not be replaced; called first, and again when the new one is complete.

    Raises:
        OutputError: the system refused something, in the block too.
    """
    partial: Path | None = None
    try:
        check(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(out, "partial")
        partial.mkdir()
        yield partial
        for path in (*partial.rglob("*"), partial):
            _flush(path)
        check(out)
        old = _swap(partial, out)
        _flush(out.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except FastcpuError:
        raise
    except OSError as error:
        raise OutputError(f"{error.filename or out}: {_reason(error)}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _beside(out: Path, kind: str) -> Path:
    """A name that nothing has. Directories are made under it as any others, so that they get the usual permissions."""
    return out.parent / f".{out.name}.{secrets.token_hex(8)}.{kind}"


def _reason(error: BaseException) -> str:
    return f"cannot write the model: {(isinstance(error, OSError) and error.strerror) or error}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(new: Path, out: Path) -> Path | None:
    """Give ``new`` the name ``out``; the name that the directory which was there has now, if there was one."""
    if not out.exists():
        new.rename(out)
        return None
    return new if _exchange(new, out) else _swap_in_two_steps(new, out)


def _exchange(a: Path, b: Path) -> bool:
    """Let two directories exchange their names at once; False where the system or the file system cannot do that."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EPERM):  # the last: a sandbox that does not know the call
        return False
    raise OSError(number, os.strerror(number), os.fspath(b))


def _swap_in_two_steps(new: Path, out: Path) -> Path:
    """As `_swap`. When the second step fails the first is undone; the old directory is never deleted here."""
    old = _beside(out, "old")
    try:
        out.rename(old)
        new.rename(out)
    except BaseException as error:
        if old.exists() and not out.exists():
            try:
                old.rename(out)
            except OSError:
                raise OutputError(f"{out}: {_reason(error)}; the model that was there is now {old}") from error
        raise
    return old
