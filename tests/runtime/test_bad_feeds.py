"""Arrays that look right and are not: byte order, alignment, overlap, odd keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from tests.runtime.hostile import FEEDS, Model, same


@pytest.fixture
def session(seeds: dict[str, Model], tmp_path: Path) -> fastcpu.Session:
    return fastcpu.Session(seeds["f32"].write(tmp_path / "m"), threads=2)


def unaligned(array: np.ndarray) -> np.ndarray:
    bytes_ = np.zeros(array.nbytes + 1, np.uint8)
    view = bytes_[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"input_ids": FEEDS["input_ids"].astype(">i8")}, "'input_ids' has dtype >i8"),
        ({"input_ids": [FEEDS["input_ids"][0].astype(">i4")]}, "'input_ids' has dtype >i4"),
        ({"input_ids": np.zeros((2, 3), "m8[s]")}, "'input_ids' has dtype timedelta64"),
        ({"input_ids": [[1, 2], [[3]]]}, "sequence 1 has 2 dimensions"),
        ({"input_ids": [[[1], 2]]}, "'input_ids' cannot be read as an array"),
        ({"input_ids": FEEDS["input_ids"], 3: FEEDS["input_ids"]}, "no input is named '3'"),
        ({"\udc80": FEEDS["input_ids"]}, r"no input is named '\?'"),
        ({"input_ids\0": FEEDS["input_ids"]}, "no input is named 'input_ids"),
    ],
)
def test_bad_feeds(session: fastcpu.Session, feeds: dict[Any, Any], message: str) -> None:
    before = session.run(FEEDS)
    with pytest.raises(fastcpu.InputError, match=message):
        session.run(feeds)
    assert same(session.run(FEEDS), before)


def test_unaligned_arrays_are_read(session: fastcpu.Session) -> None:
    assert same(session.run({name: unaligned(array) for name, array in FEEDS.items()}), session.run(FEEDS))


@pytest.mark.parametrize("shift", [0, 1, 26])
def test_overlapping_outputs(session: fastcpu.Session, shift: int) -> None:
    memory = np.zeros(100, np.float32)
    out = {"start_logits": memory[:27].reshape(3, 9), "end_logits": memory[shift : shift + 27].reshape(3, 9)}
    with pytest.raises(fastcpu.InputError, match=r"out\['end_logits'\] overlaps the array of 'start_logits'"):
        session.run(FEEDS, out=out)


def test_neighbouring_outputs(session: fastcpu.Session) -> None:
    memory = np.zeros(54, np.float32).reshape(2, 3, 9)
    session.run(FEEDS, out={"start_logits": memory[0], "end_logits": memory[1]})
    assert same({"start_logits": memory[0], "end_logits": memory[1]}, session.run(FEEDS))


def test_unaligned_output(session: fastcpu.Session) -> None:
    with pytest.raises(fastcpu.InputError, match=r"out\['start_logits'\].*not aligned"):
        session.run(FEEDS, out={"start_logits": unaligned(np.zeros((3, 9), np.float32))})


def test_required_token_types_are_required_in_every_form(seeds: dict[str, Model], tmp_path: Path) -> None:
    model = seeds["f32"].copy()
    for graph_input in model.graph["inputs"]:
        graph_input["optional"] = False
    session = fastcpu.Session(model.write(tmp_path / "m"))
    ids = FEEDS["input_ids"]
    for feeds in ({"input_ids": ids, "attention_mask": ids}, {"input_ids": list(ids)}):
        with pytest.raises(fastcpu.InputError, match="'token_type_ids' is missing"):
            session.run(feeds)
    zeros = np.zeros_like(ids)
    padded = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": zeros})
    assert same(session.run({"input_ids": list(ids), "token_type_ids": list(zeros)}), padded)
