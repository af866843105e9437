"""Tokenization for ragged inputs: no padding, truncation to a length of our own choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcpu.errors import FileFormatError, InputError

IntArray = npt.NDArray[np.int64]
_UNLIMITED = 1 << 20  # tokenizer_config.json writes 1e30 where a tokenizer has no limit
_DEFAULT_LENGTH = 512


@dataclass(frozen=True)
class Encoded:
    """Tokens of one text (or pair of texts), special tokens included.

    Attributes:
        ids: token ids.
        types: segment ids, 0 or 1.
    """

    ids: IntArray
    types: IntArray


class Tokenizer:
    """The tokenizer.json of a model directory.

    Args:
        model_dir: directory with tokenizer.json.
        max_length: longest sequence in tokens, special tokens included; by default what the model was made for.
    """

    def __init__(self, model_dir: Path | str, max_length: int | None = None) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise InputError(
                "texts need the package 'tokenizers' (pip install tokenizers); token ids need nothing"
            ) from error
        model_dir = Path(model_dir)
        path = model_dir / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{str(model_dir)!r} has no tokenizer.json")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # what the library raises for malformed files
            raise FileFormatError(f"{path}: {error}") from error
        limit = length_limit(model_dir)
        self.max_length = min(limit, max_length) if max_length else limit
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if self.max_length <= special:
            raise InputError(f"max_length {max_length} leaves no room beside {special} special tokens")
        # Both are set in the file, and would pad every text to a fixed length.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """Tokens of each text, or of each text with its pair; pairs are cut at their longer side."""
        if isinstance(texts, str) or isinstance(pairs, str):
            raise InputError("texts must be a list of strings and not one string")
        if pairs is not None and len(pairs) != len(texts):
            raise InputError(f"{len(texts)} texts but {len(pairs)} pairs")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"text {index} is of type {type(text).__name__} and not a string")
        batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._tokenizer.encode_batch(batch)
        return [Encoded(np.array(each.ids, np.int64), np.array(each.type_ids, np.int64)) for each in encodings]


def length_limit(model_dir: Path) -> int:
    """The longest sequence that a model directory allows: the smallest limit that its configuration files name."""
    limits: list[int] = []
    for name, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
        ("sentence_bert_config.json", "max_seq_length"),
    ):
        path = model_dir / name
        if not path.is_file():
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8")).get(key)
        except (ValueError, AttributeError) as error:
            raise FileFormatError(f"{path}: not a JSON object") from error
        if isinstance(value, int | float) and 0 < value < _UNLIMITED:
            limits.append(int(value))
    return min(limits, default=_DEFAULT_LENGTH)
