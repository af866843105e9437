"""What every command does with standard output, memory and paths."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastcpu.cli import info, status
from fastcpu.cli.main import main
from tests.cli.conftest import Failure


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A device on which no space is left, made here."""
    node = tmp_path / "full"
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # as /dev/full
        node.open("wb").close()
    except PermissionError:
        pytest.skip("no device nodes can be made here")
    return node


@pytest.mark.parametrize("arguments", [["info", "MODEL"], ["--help"], ["--version"]])
def test_output_that_is_full(arguments: list[str], full: Path, static_model: Path) -> None:
    words = [str(static_model) if word == "MODEL" else word for word in arguments]
    with full.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "fastcpu", *words], stdout=out, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr.decode() == "fastcpu: error: standard output: No space left on device\n"
    assert done.returncode == 2


def test_output_that_is_closed(static_model: Path) -> None:
    command = 'exec "$0" -m fastcpu info "$1" >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, str(static_model)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_readers_that_go_away(static_model: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastcpu", "info", str(static_model)]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_memory(static_model: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure) -> None:
    def fail(_path: Path) -> None:
        raise MemoryError("Unable to allocate 5 TiB")

    monkeypatch.setattr(info, "describe", fail)
    assert failure(["info", str(static_model)]) == "not enough memory: Unable to allocate 5 TiB"


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", ""],
        ["info", "model", "--json", ""],
        ["doctor", ""],
        ["bench", ""],
        ["export", "model", "-o", ""],
        ["export", "", "-o", "model.onnx"],
        ["compile", "", "-o", "out"],
        ["compile", "model", "-o", ""],
        ["compile", "model", "-o", "out", "--calibration", ""],
        ["eval", "", "--task", "sts"],
        ["demo", "-o", ""],
    ],
)
def test_empty_paths(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "the path is empty" in capsys.readouterr().err


def test_the_exit_statuses_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = [line.removeprefix("| ").partition(" | ") for line in page.splitlines() if line.startswith("| ")]
    listed = {int(number): meaning for number, _, meaning in rows if number.isdecimal()}
    assert list(listed) == list(status.MEANINGS)
    for number, meaning in status.MEANINGS.items():
        assert listed[number].startswith(meaning)
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == status.OK
    words = capsys.readouterr().out.split()
    assert all(str(number) + "," in words for number in status.MEANINGS)
