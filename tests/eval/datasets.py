"""A tiny labelled data set of every evaluation task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fastcpu.eval import retrieval

TEXTS = ["the red house", "Anna lives in London", "the car is blue", "Paul works in Paris", "a small dog", "is it red?"]


def _sts(path: Path) -> None:
    rows = [f"g\tf\t2026\t0\t{score}\t{a}\t{b}" for score, a, b in zip(range(6), TEXTS, TEXTS[::-1], strict=True)]
    (path / "sts-test.csv").write_text("\n".join(rows) + "\n")


def _classify(path: Path) -> None:
    rows = [f"{text}\t{label}" for text, label in zip(TEXTS, ["bad", "good", "neither"] * 2, strict=True)]
    (path / "test.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")


def _tag(path: Path) -> None:
    words = ["\n".join(f"{word} {'B-PER' if word in ('Anna', 'Paul') else 'O'}" for word in t.split()) for t in TEXTS]
    (path / "test.conll").write_text("\n\n".join(words) + "\n")


def _qa(path: Path) -> None:
    rows = [{"question": "who?", "context": text * 6, "answers": [text.split()[0]]} for text in TEXTS]
    (path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rerank(path: Path) -> None:
    rows = [f"who,{text},{index % 2}" for index, text in enumerate(TEXTS)]
    (path / "test.csv").write_text("\n".join(["query,passage,label", *rows]) + "\n")


def _retrieval(path: Path) -> None:
    retrieval.save(retrieval.RetrievalData(TEXTS, ["red", "in London"], [{0: 1.0}, {1: 1.0, 3: 0.5}]), path, "test")


DATA: dict[str, Callable[[Path], None]] = {
    "classify": _classify,
    "qa": _qa,
    "rerank": _rerank,
    "retrieval": _retrieval,
    "sts": _sts,
    "tag": _tag,
}


def make_data(task: str, folder: Path) -> Path:
    """A data set for a task whose only split is test."""
    folder.mkdir()
    DATA[task](folder)
    return folder
