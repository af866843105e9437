"""What SentenceTransformer and CrossEncoder share: an open model, its tokenizer, and ragged runs over texts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastcpu.errors import FileFormatError, InputError
from fastcpu.frontend.sentence_transformers import read_json
from fastcpu.integrations.cache import Calibration, Prepare, compiled
from fastcpu.integrations.saving import save_model
from fastcpu.integrations.similarity import FloatArray
from fastcpu.recipe import Recipe
from fastcpu.runtime import Session
from fastcpu.tasks.tokenizer import Text, Tokenizer

SETTINGS_FILE = "config_sentence_transformers.json"
_TRANSFORMER_FILE = "sentence_bert_config.json"
_TOKENIZER_FILE = "tokenizer_config.json"


class _Tokenizer(Tokenizer):
    """A tokenizer whose length can be changed."""

    def resize(self, max_length: Any) -> None:
        """Cut texts to ``max_length`` tokens, whatever the model's files say; InputError if that is too few."""
        if not isinstance(max_length, int) or max_length <= self._pair_special:
            raise InputError(f"max_seq_length {max_length!r} leaves no room beside {self._pair_special} special tokens")
        self._tokenizer.enable_truncation(max_length)
        self.max_length = max_length


class TextModel:
    """An open model that is given texts.

    Args:
        model: a compiled directory, a directory of transformers or sentence-transformers, or a hub id.
        prepare, purpose: as `compiled` takes them.
        device: ``cpu``, or None.
        max_length: longest text in tokens; by default what the model was made for.
        recipe, calibration, threads, revision, cache_dir: as `compiled` takes them.

    Attributes:
        path: the compiled directory.
        session: it, opened.
        settings: config_sentence_transformers.json.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        prepare: Prepare,
        purpose: str,
        *,
        device: str | None,
        max_length: int | None,
        recipe: str | os.PathLike[str] | Recipe,
        calibration: Calibration | None,
        threads: int | None,
        revision: str | None,
        cache_dir: str | os.PathLike[str] | None,
    ) -> None:
        check_device(device)
        self.path = compiled(
            model,
            prepare,
            purpose,
            recipe=recipe,
            calibration=calibration,
            revision=revision,
            cache_dir=cache_dir,
            threads=threads,
        )
        self.session = Session(self.path, threads=threads or 0)
        self.settings = read_object(self.path / SETTINGS_FILE)
        self._names = {spec.role: spec.name for spec in self.session.inputs}
        self._tokenizer = _Tokenizer(self.path)
        if max_length is not None:
            self._tokenizer.resize(max_length)

    @property
    def max_seq_length(self) -> int:
        """Longest text in tokens, special tokens included; longer ones are cut."""
        return self._tokenizer.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self._tokenizer.resize(value)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers; InputError without that package, which nothing else here needs."""
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise InputError("`tokenizer` is that of the package 'transformers', which is not installed") from error
        tokenizer: Any = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        tokenizer.model_max_length = self.max_seq_length
        return tokenizer

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a directory that this class and `fastcpu.Session` open.

        Raises:
            OutputError: ``path`` cannot be written, or holds something else than a compiled model.
        """
        save_model(self.path, path, self._write_settings)

    def _write_settings(self, folder: Path) -> None:
        changes = {
            SETTINGS_FILE: self.settings,
            _TRANSFORMER_FILE: {"max_seq_length": self.max_seq_length},
            _TOKENIZER_FILE: {"model_max_length": self.max_seq_length},
        }
        for name, changed in changes.items():
            content = json.dumps(read_object(folder / name) | changed, indent=2) + "\n"
            (folder / name).write_text(content, encoding="utf-8")

    def _run(
        self, texts: Sequence[Text], output: str, batch_size: int, progress: bool | None
    ) -> Iterator[tuple[list[int], list[int], FloatArray]]:
        """Run texts, the longest first: for each batch the places of its texts, their tokens, and one output."""
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        order = sorted(range(len(texts)), key=lambda place: -_characters(texts[place]))
        for start in _progress(range(0, len(order), batch_size), progress):
            places = order[start : start + batch_size]
            tokens = self._tokenizer.encode([texts[place] for place in places])
            feeds = {self._names["ids"]: [each.ids for each in tokens]}
            if "types" in self._names:
                feeds[self._names["types"]] = [each.types for each in tokens]
            yield places, [len(each.ids) for each in tokens], self.session.run(feeds, outputs=[output])[output]


def _characters(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def _progress(steps: range, show: bool | None) -> Iterable[int]:
    if not show:
        return steps
    try:
        import tqdm  # type: ignore[import-untyped]  # it has no types
    except ImportError as error:
        raise InputError("a progress bar needs the package 'tqdm'") from error
    bar: Iterable[int] = tqdm.tqdm(steps, desc="Batches")
    return bar


def check_device(device: object) -> None:
    """InputError for a device that is not the CPU; None is the CPU."""
    if str(device or "cpu") != "cpu":
        raise InputError(f"fastcpu runs on CPUs, not on {device}")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model directory, empty where there is no such file; FileFormatError if it is no object."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: not a JSON object")
    return content


# ---- arrays and tensors ----


def has_torch() -> bool:
    """Whether torch has been imported, without which nobody holds a tensor. It is not imported to find out."""
    return sys.modules.get("torch") is not None


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a tensor of torch, or a list of them."""
    if isinstance(value, (list, tuple)):
        return bool(value) and is_tensor(value[0])
    return has_torch() and isinstance(value, sys.modules["torch"].Tensor)


def as_tensor(array: Any) -> Any:
    """A tensor of torch; InputError without that package."""
    try:
        import torch
    except ImportError as error:
        raise InputError("tensors need the package 'torch'; arrays of NumPy do not") from error
    return torch.as_tensor(array)


def as_array(value: Any) -> Any:
    """An array of a tensor, or of whatever NumPy takes."""
    return value.detach().cpu().numpy() if is_tensor(value) else value


def converted(rows: FloatArray, single: bool, to_numpy: bool, to_tensor: bool) -> Any:
    """Rows as sentence-transformers returns them: a tensor, an array or a list of tensors; the first one if single."""
    result: Any = as_tensor(rows) if to_tensor or not to_numpy else rows
    if single:
        return result[0]
    return list(result) if not (to_tensor or to_numpy) else result
