"""The log of evaluations on test data: whoever reads a result there can see how often the data was looked at."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.data.splits import names_of
from fastcpu.errors import InputError, OutputError
from fastcpu.files import sha256

if TYPE_CHECKING:
    from fastcpu.eval.engine import Evaluation

SUFFIX = ".evaluations.jsonl"

_REPORT = "report.json"  # says how a model was made, and is no part of it
_MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*/*.json", "*/*.safetensors", "*/*.bin")


def is_test(files: Sequence[Path]) -> bool:
    """Whether data is for the final evaluation: a file, or the folder of a part, is named test."""
    return any("test" in names_of(file) for file in files)


def log_file(model: Path) -> Path:
    """The log of a model: beside it, so that a new model in its place keeps the log of the old one.

    In the current folder for a model that lies where nothing can be written, as installed packages do.
    """
    target = model.resolve()
    log = target.with_name(target.name + SUFFIX)
    return log if _is_writable(log) else Path.cwd() / log.name


def _is_writable(path: Path) -> bool:
    return not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)


def checksum(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over the names (below `root`) and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        try:
            content = sha256(file)
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        digest.update(f"{os.path.relpath(file, root)}\0{content}\n".encode())
    return digest.hexdigest()


def model_checksum(path: Path) -> str:
    """`checksum` of a model: its weights and configuration, or an .onnx file with the files that continue its name."""
    if path.is_file():
        return checksum([path, *path.parent.glob(f"{path.name}[._]*")], path.parent)
    files = {file for pattern in _MODEL_FILES for file in path.glob(pattern) if file.is_file()}
    return checksum([file for file in files if file.name != _REPORT], path)


def data_checksum(files: Sequence[Path]) -> str:
    """`checksum` of the files of a data set."""
    return checksum(files, Path(os.path.commonpath([file.parent for file in files])))


def log_entry(
    task: str,
    files: Sequence[Path],
    split: str,
    model: Path,
    evaluation: Evaluation,
    *,
    directory: Path | None = None,
    max_length: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """A line of the log: when, which model, on what, how, and what came out.

    Args:
        task: its name.
        files: of the data.
        split: what was asked for.
        model: what the line is about.
        directory: where its files are now, if not there.
        max_length: longest sequence in tokens.
        options: of the task.
    """
    return {
        "time": now(),
        "model": str(model.resolve()),
        "model_sha256": model_checksum(directory or model),
        "task": task,
        "data": [str(file.resolve()) for file in files],
        "data_sha256": data_checksum(files),
        "split": split,
        "max_length": max_length,
        "options": dict(options),
        "examples": evaluation.examples,
        "metrics": {name: interval.value for name, interval in evaluation.values.items()},
        "command": shlex.join(["fastcpu", *sys.argv[1:]]),
    }


class EvaluationLog:
    """A file with a JSON object per line. It is made with its first line; its folder must be there.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not _is_writable(path):
            raise OutputError(f"{path}: the evaluation cannot be logged there (--log FILE)")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line, all of it or nothing; processes that append at the same time wait for each other."""
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._open() as descriptor:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                if os.write(descriptor, line) < len(line):
                    raise OutputError(f"{self.path}: the evaluation cannot be logged: no space is left")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise

    @contextmanager
    def _open(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path}: the evaluation cannot be logged: {error.strerror} (--log FILE)") from error


def now() -> str:
    """The time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
