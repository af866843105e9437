"""What sentence-transformers writes beside a transformer: modules.json and the configuration of the pooling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fastcpu.errors import FileFormatError, GraphError

MODULES_FILE = "modules.json"
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Pooling:
    """What happens to the token embeddings."""

    mode: Literal["cls", "mean", "max"]
    normalize: bool


def read_pooling(path: Path) -> tuple[Pooling, Path] | None:
    """The pooling of a sentence-transformers directory and the folder of its transformer; None without modules.json.

    Raises:
        FileFormatError: a file is missing or is not as sentence-transformers writes it.
        GraphError: other modules than Transformer, Pooling and Normalize, or a pooling that is not supported.
    """
    modules_path = path / MODULES_FILE
    if not modules_path.is_file():
        return None
    try:
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in read_json(modules_path)]
    except (TypeError, KeyError) as error:
        raise FileFormatError(f"{modules_path}: not a list of modules with a type and a path") from error
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise GraphError(f"{modules_path}: {', '.join(kinds)}: only Transformer, Pooling, Normalize are supported")
    mode = _mode(path / modules[1][1] / "config.json")
    return Pooling(mode, "Normalize" in kinds), path / modules[0][1]


def _mode(path: Path) -> Literal["cls", "mean", "max"]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise FileFormatError(f"{path}: not a JSON object")
    modes: set[str] = {
        _FLAGS.get(key) or key for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    }
    if isinstance(config.get("pooling_mode"), str):
        modes.add(config["pooling_mode"])
    if len(modes) != 1 or not modes <= set(_FLAGS.values()):
        found = ", ".join(sorted(modes)) or "none"
        raise GraphError(f"{path}: pooling {found} is not supported; one of {', '.join(_FLAGS.values())} is")
    return cast('Literal["cls", "mean", "max"]', modes.pop())


def read_json(path: Path) -> Any:
    """A file of a model directory; FileFormatError if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: {error}") from error
