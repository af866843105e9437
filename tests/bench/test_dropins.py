"""The benchmark of the drop-ins: a peer in our wrappers gives its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.dropins.cases import CASES, find_case
from bench.dropins.peer import PeerSession
from bench.e2e.protocol import Answers, Engine
from bench.inputs import Feeds, Shape
from bench.models import PreparedModel, find_spec

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Recorder(Engine):
    """Answers hidden states that are the token ids, in two channels, and remembers what it was fed."""

    name = "recorder"
    packages = ()
    precision = "fp32"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None: ...

    def load(self, threads: int) -> None: ...

    def use(self, variant: str, shape: Shape) -> None: ...

    def run(self, feeds: Feeds) -> Answers:
        self.fed = feeds
        return {"last_hidden_state": np.stack([feeds["input_ids"], feeds["input_ids"] ** 2], -1).astype(np.float32)}


def session(engine: Engine, **options: Any) -> PeerSession:
    model = PreparedModel("minilm", 0.0, NAMES, ("last_hidden_state",), 100, "", Path())
    return PeerSession(engine, model, Path("model"), 2, per_token=True, **({"pooled": True} | options))


def test_sequences_are_padded_and_pooled() -> None:
    engine = Recorder({})
    peer = session(engine)
    rows = {"input_ids": [np.array([3, 4]), np.array([5])], "token_type_ids": [np.array([0, 1]), np.array([1])]}
    outputs = peer.run(rows)
    np.testing.assert_array_equal(engine.fed["input_ids"], [[3, 4], [5, 0]])
    np.testing.assert_array_equal(engine.fed["attention_mask"], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(engine.fed["token_type_ids"], [[0, 1], [1, 0]])
    means = np.array([[3.5, 12.5], [5, 25]])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["sentence_embedding"], expected, rtol=1e-6)
    assert [(output.name, output.dims) for output in peer.outputs] == [
        ("last_hidden_state", ("batch", "sequence", 2)),
        ("sentence_embedding", ("batch", 2)),
    ]


def test_arrays_are_passed_on() -> None:
    engine = Recorder({})
    feeds = {name: np.ones((2, 3), np.int64) for name in NAMES}
    assert list(session(engine, pooled=False).run(feeds)) == ["last_hidden_state"]
    assert all(engine.fed[name] is feeds[name] for name in NAMES)
    assert [spec.role for spec in session(engine).inputs] == ["ids", "mask", "types"]


def test_cases_name_models() -> None:
    for case in CASES:
        assert find_case(case.name) is case
        assert find_spec(case.model).per_token == (case.task != "text-classification")
    with pytest.raises(ValueError, match="no case 'nonsense'; there are classification"):
        find_case("nonsense")
