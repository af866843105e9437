"""The folder beside the output where a compression keeps what it has done so far."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastcpu.compression.plan import Plan
from fastcpu.errors import FileFormatError, InputError, OutputError
from fastcpu.files import is_refused

_LOCK = "lock"
_PLAN = "plan.json"
_RESULTS = ("checkpoint.safetensors", "student", "trial-*", "pruned*")


def work_path(out: Path) -> Path:
    """Where the compression that writes ``out`` keeps its work; InputError if ``out`` is no name of a directory."""
    if out.name in ("", ".."):
        raise InputError(f"{out}: not the name of a directory to write")
    return out.with_name(out.name + ".work")


class WorkFolder:
    """``OUT.work``: the plan, and the results of finished stages, each of which appears as a whole or not at all.

    Until it is closed, no other process or thread works in the folder.

    Raises:
        InputError: the folder belongs to another plan; what differs is named. Or another process is at work in it.
        OutputError: it cannot be made, or what is there is not of a compression and is left alone.
    """

    def __init__(self, out: Path, plan: Plan) -> None:
        self.path = work_path(out)
        self._lock = self._locked()
        try:
            shutil.rmtree(self._old, ignore_errors=True)  # of a process that was killed while it removed the folder
            self._begin(plan)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Lets others work in the folder."""
        os.close(self._lock)

    @property
    def _old(self) -> Path:
        """The name under which the folder is removed, so that no part of it is ever taken for the whole."""
        return self.path.with_name(f".{self.path.name}.old")

    def _locked(self) -> int:
        """The descriptor of a file in the folder, which is made if need be, with a lock that ends with the process."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / _PLAN).exists():
                self._check_own()
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                raise InputError(f"{self.path}: another process is at work in this folder") from error
            raise OutputError(f"{self.path / _LOCK}: {error.strerror}") from error
        return descriptor

    def _check_own(self) -> None:
        """OutputError if the folder, which has no plan, holds more than a compression leaves that has just begun."""
        foreign = sorted({each.name for each in self.path.iterdir()} - {_LOCK, f"{_PLAN}.partial"})
        if foreign:
            raise OutputError(
                f"{self.path}: holds {foreign[0]} and no {_PLAN}: not a work folder of fastcpu; move it away"
            )

    @property
    def has_results(self) -> bool:
        """Whether there is something that has been trained or pruned, be it in part."""
        return any(next(self.path.glob(pattern), None) is not None for pattern in _RESULTS)

    def _begin(self, plan: Plan) -> None:
        stored = self._read(_PLAN)
        if stored is None:
            self.write(_PLAN, plan.to_json())
            return
        differences = [each for each in plan.differences(stored) if each not in plan.decides_at_the_end]
        if not differences:
            self.write(_PLAN, plan.to_json())
        else:
            raise InputError(
                f"{self.path} holds an unfinished compression with other {', '.join(differences[:4])}: "
                "repeat that command to go on, or remove the folder to begin again"
            )

    def _read(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{path}: {error}") from error

    def read(self, name: str) -> Any:
        """A JSON file that `write` wrote, or None."""
        return self._read(name)

    def write(self, name: str, content: Any) -> None:
        """Writes a JSON file as a whole."""
        with self.stage(name) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def done(self, name: str) -> bool:
        """True if the file or folder of a stage is there."""
        return (self.path / name).exists()

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A temporary path for a file or folder, which takes its name when the block ends without an error."""
        partial = self.path / f"{name}.partial"
        _remove(partial)
        try:
            yield partial
            for file in [partial] if partial.is_file() else [each for each in partial.rglob("*") if each.is_file()]:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            partial.replace(self.path / name)
        except Exception as error:
            if is_refused(error):
                raise OutputError(f"{self.path / name}: {getattr(error, 'strerror', None) or error}") from error
            raise
        finally:
            _remove(partial)

    def remove(self) -> None:
        """Deletes the folder: the compression is complete."""
        with suppress(OSError):  # the model is there, and nothing of it is in the folder
            self.path.rename(self._old)
            shutil.rmtree(self._old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
