"""`fastcpu doctor`: what it prints and writes, and errors; tests/test_doctor.py has the numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastcpu import _core
from fastcpu.cli.main import main
from fastcpu.report.machine import cpu_name
from tests.cli.conftest import Failure


def test_text_and_json(static_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "doctor.json"
    options = ["--batch", "2", "--seq", "9", "--threads", "1", "--json", str(out)]
    assert main(["doctor", str(static_model), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(cpu_name())
    title, tiers = _core.isa_title(_core.selected_isa()), ", ".join(_core.supported_isas())
    assert f"kernels use {title}; tiers of this CPU: {tiers}\n" in printed
    assert "measured peak of 1 threads: int8 " in printed
    assert f"{static_model}: batch 2, 9 tokens" in printed
    for name in ("linear int8", "attention int8", "layernorm", "layer0.fc1", "embeddings.norm"):
        assert f"\n{name} " in printed, name
    assert "dense: qa: 2 output channels are not a multiple of 4" in printed

    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["batch"], found["sequence"], found["machine"]["threads"]) == (2, 9, 1)
    assert all(f"* {verdict}" in printed for verdict in found["verdicts"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "batch and sequence must be at least 1"),
        (["--seq", "25"], "a sequence of length 25 is too long: the model has 24 positions"),
        (["--seq", "100000000"], "a sequence of length 100000000 is too long: the model has 24 positions"),
        (["--batch", "100000000"], "a batch of 100000000 sequences of 24 tokens is too large"),
        (["--threads", "-1"], "threads must be an int from 0"),
    ],
)
def test_bad_options(options: list[str], message: str, static_model: Path, failure: Failure) -> None:
    assert message in failure(["doctor", str(static_model), *options])


def test_models_that_are_none(tmp_path: Path, failure: Failure) -> None:
    assert "graph.json" in failure(["doctor", str(tmp_path)])
    assert "nowhere" in failure(["doctor", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("report", ["[" * 100_000, "[]", '{"not_fused": 3}', ""])
def test_a_damaged_report_is_as_none(report: str, static_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(static_model, model)
    (model / "report.json").write_text(report)
    assert main(["doctor", str(model), "--batch", "1", "--seq", "4", "--threads", "1"]) == 0
