"""The cache of results: bounded in bytes, and without what its entries were cut from."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from fastcpu.serve.cache import Cache
from fastcpu.tasks.classify import Classification


def test_without_capacity_nothing_is_kept() -> None:
    cache = Cache(0)
    cache.put("a", 1)
    assert not cache
    assert cache.get("a") is None
    assert cache.size == 0


def test_the_least_recently_used_goes_first() -> None:
    one = Cache(10_000)
    one.put("a", np.zeros(200, np.float32))
    cache = Cache(2 * one.size)
    for key in "ab":
        cache.put(key, np.zeros(200, np.float32))
    assert cache.get("a") is not None
    cache.put("c", np.zeros(200, np.float32))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None


def test_size_stays_within_capacity(rng: np.random.Generator) -> None:
    cache = Cache(100_000)
    for _ in range(2000):
        key = ("model", "text " * int(rng.integers(50)), int(rng.integers(300)))
        cache.put(key, np.zeros(int(rng.integers(3000)), np.float32))
        assert 0 < cache.size <= 100_000
    cache.forget("model")
    assert cache.size == 0


def test_what_is_put_again_counts_once() -> None:
    cache = Cache(10_000)
    cache.put("a", np.zeros(100, np.float32))
    size = cache.size
    cache.put("a", np.ones(100, np.float32))
    assert cache.size == size
    assert cache.get("a")[0] == 1


def test_what_is_larger_than_the_cache_is_not_kept_and_displaces_nothing() -> None:
    cache = Cache(2000)
    cache.put("a", np.zeros(100, np.float32))
    cache.put("b", np.zeros(1000, np.float32))
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_a_row_does_not_keep_its_batch_alive() -> None:
    cache = Cache(1_000_000)
    batch = np.ones((1000, 16), np.float32)
    gone = weakref.ref(batch)
    cache.put("array", batch[3])
    cache.put("nested", (batch[4], [batch[5]]))
    del batch
    gc.collect()
    assert gone() is None
    assert cache.get("array").tolist() == [1] * 16
    assert cache.get("nested")[1][0].tolist() == [1] * 16


def test_results_that_are_objects_count_with_what_they_hold() -> None:
    cache = Cache(1_000_000)
    numbers = tuple(map(float, range(1000)))
    cache.put("a", Classification("x", 1.0, numbers, numbers))
    assert cache.size > 2 * 1000 * 24


def test_only_keys_of_that_model_are_forgotten() -> None:
    cache = Cache(10_000)
    cache.put(("one", "text"), 1)
    cache.put(("two", "text"), 2)
    cache.put("one", 3)
    cache.forget("one")
    assert cache.get(("one", "text")) is None
    assert cache.get(("two", "text")) == 2
    assert cache.get("one") == 3
