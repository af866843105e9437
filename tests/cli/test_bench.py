"""`fastcpu bench`: engines in turns, peers that are missing or fail, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastcpu import FastcpuError, peers
from fastcpu.cli.main import main
from tests.cli.conftest import Failure
from tests.reference import graphs


def test_beside_onnxruntime(static_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "bench.json"
    options = ["--against", "onnxruntime", "--batch", "2", "--seq", "9", "--threads", "1", "--rounds", "1"]
    assert main(["bench", str(static_model), *options, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (result["batch"], result["sequence"], result["threads"]) == (2, 9, 1)
    rows = {row["engine"]: row for row in result["engines"]}
    assert list(rows) == ["fastcpu", "onnxruntime fp32", "onnxruntime int8"]
    for name, row in rows.items():
        assert f"\n{name} " in printed
        assert row["problem"] is None
        assert len(row["rounds"]) == 1
        assert row["cosine_to_fastcpu"] > 0.99
    assert rows["fastcpu"]["fastcpu_is_faster_by"] == 1


def _kill_in_round(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """The process of an engine dies when it is asked for that round."""
    time = peers._Contestant.time

    def time_or_die(contestant: peers._Contestant, seconds: float) -> None:
        if contestant.engine.name == name and len(contestant.rates) == number:
            contestant.worker._process.kill()
            contestant.worker._process.join()
        time(contestant, seconds)

    monkeypatch.setattr(peers._Contestant, "time", time_or_die)


def _compare(model: Path) -> list[dict[str, Any]]:
    """With fastcpu itself as the peer."""
    return peers.compare(model, {"fp32": model}, ["fastcpu"], graphs.batch(2, 9), 1, rounds=3, seconds=0.01)


def test_fastcpu_that_dies_between_two_rounds(f32_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kill_in_round(monkeypatch, "fastcpu", 1)
    with pytest.raises(FastcpuError, match=r"^fastcpu cannot run .*/model: its process ended with status -9$"):
        _compare(f32_model)


def test_a_peer_that_dies_between_two_rounds(f32_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kill_in_round(monkeypatch, "fastcpu fp32", 2)
    ours, theirs = _compare(f32_model)
    assert ours["problem"] is None
    assert len(ours["rounds"]) == 3
    assert theirs == {"engine": "fastcpu fp32", "precision": "fp32", "problem": "its process ended with status -9"}


def test_a_peer_that_cannot_open_its_file(f32_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "fp32.onnx").write_bytes(b"no graph")
    _, theirs = peers.compare(
        f32_model, {"fp32": tmp_path / "fp32.onnx"}, ["onnxruntime"], graphs.batch(2, 9), 1, rounds=1, seconds=0.01
    )
    assert theirs["problem"].startswith(f"{tmp_path / 'fp32.onnx'}: ")


def test_peers_that_are_not_installed(
    static_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "missing", lambda names: [name for name in names if name == "openvino"])
    monkeypatch.setattr(peers, "write_files", lambda *_args: {})
    monkeypatch.setattr(peers, "compare", lambda *_args: [{"engine": "fastcpu", "problem": "not run in this test"}])
    assert main(["bench", str(static_model), "--rounds", "1"]) == 0
    captured = capsys.readouterr()
    assert "openvino is not installed" in captured.err
    assert "`python -m bench`" in captured.out


def test_no_peer_is_installed(static_model: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure) -> None:
    monkeypatch.setattr(peers, "missing", list)
    message = (
        "none of the engines to compare with is installed: onnxruntime, openvino (pip install onnxruntime openvino)"
    )
    assert failure(["bench", str(static_model)]) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "abacus"], "unknown engine 'abacus'"),
        (["--batch", "0"], "--batch must be at least 1, not 0"),
        (["--batch", "100000000000", "--against", ""], "a batch of 100000000000 sequences of 24 tokens is too large"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--threads", "-1"], "--threads must not be negative, but is -1"),
    ],
)
def test_bad_options(options: list[str], message: str, static_model: Path, failure: Failure) -> None:
    assert message in failure(["bench", str(static_model), *options])


def test_models_that_are_none(tmp_path: Path, failure: Failure) -> None:
    assert "graph.json" in failure(["bench", str(tmp_path), "--against", ""])
