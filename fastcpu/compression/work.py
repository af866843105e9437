"""The folder beside the output where a compression keeps what it has done so far."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastcpu.compression.plan import Plan
from fastcpu.errors import FileFormatError, InputError, OutputError


def work_path(out: Path) -> Path:
    """Where the compression that writes ``out`` keeps its work."""
    return out.with_name(out.name + ".work")


class WorkFolder:
    """``OUT.work``: the plan, and the results of finished stages, each of which appears as a whole or not at all.

    Raises:
        InputError: the folder belongs to another plan; what differs is named.
    """

    def __init__(self, out: Path, plan: Plan) -> None:
        self.path = work_path(out)
        stored = self._read("plan.json")
        if stored is None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{self.path}: {error.strerror}") from error
            self.write("plan.json", plan.to_json())
            return
        differences = plan.differences(stored)
        if differences:
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
        except OSError as error:
            raise OutputError(f"{self.path / name}: {error.strerror or error}") from error
        finally:
            _remove(partial)

    def remove(self) -> None:
        """Deletes the folder: the compression is complete."""
        shutil.rmtree(self.path, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
