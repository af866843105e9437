"""The attention that models train with is that of transformers, forwards and backwards."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import InputError, _core

torch = pytest.importorskip("torch")

from fastcpu.distill.model import choose_attention  # noqa: E402  (needs torch)
from fastcpu.frontend.torch_export import set_attention  # noqa: E402
from tests.frontend import tiny  # noqa: E402

LENGTHS = (7, 1, 12, 33)


def batch(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [4, 33] and a mask of the lengths above."""
    ids = torch.from_numpy(rng.integers(5, tiny.VOCABULARY, (len(LENGTHS), max(LENGTHS))))
    return ids, torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)


def answers(module: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """The first output of real tokens, and what its sum of squares wants of every parameter."""
    module.zero_grad()
    output = module(input_ids=ids, attention_mask=mask.long())[0]
    real = output[mask] if output.shape[:2] == mask.shape else output
    real.float().square().sum().backward()
    return [real.detach(), *(p.grad for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "name",
    ["BertModel", "DistilBertModel", "RobertaModel", "ElectraModel", "AlbertModel", "MPNetModel"],
)
def test_it_is_plain_attention(rng: np.random.Generator, name: str, autocast: bool) -> None:
    module = copy.deepcopy(tiny.model(name)).train()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    ids, mask = batch(rng)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        set_attention(module, "eager")
        want = answers(module, ids, mask)
        choose_attention(module, "cpu")
        found = answers(module, ids, mask)
    near = {"rtol": 0.1, "atol": 0.1} if autocast else {"rtol": 1e-4, "atol": 1e-4}
    largest = max(each.abs().max() for each in want[1:])
    for mine, theirs in zip(found, want, strict=True):
        scale = max(theirs.abs().max(), largest / 100)  # those of the biases of keys are 0 but for rounding
        torch.testing.assert_close(mine / scale, theirs / scale, **near)


def test_dropout_and_no_mask_are_taken(rng: np.random.Generator) -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    choose_attention(module, "cpu")
    ids, mask = batch(rng)
    whole = module.eval()(input_ids=ids)[0]
    torch.testing.assert_close(whole, module(input_ids=ids, attention_mask=torch.ones_like(ids))[0])
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    first, second = (module.train()(input_ids=ids, attention_mask=mask.long())[0] for _ in range(2))
    assert first.isfinite().all()
    assert not torch.equal(first, second)


def test_masks_with_gaps_are_refused(rng: np.random.Generator) -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    choose_attention(module, "cpu")
    ids, mask = batch(rng)
    for wrong in (mask.flip(1), torch.zeros_like(mask)):
        with pytest.raises(InputError, match="padded at their end, of at least one token"):
            module(input_ids=ids, attention_mask=wrong.long())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forward(lengths=np.array([5, 6])), "'lengths' must be from 1 to 5"),
        (lambda: forward(lengths=np.array([5, 0])), "'lengths' must be from 1 to 5"),
        (lambda: forward(lengths=np.zeros((0,), np.int64)), "'lengths' must be a vector"),
        (lambda: forward(lengths=np.array([2, 2, 2])), "'q' must be of equally many rows"),
        (lambda: forward(heads=3), "'heads' must be a divisor"),
        (lambda: forward(heads=0), "'heads' must be a divisor"),
        (lambda: forward(k=np.zeros((10, 8), np.uint16)), "'k' must be of the dtype of 'q'"),
        (lambda: forward(o=np.zeros((10, 8), np.uint16)), "'o' must be of the dtype of 'q'"),
        (lambda: forward(v=np.zeros((10, 4), np.float32)), r"'v' must be of shape \[10, 8\]"),
        (lambda: forward(q=np.zeros((10, 8))), "'q' must be float32"),
        (lambda: forward(threads=0), "'threads' must be at least 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def forward(heads: int = 2, threads: int = 1, **changes: NDArray[np.generic]) -> None:
    arrays = {name: np.zeros((10, 8), np.float32) for name in "qkvo"} | {"lengths": np.array([5, 5])} | changes
    _core.attention_forward(**arrays, heads=heads, scale=1.0, threads=threads)
