"""How golden models come about; tests/golden/test_golden.py is what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu.export.writer import FORMAT_VERSION
from tests.golden.__main__ import write_golden_models


def test_they_carry_the_answers_of_the_reference_and_are_never_overwritten(tmp_path: Path) -> None:
    written = write_golden_models(tmp_path)
    prefix = f"tiny-v{FORMAT_VERSION}-{fastcpu.__version__}-"
    assert {path.name for path in written} == {prefix + kind for kind in ("f32", "static", "dynamic", "ops")}
    for directory in written:
        with np.load(directory / "expected.npz") as file:
            feeds = {name[3:]: file[name] for name in file.files if name.startswith("in.")}
            answers = fastcpu.Session(directory, threads=1).run(feeds)
            assert {f"out.{name}" for name in answers} == {name for name in file.files if name.startswith("out.")}
            for name, array in answers.items():
                np.testing.assert_array_equal(file[f"out.{name}"], array, err_msg=f"{directory.name} {name}")

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in written[0].iterdir():
        path.unlink()
    written[0].rmdir()
    with pytest.raises(FileExistsError, match="golden models are evidence"):
        write_golden_models(tmp_path)
    assert not written[0].exists()
    assert all(path.read_bytes() == data for path, data in before.items() if path.parent != written[0])
