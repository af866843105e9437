"""Messages over pipes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from bench import wire


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_messages_keep_header_names_types_and_shapes(pipe: tuple[int, int]) -> None:
    groups = [
        {"ids": np.arange(6, dtype=np.int64).reshape(2, 3), "mask": np.ones((2, 0), np.int8)},
        {"value": np.float32(1.5).reshape(())},
        {},
    ]
    wire.send(pipe[1], {"do": "answers", "count": 3}, groups)
    wire.send(pipe[1], {"do": "next"})
    header, received = wire.receive(pipe[0])
    assert header == {"do": "answers", "count": 3}
    assert [list(group) for group in received] == [["ids", "mask"], ["value"], []]
    for sent, got in zip(groups, received, strict=True):
        for name, array in sent.items():
            assert got[name].dtype == array.dtype
            assert got[name].shape == array.shape
            np.testing.assert_array_equal(got[name], array)
    assert wire.receive(pipe[0]) == ({"do": "next"}, [])


def test_messages_larger_than_the_pipe(pipe: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(size=(400, 1000))
    sender = threading.Thread(target=wire.send, args=(pipe[1], {}, [{"a": array}]))
    sender.start()
    _, received = wire.receive(pipe[0], timeout=30)
    sender.join()
    np.testing.assert_array_equal(received[0]["a"], array)


def test_strided_arrays_are_sent_by_value(pipe: tuple[int, int]) -> None:
    array = np.arange(12).reshape(3, 4).T[::2]
    wire.send(pipe[1], {}, [{"a": array}])
    np.testing.assert_array_equal(wire.receive(pipe[0])[1][0]["a"], array)


def test_silence_times_out(pipe: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        wire.receive(pipe[0], timeout=0.05)


def test_a_closed_pipe_is_end_of_file(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"\x05\x00")
    os.close(pipe[1])
    with pytest.raises(EOFError):
        wire.receive(pipe[0], timeout=5)
