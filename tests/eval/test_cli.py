"""`fastcpu eval`: parsing, printing and errors, with an engine that needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fastcpu.cli.main import main
from fastcpu.eval import engine, retrieval


class LengthEngine:
    def __init__(self, path: Path) -> None:
        self.sign = -1.0 if path.name == "other" else 1.0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.array([len(text) for text in texts]) * self.sign + 0.1 * (self.sign < 0)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine, "open_engine", lambda path, _threads, _length: LengthEngine(path))
    task = retrieval.RetrievalData(["a", "bb", "ccc"], ["x", "yyy"], [{0: 1.0}, {1: 1.0}])
    retrieval.save(task, tmp_path / "task", "test")
    return tmp_path / "task"


def test_result_is_printed_and_written(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    arguments = ["eval", "model", "--task", "retrieval", "--data", str(data), "--against", "other", "--json", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "model: 2 examples" in printed
    assert "difference to other" in printed
    result = json.loads(out.read_text())
    assert [each["model"] for each in result["models"]] == ["model", "other"]
    assert result["models"][0]["metrics"]["mrr@10"]["value"] == pytest.approx(0.75)
    assert set(result["difference"]) == {"ndcg@10", "mrr@10"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "data set 'nowhere' does not exist"),
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--max-length", "-3"], "--max-length must be at least 1, not -3"),
    ],
)
def test_errors_have_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "model", "--task", "retrieval", *arguments]) == 2
    assert capsys.readouterr().err == f"fastcpu: error: {message}\n"


def test_unknown_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["eval", "model", "--task", "poetry"])
    assert status.value.code == 2
    assert "invalid choice: 'poetry'" in capsys.readouterr().err
