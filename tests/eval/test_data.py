"""Files of a split, rows of every format, columns by role, and how broken ones are reported."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcpu import InputError
from fastcpu.data.rows import read_rows
from fastcpu.data.splits import data_files, names_of
from fastcpu.eval.data import Column, parse_columns, read_table
from fastcpu.eval.labels import LabelMap

ROWS = [{"a": "one, two", "n": 1}, {"a": 'say "three"', "n": 0}]
ROLES = {"text": Column(("a", "text")), "label": Column(("n",)), "extra": Column(("x",), required=False)}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


# ---- rows ----


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", 'a,n\n"one, two",1\n"say ""three""",0\n'),
        ("d.tsv", '\ufeffa\tn\none, two\t1\n\nsay "three"\t0\n'),
        ("d.txt", 'a\tn\r\none, two\t1\r\nsay "three"\t0\r\n'),
        ("d.json", json.dumps(ROWS)),
        ("d.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
    ],
)
def test_rows_of_every_text_format(name: str, content: str, tmp_path: Path) -> None:
    table = read_table([write(tmp_path / name, content)], ROLES, {})
    assert [table.text(row, "text") for row in table.rows] == [row["a"] for row in ROWS]
    assert [table.number(row, "label") for row in table.rows] == [1.0, 0.0]
    assert table.columns == {"text": "a", "label": "n"}


def test_the_limit_of_csv_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows = read_rows(write(tmp_path / "d.csv", "a,n\n" + "x" * (before + 1) + ",1\n"))
    assert len(next(rows).cells["a"]) == before + 1
    assert csv.field_size_limit() == before


def test_columns_may_have_other_names_or_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", "1\tx\tone\n0\ty\ttwo\n")
    table = read_table([path], ROLES, {"text": "3", "label": "1"})
    assert [(table.text(row, "text"), table.number(row, "label")) for row in table.rows] == [("one", 1), ("two", 0)]
    named = read_table([write(tmp_path / "e.csv", "b,m\nx,1\n")], ROLES, {"text": "b", "label": "m"})
    assert named.columns == {"text": "b", "label": "m"}


def test_cells_beyond_the_usual_limit(tmp_path: Path) -> None:
    text = "long " * 50_000
    table = read_table([write(tmp_path / "d.csv", f"a,n\n{text},1\n")], ROLES, {})
    assert table.text(table.rows[0], "text") == text.strip()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", "a,b\nx,1\n", r"d.csv:2: no column 'n' for label; there are a, b \(--columns label=NAME\)"),
        ("d.csv", "a,n\n", r"d.csv: holds no rows"),
        ("d.csv", "", r"d.csv: holds no rows"),
        ("d.csv", "a,n\nx\n", r"d.csv:2: 1 columns, but the header has 2"),
        ("d.csv", "a,n\nx,1\ny,2,more\n", r"d.csv:3: 3 columns, but the header has 2, the first surplus one is 'more'"),
        ("d.csv", 'a,n\n"x,1\ny,2\n', r"d.csv:3: unexpected end of data"),
        ("d.csv", "a,n\n \n,1\n", r"d.csv:2: 1 columns, but the header has 2"),
        ("d.tsv", "a\tn\n\t1\n", r"d.tsv:2: column 'a' is '' and not a text"),
        ("d.tsv", "a\tn\nx\thigh\n", r"d.tsv:2: column 'n' is 'high' and not a number"),
        ("d.tsv", "a\tn\nx\tnan\n", r"d.tsv:2: column 'n' is 'nan' and not a number"),
        ("d.json", "{}", r"d.json: not a list of objects"),
        ("d.json", "[3]", r"d.json: object 1: not a JSON object"),
        ("d.json", "[", r"d.json: not JSON"),
        ("d.json", '[{"a": null, "n": 1}]', r"d.json: object 1: column 'a' is empty"),
        ("d.json", '[{"a": "x", "n": 1}, {"n": 1}]', r"d.json: object 2: no column 'a'; there are n"),
        ("d.json", '[{"a": 3, "n": 1}]', r"d.json: object 1: column 'a' is 3 and not a text"),
        ("d.jsonl", '{"a": "x", "n": 1}\n{"a"\n', r"d.jsonl:2: not JSON"),
        ("d.xml", "<a/>", r"d.xml: rows are read from .csv, .tsv"),
    ],
)
def test_broken_tables(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)

    def read() -> None:
        table = read_table([path], ROLES, {})
        for row in table.rows:
            table.text(row, "text")
            table.number(row, "label")

    with pytest.raises(InputError, match=message):
        read()


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"d.csv: No such file"):
        list(read_rows(tmp_path / "d.csv"))
    (tmp_path / "d.csv").write_bytes(b"a,n\n\xff,1\n")
    with pytest.raises(InputError, match=r"d.csv: not UTF-8"):
        list(read_rows(tmp_path / "d.csv"))


@pytest.mark.parametrize("text", ["a", "a=", "=b", "a=b,a=c", "a=b,c"])
def test_column_maps_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"columns are given as role=column"):
        parse_columns(text)


def test_column_maps(tmp_path: Path) -> None:
    assert parse_columns("") == {}
    assert parse_columns("a=#1 String,b=x=y") == {"a": "#1 String", "b": "x=y"}
    path = write(tmp_path / "d.csv", "a,n\nx,1\n")
    with pytest.raises(InputError, match="no column 'sentence' is read by this task; it reads text, label, extra"):
        read_table([path], ROLES, {"sentence": "a"})
    with pytest.raises(InputError, match="either all names or all numbers"):
        read_table([path], ROLES, {"text": "1", "label": "n"})
    with pytest.raises(InputError, match=r"no column 'y' for extra; there are a, n"):
        read_table([path], ROLES, {"extra": "y"})


# ---- splits ----


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (["train.csv", "dev.csv", "test.csv"], "test", ["test.csv"]),
        (["sts-train.csv", "sts-test.csv"], "train", ["sts-train.csv"]),
        (["validation.jsonl", "test.jsonl"], "dev", ["validation.jsonl"]),
        (["val.tsv", "dev.tsv"], "dev", ["dev.tsv"]),
        (["data/test-00001-of-00002.csv", "data/test-00000-of-00002.csv", "data/train-00000-of-00001.csv"], "test",
         ["data/test-00000-of-00002.csv", "data/test-00001-of-00002.csv"]),
        (["test/0.json", "test/1.json", "train/0.json"], "test", ["test/0.json", "test/1.json"]),
        (["test.csv", "dataset_info.json", "README.md"], "test", ["test.csv"]),
    ],
)  # fmt: skip
def test_files_of_a_split(names: list[str], split: str, expected: list[str], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / name, "x")
    assert [str(file.relative_to(tmp_path)) for file in data_files(tmp_path, split)] == expected
    assert data_files(tmp_path / names[0], "anything") == (tmp_path / names[0],)


def test_splits_that_are_not_clear(tmp_path: Path) -> None:
    for name in ("in_domain_dev.tsv", "out_of_domain_dev.tsv", "test.csv"):
        write(tmp_path / name, "x")
    with pytest.raises(
        InputError, match=r"'dev' may be any of in_domain_dev.tsv, out_of_domain_dev.tsv: name the file"
    ):
        data_files(tmp_path, "dev")
    with pytest.raises(InputError, match=r"no file of the split 'train'; there are in_domain_dev.tsv"):
        data_files(tmp_path, "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there are no .csv, .tsv"):
        data_files(tmp_path / "empty", "test")


def test_names_that_say_which_part_a_file_is() -> None:
    assert "test" in names_of(Path("a/sts-test.csv"))
    assert "test" in names_of(Path("test/data-00000-of-00001.arrow"))
    assert "test" not in names_of(Path("test/dev.tsv"))
    assert "test" not in names_of(Path("a/latest.csv"))


def test_saved_data_sets_say_which_part_they_were(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "state.json", '{\n  "_data_files": [{"filename": "d.arrow"}],\n  "_split": "test"\n}')
    (file,) = data_files(tmp_path / "mine", "dev")
    assert names_of(file) == {"d", "mine", "test"}


# ---- labels ----


@pytest.mark.parametrize(
    ("labels", "classes", "value", "expected"),
    [
        (["NEGATIVE", "POSITIVE"], [], "positive ", 1),
        (["NEGATIVE", "POSITIVE"], [], "0", 0),
        (["NEGATIVE", "POSITIVE"], [], 1.0, 1),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], 1, 1),
        (["pos", "neg"], ["neg", "pos"], 1, 0),
        (["contradiction", "entailment", "neutral"], ["entailment", "neutral", "contradiction"], "2", 0),
        (["a", "A"], [], "A", 1),
        (["1", "0"], [], "0", 1),
        (["1", "2", "3"], [], "1", 0),
        (["1", "2", "3"], [], 1, 0),
        (["1", "2", "3"], [], 3.0, 2),
        (["1", "2", "3"], ["1", "2", "3"], 1, 1),
    ],
)
def test_labels_are_found(labels: list[str], classes: list[str], value: Any, expected: int) -> None:
    assert LabelMap(labels, classes).number(value, "d.csv:2") == expected


@pytest.mark.parametrize("value", [0, "0", 4])
def test_numbers_do_not_count_labels_that_are_numbers(value: Any) -> None:
    with pytest.raises(InputError, match=r"no label of the model \(1, 2, 3\)"):
        LabelMap(["1", "2", "3"]).number(value, "d.csv:2")


@pytest.mark.parametrize(
    ("classes", "value"), [((), "maybe"), ((), -1), ((), 2), ((), 0.5), ((), None), (("no", "perhaps"), 1), ((), [0])]
)
def test_unknown_labels_are_named(classes: tuple[str, ...], value: Any) -> None:
    with pytest.raises(InputError, match=r"d.csv:2 is .*, no label of the model \(no, yes\)"):
        LabelMap(["no", "yes"], classes).number(value, "d.csv:2")


# ---- arrow ----

SAVED = Path(__file__).parent / "saved_to_disk"
"""What `DatasetDict.save_to_disk` of the package datasets writes: splits validation (3 rows) and test (2 rows)."""


def test_pyarrow_is_asked_for(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None\nfrom fastcpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
    path = write(tmp_path / "test.parquet", "")
    arguments = ["eval", "model", "--task", "classify", "--data", str(path)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = f"{path}: .parquet files need the package 'pyarrow' (pip install pyarrow)"
    assert done.stderr == f"fastcpu: error: {message}\n"


def test_data_sets_that_were_saved_to_disk() -> None:
    pytest.importorskip("pyarrow")
    roles = {"text": Column(("sentence",)), "label": Column(("label",)), "tags": Column(("tags",))}
    for split, count in (("dev", 3), ("test", 2)):
        found = data_files(SAVED, split)
        assert found == data_files(SAVED / ("validation" if split == "dev" else split), "whatever")
        table = read_table(found, roles, {})
        assert len(table.rows) == count
        assert table.classes == {"label": ("negative", "positive"), "tags": ("O", "B-X", "I-X")}
    assert table.rows[0].place.endswith("test/data-00000-of-00001.arrow: row 1")
    assert table.cell(table.rows[1], "tags") == [1, 2]
    assert table.text(table.rows[0], "text") == "a test"


def test_parquet_in_pieces(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    features = {"n": {"names": ["no", "yes"], "_type": "ClassLabel"}, "a": {"dtype": "string", "_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for part in range(2):
        schema = pa.schema([("a", pa.string()), ("n", pa.int64())], metadata=metadata)
        rows = pa.table({"a": [f"text {part}", None], "n": [part, 1]}, schema=schema)
        parquet.write_table(rows, tmp_path / f"test-0000{part}-of-00002.parquet")
    table = read_table(data_files(tmp_path, "test"), ROLES, {})
    assert [row.cells["n"] for row in table.rows] == [0, 1, 1, 1]
    assert table.classes == {"label": ("no", "yes")}
    with pytest.raises(InputError, match=r"test-00001-of-00002.parquet: row 2: column 'a' is empty"):
        table.text(table.rows[3], "text")


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow"])
def test_damaged_arrow_files(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        list(read_rows(write(tmp_path / name, "nothing of use" * 10)))
    with pytest.raises(InputError, match=r"cannot be read"):
        list(read_rows(tmp_path / "missing.parquet"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{}", "does not list the files"),
        ("[]", "does not list the files"),
        ('{"_data_files": []}', "the data set has no files"),
        ('{"_data_files": [{"filename": "d.arrow"}], "_indices_data_files": [{"filename": "i"}]}', "another order"),
    ],
)
def test_damaged_notes_of_saved_data_sets(state: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "state.json", state)
    with pytest.raises(InputError, match=rf"state.json: .*{message}"):
        data_files(tmp_path, "test")
