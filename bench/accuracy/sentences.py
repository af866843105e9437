"""The unlabelled sentences that recipes are trained with: those of FASTCPU_DATA, MRPC and evaluation sets left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_SENTENCE_END = re.compile(r"(?<=[.!?]) +")
_SHORTEST = 8  # characters


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _everything(data: Path) -> Iterator[str]:
    for name in ("s1.dev", "s2.dev", "s1.test", "s2.test"):
        yield from _lines(data / "snli" / name)
    for name in ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"):
        for line in _lines(data / "sick" / name)[1:]:
            yield from line.split("\t")[1:3]
    for line in _lines(data / "stsb" / "sts-train.csv"):
        yield from line.split("\t")[5:7]
    for name in ("valid.txt", "test.txt"):
        for line in _lines(data / "wikitext2" / name):
            yield from _SENTENCE_END.split(line)
    for line in _lines(data / "sst2" / "train.tsv")[1:]:
        yield line.split("\t")[0]
    for context in dict.fromkeys(_lines(data / "squad_v1.1_train_val4k" / "val.context")):
        yield from _SENTENCE_END.split(context)


def sentences(data: Path) -> list[str]:
    """Each sentence once, in order. Evaluation sentences are still among them."""
    stripped = (text.strip() for text in _everything(data))
    return list(dict.fromkeys(text for text in stripped if len(text) >= _SHORTEST))


def evaluation_sentences(data: Path) -> list[str]:
    """The sentences of STS-B dev and test."""
    lines = (line for part in ("dev", "test") for line in _lines(data / "stsb" / f"sts-{part}.csv"))
    return [text.strip() for line in lines for text in line.split("\t")[5:7]]
