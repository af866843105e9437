"""Models that earlier versions wrote give the answers that they gave then, on every instruction set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu

MODELS = sorted(Path(__file__).parent.glob("tiny-*"))


@pytest.mark.parametrize("directory", MODELS, ids=lambda path: path.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_golden_model(directory: Path, threads: int, each_isa: str) -> None:
    with np.load(directory / "expected.npz") as file:
        feeds = {name[3:]: file[name] for name in file.files if name.startswith("in.")}
        expected = {name[4:]: file[name] for name in file.files if name.startswith("out.")}
    session = fastcpu.Session(directory, threads=threads)
    assert session.isa == each_isa
    answers = session.run(feeds)
    assert answers.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(answers[name], array, err_msg=name)


def test_there_are_golden_models() -> None:
    assert len(MODELS) >= 4
