"""bench.environments: environments of engines are whole or not there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import environments


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements of two environments, and a place to make them; nothing is downloaded."""
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path / "requirements")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "nothing.txt").write_text("# no packages\n")
    (tmp_path / "requirements" / "broken.txt").write_text("a-package-that-is-not-there==1.0\n")
    return tmp_path


def test_an_environment_is_made_with_a_python_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert environments.names() == ("broken", "nothing")
    with pytest.raises(FileNotFoundError, match=r"python -m bench\.environments nothing"):
        environments.python_of("nothing")
    assert environments.main(["nothing"]) == 0
    python = environments.python_of("nothing")
    assert capsys.readouterr().out.split() == [str(python)]
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], check=True, capture_output=True, text=True)
    assert Path(prefix.stdout.strip()) == folder / "made" / "nothing"


def test_what_cannot_be_installed_leaves_no_environment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert environments.main(["broken"]) == 1
    assert "bench.environments: " in capsys.readouterr().err
    assert not (folder / "made" / "broken").exists()


def test_without_an_old_python_it_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments.sys, "version_info", (3, 14, 0))
    monkeypatch.setattr(environments.shutil, "which", lambda _: None)
    assert environments.main(["nothing"]) == 1
    assert "Python 3.11 or older" in capsys.readouterr().err
    assert not (folder / "made").exists()
