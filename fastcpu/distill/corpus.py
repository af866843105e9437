"""Tokenized training texts on disk, and which of them a step takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill.losses.loss import NO_ANSWER, NO_LABEL
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch

    from fastcpu.tasks.tokenizer import Located, Text, Tokenizer

_BUCKET_BATCHES = 64
"""Texts of so many batches are sorted by length together: little padding, and still a random order."""
_CHUNK = 4096
_LABELS = "labels.npy"
_TYPES = "types.npy"


@dataclass(frozen=True)
class Batch:
    """B sequences, padded to S tokens.

    Attributes:
        ids: int64 [B, S], 0 where padded.
        mask: bool [B, S], True for real tokens.
        types: int64 [B, S], the segment of each token, 0 or 1; None where all are 0.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    types: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(self.ids.to(device), self.mask.to(device), None if self.types is None else self.types.to(device))

    def twice(self) -> Batch:
        """All sequences, and all once more behind them."""
        types = None if self.types is None else self.types.repeat(2, 1)
        return Batch(self.ids.repeat(2, 1), self.mask.repeat(2, 1), types)


class Corpus:
    """N token sequences, one after the other in a file that is mapped.

    Attributes:
        ids: int32 [total tokens].
        offsets: int64 [N + 1]; sequence i is ``ids[offsets[i]:offsets[i + 1]]``.
        types: int8 [total tokens], the segment of each token; None where all are 0.
        labels: int64 [N], a class, or [N, 2], the first and the last token of an answer; ``NO_LABEL`` for a sequence
            that has none. None where the data is not labelled.
    """

    def __init__(self, folder: Path) -> None:
        self.ids: NDArray[np.int32] = np.load(folder / "ids.npy", mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        types, labels = folder / _TYPES, folder / _LABELS
        self.types: NDArray[np.int8] | None = np.load(types, mmap_mode="r") if types.is_file() else None
        self.labels: NDArray[np.int64] | None = np.load(labels) if labels.is_file() else None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence."""
        return np.diff(self.offsets)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Some sequences, padded to the longest of them."""
        import torch

        ids = np.zeros((len(indices), self.lengths[indices].max()), np.int64)
        mask = np.zeros(ids.shape, np.bool_)
        types = np.zeros_like(ids)
        for b, i in enumerate(indices):
            tokens = slice(self.offsets[i], self.offsets[i + 1])
            length = self.offsets[i + 1] - self.offsets[i]
            ids[b, :length] = self.ids[tokens]
            mask[b, :length] = True
            if self.types is not None:
                types[b, :length] = self.types[tokens]
        segments = None if self.types is None else torch.from_numpy(types)
        return Batch(torch.from_numpy(ids), torch.from_numpy(mask), segments)


def write_corpus(
    texts: Sequence[Text], tokenizer: Tokenizer, folder: Path, labels: NDArray[np.int64] | None = None
) -> None:
    """Tokenizes texts and pairs of texts, which may have labels, into a folder that `Corpus` reads.

    Labels are classes [N]; or answers [N, 2] in the second of two texts, its first character and the one after its
    last: ``NO_ANSWER`` twice where there is none, which the first token of the sequence stands for.
    """
    parts: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    lengths: list[int] = []
    spans = None if labels is None or labels.ndim == 1 else np.empty_like(labels)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for i, encoded in enumerate(tokenizer.encode(chunk) if spans is None else tokenizer.locate(chunk), start):
            parts.append(encoded.ids.astype(np.int32))
            types.append(encoded.types.astype(np.int8))
            lengths.append(len(encoded.ids))
            if spans is not None and labels is not None:
                spans[i] = _tokens_of(cast("Located", encoded), *labels[i])
    if not parts:
        raise InputError("no training texts are left")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", np.concatenate(parts))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    if any(each.any() for each in types):
        np.save(folder / _TYPES, np.concatenate(types))
    if labels is not None:
        np.save(folder / _LABELS, labels if spans is None else spans)


def _tokens_of(sequence: Located, begin: int, end: int) -> tuple[int, int]:
    """The first and the last token of the characters [begin, end) of the second text; ``NO_LABEL`` if it was cut."""
    if begin == NO_ANSWER:
        return 0, 0
    second = sequence.parts == 1
    first, after = sequence.offsets.T
    found = np.flatnonzero(second & (first < end) & (after > begin))
    if begin == NO_LABEL or not len(found) or after[second].max() < end:
        return NO_LABEL, NO_LABEL
    return int(found[0]), int(found[-1])


class Order:
    """Which sequences each step takes: a function of seed and step alone, so that training can go on anywhere.

    Every epoch takes each sequence at most once, or draws as many with a probability proportional to their length, in a
    new random order, in batches of similar length.
    """

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int, by_length: bool = False) -> None:
        self._lengths = lengths
        self._chances = lengths / lengths.sum() if by_length else None
        self._batch = min(batch, len(lengths))
        self._seed = seed
        self._epoch = lru_cache(maxsize=1)(self._batches)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Indices of the sequences of a step."""
        per_epoch = len(self._lengths) // self._batch
        return self._epoch(step // per_epoch)[step % per_epoch]

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        random = np.random.default_rng((self._seed, epoch))
        count = len(self._lengths)
        order = random.permutation(count) if self._chances is None else random.choice(count, count, p=self._chances)
        bucket = self._batch * _BUCKET_BATCHES
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [part[i : i + self._batch] for i in range(0, len(part) - self._batch + 1, self._batch)]
        return [batches[i] for i in random.permutation(len(batches))]
