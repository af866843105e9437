"""Seed models of the tests of bad input, and their answers."""

from __future__ import annotations

import pytest

from tests.runtime.hostile import FEEDS, KINDS, Answers, Model, outcome, seed_model


@pytest.fixture(scope="session")
def seeds() -> dict[str, Model]:
    return {kind: seed_model(kind) for kind in KINDS}


@pytest.fixture(scope="session")
def answers(seeds: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    good = {kind: outcome(seed.write(tmp_path_factory.mktemp(kind)), FEEDS) for kind, seed in seeds.items()}
    assert not [error for error in good.values() if isinstance(error, Exception)]
    return good  # type: ignore[return-value]
