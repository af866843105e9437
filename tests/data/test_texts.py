"""Reading texts from files of every supported kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastcpu.data import read_texts, sample
from fastcpu.errors import InputError


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  two \nthree")
    assert list(read_texts([tmp_path / "a.txt"])) == ["one", "two", "three"]


def test_cells_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n"one, and a half",two\nthree,\n')
    (tmp_path / "b.tsv").write_text('x\ty\nsay "one\ttwo\n')
    assert list(read_texts([tmp_path / "a.csv"], ["x", "y"])) == ["one, and a half", "two", "three"]
    assert list(read_texts([tmp_path / "b.tsv"], ["y", "x"])) == ["two", 'say "one']


def test_values_of_objects(tmp_path: Path) -> None:
    rows = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_texts([tmp_path / "a.json", tmp_path / "b.jsonl"], ["text"])) == ["one", "two"] * 2


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.png"):
        (tmp_path / name).write_text(name)
    assert list(read_texts([tmp_path])) == ["a.txt", "b.txt"]


def test_reading_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    texts = read_texts([tmp_path / "a.txt", tmp_path / "missing.txt"])
    assert next(texts) == "one"
    with pytest.raises(InputError, match=r"missing.txt: No such file"):
        next(texts)


def test_a_sample_keeps_the_order_and_gives_each_text_the_same_chance() -> None:
    texts = [str(i) for i in range(50)]
    assert sample(texts, 100, seed=0) == texts
    counts = dict.fromkeys(texts, 0)
    for seed in range(2000):
        taken = sample(iter(texts), 5, seed)
        assert len(taken) == 5
        assert taken == sorted(taken, key=int)
        for text in taken:
            counts[text] += 1
    # 2000 draws with probability 0.1: 200 expected, standard deviation 13.4
    assert 140 < min(counts.values()) <= max(counts.values()) < 260


def test_a_sample_is_a_function_of_its_seed() -> None:
    texts = [str(i) for i in range(1000)]
    assert sample(texts, 10, seed=1) == sample(texts, 10, seed=1) != sample(texts, 10, seed=2)
