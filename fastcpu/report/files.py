"""Report files, never half-written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from fastcpu.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Writes `text` under a temporary name in the same folder and renames it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
