"""Memory does not grow with the data."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from fastcpu.data import read_texts, sample, texts
from fastcpu.data import rows as rows_module
from fastcpu.data.rows import read_rows
from fastcpu.errors import InputError

MEGABYTE = 1 << 20

TAKE = """
import resource, sys
from pathlib import Path
from fastcpu.data import Contamination, decontaminate, read_texts, sample

path, columns, count = Path(sys.argv[1]), sys.argv[2:3], Contamination()
next(iter(read_texts([path], columns)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = decontaminate(read_texts([path], columns), ["a sentence that is not there"], count)
kept = sample(texts, 1000, 0)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(kept), count.seen, (after - before) // 1024)
"""


FORMS = {"txt": "{}\n", "csv": "{},x\n", "jsonl": '{{"t": "{}"}}\n'}


def generated(form: str, count: int) -> Iterator[str]:
    """Lines with texts of 1,000 characters that are all different."""
    body = "word " * 198
    return (FORMS[form].format(f"{number:08d} {body}") for number in range(count))


@pytest.mark.parametrize("form", list(FORMS))
def test_a_sample_of_a_large_file(form: str, tmp_path: Path) -> None:
    """50 MB pass through less than 24 MB: what a sample of 1,000 texts and the buffers take."""
    path, count = tmp_path / f"large.{form}", 50_000
    with path.open("w") as file:
        file.write("t,u\n" if form == "csv" else "")
        file.writelines(generated(form, count))
    assert path.stat().st_size > 47 * MEGABYTE
    columns = [] if form == "txt" else ["t"]
    printed = subprocess.run(
        [sys.executable, "-c", TAKE, path, *columns], check=True, capture_output=True, text=True
    ).stdout
    path.unlink()
    kept, seen, grown = map(int, printed.split())
    assert (kept, seen) == (1000, count)
    assert grown < 24, f"{grown} MB more than before"


@pytest.mark.parametrize(
    ("name", "columns", "head"),
    [("a.txt", (), ""), ("a.csv", ("t",), 't\n"'), ("a.tsv", ("t",), "t\n"), ("a.jsonl", ("t",), "")],
)
def test_a_line_without_end(name: str, columns: tuple[str, ...], head: str, tmp_path: Path) -> None:
    """A sparse file of 4 GB without a line end is refused after its first 16 million characters."""
    path = tmp_path / name
    with path.open("w") as file:
        file.write(head)
        file.truncate(4096 * MEGABYTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"{name}:\d: the line has more than 16,777,216 characters"):
        list(read_texts([path], columns))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_a_cell_over_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quote that nobody closes does not collect the rest of the file."""
    monkeypatch.setattr(rows_module, "MAX_LINE", 1000)
    path = tmp_path / "a.csv"
    path.write_text('t\n"' + "line\n" * 5000)
    with pytest.raises(InputError, match=r"a.csv:\d+: field larger than field limit \(1000\)"):
        list(read_rows(path))


def test_a_list_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write("[")
        file.truncate(1025 * MEGABYTE)
    with pytest.raises(InputError, match=r"a.json: a list of more than 1,073,741,824 bytes; write one object per line"):
        next(read_rows(path))


def test_a_sample_is_bounded_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What remains is a fair sample: every text has the same chance, whenever it comes."""
    monkeypatch.setattr(texts, "SAMPLED_CHARACTERS", 100)
    given = [f"{number:04d}" + "x" * 6 for number in range(60)]
    counts = dict.fromkeys(given, 0)
    for seed in range(1500):
        kept = sample(given, 40, seed)
        assert len(kept) == 10
        assert kept == sorted(kept)
        for each in kept:
            counts[each] += 1
    # 1,500 draws with probability 1/6: 250 expected, standard deviation 14.4
    assert 190 < min(counts.values()) <= max(counts.values()) < 310


def test_an_enormous_row_group(tmp_path: Path) -> None:
    """The first rows of a Parquet file cost a fraction of its one row group."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    column = [f"{number:08d}" + "x" * 992 for number in range(100_000)]
    parquet.write_table(
        pa.table({"t": column}), path, row_group_size=len(column), compression="none", use_dictionary=False
    )
    del column
    assert parquet.ParquetFile(path).num_row_groups == 1
    code = (
        "import resource, sys, itertools\nfrom pathlib import Path\nimport pyarrow.parquet\n"
        "from fastcpu.data.rows import read_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for row in read_rows(Path(sys.argv[1])))\n"
        "print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True).stdout
    count, grown = map(int, printed.split())
    assert count == 100_000
    assert grown < 48, f"{grown} MB more than before, of a row group of 100 MB"
    assert len(list(islice(read_rows(path), 3))) == 3
