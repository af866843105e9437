"""Concurrent runs, forked children, and the pool."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu.export.writer import write_model
from tests.reference import graphs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(graphs.encoder(layers=3), tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_callers_get_their_own_answers(model: Path, threads: int) -> None:
    session = fastcpu.Session(model, threads=threads)
    feeds = [graphs.batch(rows=rows, length=length, seed=rows) for rows, length in [(1, 3), (2, 24), (7, 11), (33, 20)]]
    expected = [session.run(feed)["last_hidden_state"] for feed in feeds]
    wrong: list[int] = []

    def call(index: int) -> None:
        answers = (session.run(feeds[index])["last_hidden_state"] for _ in range(30))
        wrong.extend(index for answer in answers if not np.array_equal(answer, expected[index]))

    callers = [threading.Thread(target=call, args=(i % 4,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_two_sessions_share_the_pool(model: Path) -> None:
    first, second = fastcpu.Session(model, threads=2), fastcpu.Session(model, threads=3)
    for seed in range(10):
        feeds = graphs.batch(rows=6, length=20, seed=seed)
        np.testing.assert_array_equal(first.run(feeds)["last_hidden_state"], second.run(feeds)["last_hidden_state"])


@pytest.mark.parametrize("quantize", ["dynamic", "static"])
def test_few_tokens_of_a_sparse_model_are_shared_without_a_trace(quantize: str, tmp_path: Path, each_isa: str) -> None:
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    module = BertModel(BertConfig(vocab_size=100, max_position_embeddings=64, **sizes), add_pooling_layer=False).eval()
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 100, length) for length in (20, 3, 13, 9, 20, 20, 11, 4, 20, 17, 20, 20)]
    ids = rng.integers(5, 100, (4, 20))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    calibration = {"calibration": [batch]} if quantize == "static" else {}
    model = fastcpu.compile(module, tmp_path / "m", quantize=quantize, sparsity=0.9, **calibration)
    first, *others = (fastcpu.Session(model.directory, threads=threads) for threads in (1, 2, 3, 4))
    assert first.isa == each_isa
    linears = [each for each in first.ops() if each["packed_bytes"]]
    stored = sum(each["packed_bytes"] for each in linears)
    whole = sum(each["macs_per_token"] / each["density"] for each in linears)
    assert stored <= whole / 2, "the weights are light, so that tiles may be narrow"
    for count in range(1, len(rows) + 1):
        want = first.run({"input_ids": rows[:count]})
        for session in others:
            got = session.run({"input_ids": rows[:count]})
            for name, array in want.items():
                np.testing.assert_array_equal(got[name], array, err_msg=f"{count} {name} {session.threads}")


def _child(session: fastcpu.Session, feeds: dict[str, np.ndarray], results: object) -> None:
    results.put(session.run(feeds)["last_hidden_state"])  # type: ignore[attr-defined]


def test_a_forked_child_can_run_the_parents_session(model: Path) -> None:
    session = fastcpu.Session(model, threads=2)
    feeds = graphs.batch(rows=9, length=20)
    expected = session.run(feeds)["last_hidden_state"]
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    children = [fork.Process(target=_child, args=(session, feeds, results)) for _ in range(3)]
    for child in children:
        child.start()
    answers = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)
    np.testing.assert_array_equal(session.run(feeds)["last_hidden_state"], expected)


def test_the_gil_is_released(model: Path) -> None:
    """A Python thread makes progress while another one is inside run()."""
    session = fastcpu.Session(model, threads=1)
    feeds = graphs.batch(rows=64, length=24)
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    for _ in range(20):
        session.run(feeds)
    done.set()
    ticker.join()
    assert ticks > 20
