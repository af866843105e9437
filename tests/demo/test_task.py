"""Duplicates go before the split, and the task depends on nothing but its sources."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.demo.docstrings import Pair
from fastcpu.demo.duplicates import first_of_duplicates, normalize, shingles
from fastcpu.demo.packages import Package
from fastcpu.demo.task import Sizes, build_task, drop_duplicates


def test_normalize_and_shingles() -> None:
    assert normalize("The  Quick-brown\nFOX!") == "the quick brown fox"
    assert shingles("a b c a b", 2) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert shingles("A, b", 3) == {("a", "b")}


def test_equal_and_similar_texts_go() -> None:
    texts = [
        "one two three four five six",
        "One, two three: four five SIX!",
        "one two three four five",
        "seven eight nine",
    ]
    assert first_of_duplicates(texts, 3, 1.0).tolist() == [True, False, True, True]
    assert first_of_duplicates(texts, 3, 0.75).tolist() == [True, False, False, True]


def test_a_duplicate_of_a_dropped_text_stays() -> None:
    texts = ["a b c d", "a b c d e", "b c d e f"]  # each resembles the one before it: 3/4 and 2/4 of two-word shingles
    assert first_of_duplicates(texts, 2, 0.6).tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_matches_a_comparison_of_all_pairs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(list("abcdef"), generator.integers(1, 9))) for _ in range(700)]
    kept: list[int] = []
    for index, text in enumerate(texts):
        found = shingles(text, 2)
        others = (shingles(texts[other], 2) for other in kept)
        if all(len(found & other) < 0.5 * len(found | other) for other in others):
            kept.append(index)
    assert np.flatnonzero(first_of_duplicates(texts, 2, 0.5)).tolist() == kept, f"seed {seed}"


def test_pairs_need_a_distinct_query_and_document() -> None:
    base = Pair("a", "sort the rows by key", "one two three four five six")
    pairs = [
        base,
        Pair("b", "sort the rows by key", "other words all over again here"),
        Pair("c", "an entirely different request", "one two three four five six"),
        Pair("d", "something else again entirely", "nothing in common with what came before"),
    ]
    assert [pair.key for pair in drop_duplicates(pairs)] == ["a", "d"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package with 40 distinct docstrings, and 10 that are copies; and three medical terms."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnopqrstuvwxyz"), 7)) for _ in range(900)]
    sources = []
    for index in range(40):
        query, document = words[index * 6 : index * 6 + 6], words[240 + index * 15 : 255 + index * 15]
        copies = 2 if index % 4 == 0 else 1
        for copy in range(copies):
            text = f"{' '.join(query)}.\n\n    {' '.join(document)}."
            sources.append(f'def f{index}_{copy}():\n    """{text}"""\n')
    folder = tmp_path / "taskpackage"
    folder.mkdir()
    (folder / "__init__.py").write_text("\n".join(sources))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("fastcpu.demo.task.package_version", lambda _package: "1.0")
    terms = [Pair(f"t{i}", f"other name {i} {words[-i]}", f"title {i} {words[-9 - i]}") for i in (1, 2, 3)]
    monkeypatch.setattr("fastcpu.demo.task.terms_file", lambda: tmp_path)
    monkeypatch.setattr("fastcpu.demo.task.terms_version", lambda: "2.0")
    monkeypatch.setattr("fastcpu.demo.task.read_terms", lambda _path: iter(terms))
    return Package("taskpackage", "taskpackage")


def test_split(package: Package) -> None:
    task = build_task([package], [], Sizes(calibration=8, documents=30, queries=12, terms=2))
    assert (task.pairs, task.distinct) == (50, 40)
    assert (len(task.data.documents), len(task.data.queries), len(task.texts), len(task.calibration)) == (
        30,
        12,
        20,
        16,
    )
    assert (len(task.terms.documents), len(task.terms.queries)) == (2, 2)
    assert task.data.relevant == [{index: 1.0} for index in range(12)]
    assert [(each.package, each.version, each.documents) for each in task.sources] == [
        ("taskpackage", "1.0", 30),
        ("simple-icd-10-cm", "2.0", 2),
    ]
    texts = [*task.data.documents, *task.data.queries, *task.texts]
    for a, b in combinations(texts, 2):
        assert not shingles(a, 1) & shingles(b, 1)
    assert build_task([package], [], Sizes(8, 30, 12, 2)) == task


def test_more_packages_are_trained_with_alone(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Sizes(calibration=8, documents=30, queries=12, terms=2)
    alone = build_task([package], [], sizes)
    folder = tmp_path / "morepackage"
    folder.mkdir()
    copied = (tmp_path / "taskpackage" / "__init__.py").read_text()
    (folder / "__init__.py").write_text(copied + 'def other():\n    """Words that nobody else has in a docstring."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    task = build_task([package], [Package("morepackage", "morepackage")], sizes)
    assert task.data == alone.data
    assert task.texts == [*alone.texts, "Words that nobody else has in a docstring."]
    assert task.fingerprint != alone.fingerprint
    fewer = Sizes(calibration=8, documents=30, queries=12, terms=2, texts=len(alone.texts))
    assert build_task([package], [Package("morepackage", "morepackage")], fewer) == alone


def test_too_few_docstrings(package: Package) -> None:
    with pytest.raises(InputError, match="give 40 distinct pairs; 41 are needed"):
        build_task([package], [], Sizes(calibration=11, documents=30, queries=12))
