"""The log of evaluations on test data."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from fastcpu import InputError, OutputError
from fastcpu.eval.log import EvaluationLog, data_checksum, is_test, log_file, model_checksum


def test_what_is_test_data() -> None:
    assert is_test([Path("sst2/test.tsv")])
    assert is_test([Path("task/corpus.jsonl"), Path("task/qrels/test.tsv")])
    assert is_test([Path("set/test/data-00000-of-00001.arrow")])
    assert not is_test([Path("sst2/dev.tsv"), Path("test/train.tsv")])


def test_the_log_is_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    assert log_file(tmp_path / "model") == tmp_path / "model.evaluations.jsonl"
    assert log_file(tmp_path / "m.onnx") == tmp_path / "m.onnx.evaluations.jsonl"
    (tmp_path / "link").symlink_to("model")
    assert log_file(tmp_path / "link") == tmp_path / "model.evaluations.jsonl"
    monkeypatch.chdir(tmp_path / "model")
    assert log_file(Path()) == tmp_path / "model.evaluations.jsonl"


def test_models_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    assert log_file(tmp_path / "model") == tmp_path / "here" / "model.evaluations.jsonl"


def test_lines_are_added_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = EvaluationLog(path)
    assert not path.exists(), "looking does not make a file"
    threads = [
        threading.Thread(target=lambda number=number: [EvaluationLog(path).append({"n": number}) for _ in range(20)])
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(line)["n"] for line in path.read_text().splitlines()) == [
        n for n in range(4) for _ in range(20)
    ]
    path.write_text('{"n": 1}\n{"torn')
    log.append({"n": "ä"})
    assert path.read_text() == '{"n": 1}\n{"torn\n{"n": "ä"}\n'


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    EvaluationLog(path).append({"n": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:5]))
    with pytest.raises(OutputError, match=r"log.jsonl: the evaluation cannot be logged: no space is left"):
        EvaluationLog(path).append({"n": 2})
    assert path.read_text() == '{"n": 1}\n'


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "log.jsonl"):
        with pytest.raises(OutputError, match=r"the evaluation cannot be logged there \(--log FILE\)"):
            EvaluationLog(path)


def test_checksums_change_with_contents_and_names(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    files = {"graph.json": "{}", "weights.safetensors": "w", "tokenizer.json": "t", "1_Pooling/config.json": "{}"}
    for name, content in files.items():
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(content)
    seen = {model_checksum(model)}
    (model / "report.json").write_text("how it was made")
    assert model_checksum(model) in seen
    for name in files:
        (model / name).write_text("other")
        seen.add(model_checksum(model))
    (model / "weights.safetensors").rename(model / "weights2.safetensors")
    seen.add(model_checksum(model))
    assert len(seen) == 2 + len(files)
    copy = tmp_path / "elsewhere"
    model.rename(copy)
    assert model_checksum(copy) in seen


def test_checksums_of_onnx_files_and_data(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("graph")
    (tmp_path / "other.onnx").write_text("graph")
    first = model_checksum(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").write_text("weights")
    assert model_checksum(tmp_path / "m.onnx") != first
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.csv").write_text("x")
    assert data_checksum([tmp_path / "a.csv"]) != data_checksum([tmp_path / "b.csv"])
    with pytest.raises(InputError, match=r"c.csv: No such file"):
        data_checksum([tmp_path / "c.csv"])
