"""What commands say of words that they do not know."""

from __future__ import annotations

import pytest

from fastcpu.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "prog"),
    [
        (["serve", "model", "--prot", "9"], "fastcpu serve"),
        (["info", "model", "--jsn"], "fastcpu info"),
        (["compile", "model", "-o", "out", "--quantise", "static"], "fastcpu compile"),
        (["--prot", "info", "model"], "fastcpu"),
    ],
)
def test_the_usage_is_that_of_the_command(arguments: list[str], prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    words = capsys.readouterr().err
    assert words.startswith(f"usage: {prog} [")
    assert f"{prog}: error: unrecognized arguments: --" in words
