"""Session on f32 graphs: answers, ragged and padded input, kept values, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu.export.writer import write_model
from tests.reference import executor, graphs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(graphs.encoder(), tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
@pytest.mark.parametrize("threads", [1, 2])
def test_f32_graphs_give_the_bits_of_the_reference(head: Any, threads: int, tmp_path: Path, each_isa: str) -> None:
    graph = graphs.encoder(head=head, causal=head == "qa")
    session = fastcpu.Session(write_model(graph, tmp_path / "m"), threads=threads)
    assert session.isa == each_isa
    feeds = graphs.batch(rows=5, length=17)
    got, expected = session.run(feeds), executor.run(graph, feeds)
    assert set(got) == {output.name for output in session.outputs} == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 24])
def test_ragged_padded_and_alone_are_the_same(model: Path, length: int, rng: np.random.Generator) -> None:
    session = fastcpu.Session(model, threads=2)
    lengths = rng.integers(1, length + 1, 9)
    lengths[0] = length
    rows = [rng.integers(0, 50, n) for n in lengths]
    padded = np.zeros((9, length), np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    mask = np.arange(length) < lengths[:, None]
    together = session.run({"input_ids": rows})["last_hidden_state"]
    assert together.shape == (9, length, 16)
    np.testing.assert_array_equal(
        together, session.run({"input_ids": padded, "attention_mask": mask})["last_hidden_state"]
    )
    for b, ids in enumerate(rows):
        alone = session.run({"input_ids": ids[None]})["last_hidden_state"][0]
        np.testing.assert_array_equal(together[b, : len(ids)], alone)
        assert not together[b, len(ids) :].any()


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_is_its_rows(head: Any, threads: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Batches of 2048 tokens and more are run in parts; one that keeps values is not."""
    path = write_model(graphs.encoder(head=head), tmp_path / "m")
    session, whole = fastcpu.Session(path, threads=threads), fastcpu.Session(path, keep=["*"])
    for rows, length in ((150, 24), (2500, 1), (86, 24)):
        ids, types = rng.integers(1, 50, (rows, length)), rng.integers(0, 2, (rows, length))
        mask = rng.random((rows, length)) < 0.97
        mask[rng.integers(0, rows, 5)] = False
        mask[-3:] = False
        feeds = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        expected, got = whole.run(feeds), session.run(feeds)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
            np.testing.assert_array_equal(session.run(feeds, outputs=[name])[name], array)
        lengths = rng.integers(1, length + 1, rows)
        ragged = {name: [row[:n] for row, n in zip(array, lengths, strict=True)] for name, array in feeds.items()}
        del ragged["attention_mask"]
        expected, got = whole.run(ragged), session.run(ragged)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)


def test_a_long_sequence_before_many_short_ones(model: Path, rng: np.random.Generator) -> None:
    session, whole = fastcpu.Session(model, threads=2), fastcpu.Session(model, keep=["*"])
    ids = [rng.integers(1, 50, n) for n in [24, *[1] * 1500, *[24] * 60]]
    np.testing.assert_array_equal(
        session.run({"input_ids": ids})["last_hidden_state"], whole.run({"input_ids": ids})["last_hidden_state"]
    )


def test_a_bad_row_at_the_end_of_a_large_batch_is_named(model: Path) -> None:
    session = fastcpu.Session(model)
    ids = np.ones((150, 24), np.int64)
    ids[149, 3] = 50
    out = np.full((150, 24, 16), np.nan, np.float32)
    with pytest.raises(fastcpu.InputError, match="50"):
        session.run({"input_ids": ids}, out={"last_hidden_state": out})
    assert np.isnan(out).all()


def test_a_mask_with_holes_keeps_columns_and_positions(model: Path) -> None:
    graph, session = graphs.encoder(), fastcpu.Session(model)
    feeds = graphs.batch(rows=4, length=12)
    feeds["attention_mask"][1] = [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0]
    feeds["attention_mask"][2] = 0
    expected = executor.run(graph, feeds)["last_hidden_state"]
    got = session.run(feeds)["last_hidden_state"]
    np.testing.assert_array_equal(got, expected)
    assert not got[2].any()


def test_integer_types_and_layouts_are_equal(model: Path) -> None:
    session, feeds = fastcpu.Session(model), graphs.batch()
    expected = session.run(feeds)["last_hidden_state"]
    as_int32 = {name: np.asfortranarray(array.astype(np.int32)) for name, array in feeds.items()}
    as_int32["attention_mask"] = feeds["attention_mask"].astype(bool)
    np.testing.assert_array_equal(session.run(as_int32)["last_hidden_state"], expected)


@pytest.mark.parametrize("dtype", [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)])
def test_every_integer_type_is_read(model: Path, dtype: str) -> None:
    session, feeds = fastcpu.Session(model), graphs.batch()
    expected = session.run(feeds)["last_hidden_state"]
    typed = {name: array.astype(dtype) for name, array in feeds.items()}
    np.testing.assert_array_equal(session.run(typed)["last_hidden_state"], expected)
    rows = [row[mask == 1] for row, mask in zip(feeds["input_ids"], feeds["attention_mask"], strict=True)]
    np.testing.assert_array_equal(
        session.run({"input_ids": [row.astype(dtype) for row in rows]})["last_hidden_state"],
        session.run({"input_ids": rows})["last_hidden_state"],
    )


def test_positions_are_columns_and_the_first_token_is_the_first_real_one(tmp_path: Path) -> None:
    """A row padded on the left has the positions of its columns; pooling passes over the padding."""
    session = fastcpu.Session(write_model(graphs.encoder(head="classifier"), tmp_path / "m"))
    ids = np.array([[0, 0, 3, 4, 5]])
    (name,) = session.run({"input_ids": ids})
    padded = session.run({"input_ids": ids, "attention_mask": ids > 0})[name]
    np.testing.assert_array_equal(
        padded, executor.run(graphs.encoder(head="classifier"), {"input_ids": ids, "attention_mask": ids > 0})[name]
    )
    assert (padded != session.run({"input_ids": [ids[0, 2:]]})[name]).any()
    other_padding = np.array([[9, 9, 3, 4, 5]])
    np.testing.assert_array_equal(session.run({"input_ids": other_padding, "attention_mask": ids > 0})[name], padded)


def test_optional_inputs_default(model: Path) -> None:
    session, feeds = fastcpu.Session(model), graphs.batch()
    feeds["attention_mask"][:] = 1
    feeds["token_type_ids"][:] = 0
    expected = session.run(feeds)["last_hidden_state"]
    np.testing.assert_array_equal(session.run({"input_ids": feeds["input_ids"]})["last_hidden_state"], expected)


def test_out_is_written_and_returned(model: Path) -> None:
    session, feeds = fastcpu.Session(model), graphs.batch()
    out = {"last_hidden_state": np.full((3, 9, 16), np.nan, np.float32)}
    result = session.run(feeds, out=out)
    assert result["last_hidden_state"] is out["last_hidden_state"]
    np.testing.assert_array_equal(out["last_hidden_state"], session.run(feeds)["last_hidden_state"])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_only_other_outputs_need_is_not_computed(tmp_path: Path, threads: int) -> None:
    session = fastcpu.Session(write_model(graphs.written_out().graph, tmp_path / "m"), threads=threads, profile=True)
    for rows in (1, 3, 40):
        feeds = graphs.batch(rows)
        expected = session.run(feeds)
        for names in (["hidden"], ["logits"], ("logits", "hidden", "logits")):
            got = session.run(feeds, outputs=names)
            assert set(got) == set(names)
            for name, array in got.items():
                np.testing.assert_array_equal(array, expected[name])
    session.reset_profile()
    out = np.empty((1, 9, 16), np.float32)
    assert session.run(graphs.batch(1), {"hidden": out}, ["hidden"])["hidden"] is out
    macs = {op["name"]: op["macs"] for op in session.ops()}
    assert macs["fc1"] == macs["fc2"] > 0 == macs["head"] == macs["unread"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("keep", [["*"], ["hidden", "unread.out"], ["logits"]])
def test_what_is_kept_and_what_is_asked_for(tmp_path: Path, keep: list[str], threads: int) -> None:
    path = write_model(graphs.written_out().graph, tmp_path / "m")
    session, feeds = fastcpu.Session(path, threads=threads, keep=keep), graphs.batch()
    expected = fastcpu.Session(path).run(feeds)
    for name in expected:
        np.testing.assert_array_equal(session.run(feeds, outputs=[name])[name], expected[name])
    if "logits" not in keep:
        assert session.run_kept(feeds, ["unread.out"])[1]["unread.out"].any(), "though no output needs it"


@pytest.mark.parametrize("threads", [1, 2])
def test_one_of_many_outputs(tmp_path: Path, threads: int) -> None:
    """More than a set of 64 bits tells apart."""
    builder = graphs.written_out()
    for number in range(70):
        builder.output(f"h{number}", builder.linear(f"linear{number}", "norm1.out", 4))
    session, feeds = fastcpu.Session(write_model(builder.graph, tmp_path / "m"), threads=threads), graphs.batch()
    expected = session.run(feeds)
    assert len(expected) == 72
    for name in ("hidden", "logits", "h0", "h61", "h62", "h69"):
        got = session.run(feeds, outputs=[name])
        assert list(got) == [name]
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize(
    ("outputs", "out", "message"),
    [
        (["nothing"], None, "no output is named 'nothing'"),
        ([], None, "outputs names no output"),
        ("hidden", None, "outputs must be a list of names, not 'hidden'"),
        ([3], None, r"outputs must be a list of names, not \[3\]"),
        (["hidden"], {"logits": np.empty((3, 9, 4), np.float32)}, "out has an array for 'logits', which outputs does"),
    ],
)
def test_outputs_that_cannot_be_asked_for(tmp_path: Path, outputs: Any, out: Any, message: str) -> None:
    session = fastcpu.Session(write_model(graphs.written_out().graph, tmp_path / "m"))
    with pytest.raises(fastcpu.InputError, match=message):
        session.run(graphs.batch(), out, outputs)


def test_kept_values_are_those_of_the_reference(model: Path) -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    session = fastcpu.Session(model, keep=["*"])
    names = ["layer0.fc1.out", "layer1.norm1.out", "embedded"]
    outputs, kept = session.run_kept(feeds, names)
    taps = next(executor.taps(graph, [feeds], names, exact=True))
    for name in names:
        np.testing.assert_array_equal(kept[name], taps[name], err_msg=name)
    np.testing.assert_array_equal(outputs["last_hidden_state"], fastcpu.Session(model).run(feeds)["last_hidden_state"])


IDS = np.ones((2, 5), np.int64)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'input_ids' is missing"),
        ({"ids": IDS}, "no input is named 'ids'.*'input_ids'"),
        (
            {"input_ids": IDS.astype(np.float32)},
            "'input_ids' has dtype float32, expected int8 to int64, uint8 to uint64",
        ),
        ({"input_ids": IDS.astype(bool)}, "'input_ids' has dtype bool, expected int8 to int64, uint8 to uint64, in"),
        ({"input_ids": [IDS[0].astype(bool)]}, "'input_ids' has dtype bool"),
        ({"input_ids": IDS, "attention_mask": IDS.astype(np.float64)}, "'attention_mask' has dtype float64.*, or bool"),
        ({"input_ids": IDS, "attention_mask": 2 * IDS}, "attention mask value 2 at row 0, column 0 is neither 0 nor 1"),
        ({"input_ids": IDS, "attention_mask": IDS - 2 * (IDS.cumsum(1) == 3)}, "mask value -1 at row 0, column 2"),
        ({"input_ids": IDS, "attention_mask": np.uint8([[0] * 5, [1, 1, 1, 0, 7]])}, "value 7 at row 1, column 4"),
        ({"input_ids": IDS, "attention_mask": IDS << 40}, "mask value 1099511627776 at row 0"),
        ({"input_ids": np.array([["a"]])}, "'input_ids' has dtype"),
        ({"input_ids": np.array([[None]])}, "'input_ids' has dtype"),
        ({"input_ids": IDS[0]}, "has 1 dimensions, expected 2"),
        ({"input_ids": IDS[None]}, "has 3 dimensions, expected 2"),
        ({"input_ids": np.int64(3)}, "has 0 dimensions, expected 2"),
        ({"input_ids": np.zeros((0, 5), np.int64)}, r"batch is empty: shape \[0, 5\]"),
        ({"input_ids": np.zeros((2, 0), np.int64)}, "batch is empty"),
        ({"input_ids": []}, "batch is empty"),
        ({"input_ids": [IDS[0], IDS[0, :0]]}, "sequence 1 is empty"),
        ({"input_ids": [IDS]}, "sequence 0 has 2 dimensions"),
        ({"input_ids": [IDS[0]], "attention_mask": [IDS[0]]}, "'attention_mask' is not used with a list"),
        ({"input_ids": [IDS[0]], "token_type_ids": IDS}, "'token_type_ids' must be a list"),
        ({"input_ids": [IDS[0]], "token_type_ids": [IDS[0], IDS[0]]}, "token types for 2 sequences, ids for 1"),
        ({"input_ids": [IDS[0]], "token_type_ids": [IDS[0, :3]]}, "sequence 0 has 5 ids but 3 token types"),
        ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"'attention_mask' has shape \[1, 5\].*\[2, 5\]"),
        ({"input_ids": IDS, "token_type_ids": IDS[:, :4]}, r"'token_type_ids' has shape \[2, 4\]"),
        ({"input_ids": np.full((2, 25), 1)}, "length 25 is too long: the model has 24 positions"),
        ({"input_ids": np.array([[1, 2, 50]])}, "token id 50 at row 0, column 2 is outside the table of 50"),
        ({"input_ids": np.array([[1], [-1]])}, "token id -1 at row 1, column 0"),
        ({"input_ids": np.array([[2**32 + 1]])}, "token id 4294967297 at row 0, column 0 is outside the table of 50"),
        ({"input_ids": np.array([[1, 2**63 - 1, -3]])}, "token id 9223372036854775807 at row 0, column 1"),
        ({"input_ids": np.array([[2**64 - 1]], np.uint64)}, "token id 18446744073709551615 at row 0, column 0"),
        ({"input_ids": np.array([[3, 2**32 - 1]], np.uint32)}, "token id 4294967295 at row 0, column 1"),
        ({"input_ids": np.array([[60, -(2**40)]])}, "token id 60 at row 0, column 0"),
        ({"input_ids": [IDS[0], np.array([1, -(2**40)])]}, "token id -1099511627776 at row 1, column 1"),
        ({"input_ids": np.array([[-128]], np.int8)}, "token id -128 at row 0"),
        ({"input_ids": IDS, "token_type_ids": IDS << 33}, "token type 8589934592 at row 0, column 0"),
        ({"input_ids": IDS, "token_type_ids": 2 * IDS}, "token type 2 at row 0"),
    ],
)
def test_bad_feeds_are_input_errors(model: Path, feeds: dict[str, Any], message: str) -> None:
    session = fastcpu.Session(model)
    with pytest.raises(fastcpu.InputError, match=message):
        session.run(feeds)
    assert np.isfinite(session.run(graphs.batch())["last_hidden_state"]).all()  # the session is still good


@pytest.mark.parametrize("feeds", [None, 3, "input_ids", [IDS]])
def test_feeds_that_are_no_mapping_are_input_errors(model: Path, feeds: Any) -> None:
    session = fastcpu.Session(model, keep=["embedded"])
    message = f"feeds must be a mapping of names to arrays, not {type(feeds).__name__}"
    with pytest.raises(fastcpu.InputError, match=message):
        session.run(feeds)
    with pytest.raises(fastcpu.InputError, match=message):
        session.run_kept(feeds, ["embedded"])
    with pytest.raises(fastcpu.InputError, match="names must be a list of names, not 'embedded'"):
        session.run_kept(graphs.batch(), "embedded")
    if feeds is not None:
        with pytest.raises(fastcpu.InputError, match="out must be a mapping"):
            session.run(graphs.batch(), out=feeds)


def test_padding_is_not_checked(model: Path) -> None:
    ids, mask = np.array([[1, 2, -100]]), np.array([[1, 1, 0]])
    assert fastcpu.Session(model).run({"input_ids": ids, "attention_mask": mask})["last_hidden_state"].shape == (
        1,
        3,
        16,
    )


def test_bad_out_arrays_are_input_errors(model: Path) -> None:
    session = fastcpu.Session(model)
    for bad in (
        np.zeros((3, 9, 15), np.float32),
        np.zeros((3, 9, 16)),
        np.zeros((3, 16, 9), np.float32).transpose(0, 2, 1),
    ):
        with pytest.raises(fastcpu.InputError, match=r"out\['last_hidden_state'\]"):
            session.run(graphs.batch(), out={"last_hidden_state": bad})  # type: ignore[dict-item]
    frozen = np.zeros((3, 9, 16), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(fastcpu.InputError, match="read-only"):
        session.run(graphs.batch(), out={"last_hidden_state": frozen})
    with pytest.raises(fastcpu.InputError, match="no output is named 'logits'"):
        session.run(graphs.batch(), out={"logits": frozen})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": -1}, "threads"),
        ({"threads": 100_000}, "threads"),
        *(
            ({"threads": bad}, rf"threads must be an int from 0 .* to 1024, not {re.escape(repr(bad))}$")
            for bad in ("2", 1.5, None, -1, 1025, 2**70, [2])
        ),
        ({"execution": "fast"}, "execution"),
        ({"execution": None}, "execution must be 'auto', 'dense' or 'sparse', not None"),
        ({"keep": ["nothing"]}, "nothing"),
        ({"keep": "*"}, r"keep must be a list of names, not '\*'"),
        ({"keep": None}, "keep must be a list of names, not None"),
        ({"keep": [3]}, r"keep must be a list of names, not \[3\]"),
    ],
)
def test_bad_options_are_input_errors(model: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(fastcpu.InputError, match=message):
        fastcpu.Session(model, **options)


@pytest.mark.parametrize("path", [None, 5, ["model"], object()])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(fastcpu.InputError, match=r"path must be that of a model directory, not "):
        fastcpu.Session(path)


def test_a_path_in_bytes(model: Path) -> None:
    assert fastcpu.Session(bytes(model)).path == str(model)
