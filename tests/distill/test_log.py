"""The training log survives a kill in the middle of a line."""

from __future__ import annotations

from pathlib import Path

from fastcpu.distill.trainer import read_log


def test_torn_and_repeated_lines(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"step": 10, "losses": {"a": 3.0}}\n'
        '{"step": 20, "losses": {"a": 2.0}}\n'
        '{"step": 30, "los{"step": 20, "losses": {"a": 2.5}}\n'  # torn, and appended to after a resume from step 10
        '{"step": 20, "losses": {"a": 2.25}}\n'
        '{"step": 30'
    )
    steps = [(line["step"], line["losses"]) for line in read_log(tmp_path)]
    assert steps == [(10, {"a": 3.0}), (20, {"a": 2.25})]


def test_no_log(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
