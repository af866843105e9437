"""Benchmark shapes and the seeded inputs for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Feeds = dict[str, NDArray[np.int64]]

CALIBRATION_SEED = 20_000
FIRST_ORDINARY_TOKEN = 1000
"""Ids below this are special or unused tokens in the BERT vocabulary."""
CLS, SEP = 101, 102
"""Ids of that vocabulary."""


@dataclass(frozen=True, order=True)
class Shape:
    """`batch` sequences of `sequence` tokens each, without padding."""

    batch: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Shape written as 'b8s128' or 'b8 s128'."""
        match = re.fullmatch(r"b(\d+)[ _x-]?s(\d+)", text.strip())
        if not match or int(match[1]) < 1 or int(match[2]) < 2:
            raise ValueError(f"shape {text!r} is not of the form b8s128")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"b{self.batch}s{self.sequence}"


SHAPES = tuple(Shape(b, s) for b, s in ((1, 16), (1, 32), (1, 128), (1, 384), (8, 128), (8, 384), (32, 128)))
"""The shapes the measurement contract knows; any other may be given by name."""


def token_feeds(
    names: Sequence[str], shape: Shape, vocab: int, seed: int, text: NDArray[np.int64] | None = None
) -> Feeds:
    """Token ids with full-length masks: {name: int64 [batch, sequence]} for each of `names`.

    Random ids, or, where there is `text` (int64 [N]), parts of it between CLS and SEP; ValueError if these or it are
    too short.
    """
    size = (shape.batch, shape.sequence)
    random = np.random.default_rng([seed, *size])
    if text is None:
        ids = random.integers(min(FIRST_ORDINARY_TOKEN, vocab - 1), vocab, size=size)
    else:
        inner = shape.sequence - 2
        if not 0 < inner <= len(text):
            raise ValueError(f"no parts of {len(text)} tokens of text for sequences of {shape.sequence}")
        starts = random.integers(0, len(text) - inner + 1, size=shape.batch)
        ids = np.stack([[CLS, *text[start : start + inner], SEP] for start in starts])
    made = {
        "input_ids": ids.astype(np.int64),
        "attention_mask": np.ones(size, np.int64),
        "token_type_ids": np.zeros(size, np.int64),
    }
    unknown = set(names) - set(made)
    if unknown:
        raise ValueError(f"no rule to make benchmark inputs named {sorted(unknown)}")
    return {name: made[name] for name in names}


def bench_feeds(
    names: Sequence[str], shape: Shape, vocab: int, seed: int, text: NDArray[np.int64] | None = None
) -> list[Feeds]:
    """The inputs that answers are compared on and that timed runs rotate through: at least 8 sequences in all."""
    count = max(2, -(-8 // shape.batch))
    return [token_feeds(names, shape, vocab, seed + index, text) for index in range(count)]


def calibration_feeds(
    names: Sequence[str],
    vocab: int,
    samples: int = 32,
    sequence: int = 128,
    text: NDArray[np.int64] | None = None,
) -> list[Feeds]:
    """`samples` inputs [1, sequence] for static quantization, none of them a benchmark input."""
    shape = Shape(1, sequence)
    return [token_feeds(names, shape, vocab, CALIBRATION_SEED + index, text) for index in range(samples)]
