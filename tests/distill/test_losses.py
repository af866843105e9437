"""Each loss against NumPy, and what every loss of the registry must do."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu.distill.losses import LOSSES, Outputs
from fastcpu.distill.losses.hidden import layer_map

torch = pytest.importorskip("torch")

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)


def make(seed: int, layers: int = 3) -> Outputs:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, requires_grad=True)

    return Outputs(
        MASK,
        torch.nn.functional.normalize(draw(3, 8), dim=-1),
        {"logits": draw(3, 4), "start_logits": draw(3, 5), "token_logits": draw(3, 5, 2)},
        tuple(draw(3, 5, 6) for _ in range(layers)),
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_least_where_the_student_is_its_teacher(name: str) -> None:
    student, teacher = make(0), make(1)
    loss = LOSSES[name]
    value = loss.value(student, teacher)
    assert value.shape == ()
    assert value.item() > 0.01
    assert loss.value(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_has_a_gradient_and_reads_its_part_only(name: str) -> None:
    student, teacher = make(0), make(1)
    loss = LOSSES[name]
    part = {field: getattr(student, field) for field in (loss.part,)}
    other = {field: getattr(teacher, field) for field in (loss.part,)}
    value = loss.value(Outputs(MASK, **part), Outputs(MASK, **other))
    leaves = [part["embedding"]] if loss.part == "embedding" else list(_tensors(part[loss.part]))
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["hidden", "logits"])
def test_padding_does_not_count(name: str) -> None:
    student, teacher = make(0), make(1)
    before = LOSSES[name].value(student, teacher).item()
    with torch.no_grad():
        for tensor in (*student.hidden[:], student.logits["start_logits"], student.logits["token_logits"]):
            tensor[~MASK] += 100
    assert LOSSES[name].value(student, teacher).item() == pytest.approx(before, rel=1e-6)


def _tensors(part: object) -> list[torch.Tensor]:
    return list(part.values()) if isinstance(part, dict) else list(part)  # type: ignore[call-overload]


def test_embedding_and_similarity() -> None:
    student, teacher = make(0), make(1)
    s, t = (each.embedding.detach().numpy().astype(np.float64) for each in (student, teacher))
    assert LOSSES["embedding"].value(student, teacher).item() == pytest.approx(1 - (s * t).sum(1).mean(), rel=1e-5)
    squares = (s @ s.T - t @ t.T) ** 2
    assert LOSSES["similarity"].value(student, teacher).item() == pytest.approx(squares.sum() / 6, rel=1e-5)


def test_logits_are_a_softened_divergence() -> None:
    student, teacher = make(0), make(1)

    def softmax(x: np.ndarray) -> np.ndarray:
        exponent = np.exp((x - x.max(-1, keepdims=True)) / 2)
        return exponent / exponent.sum(-1, keepdims=True)

    def divergence(x: np.ndarray, y: np.ndarray) -> float:
        p, q = softmax(x), softmax(y)
        return float((q * np.log(q / p)).sum(-1).mean())

    mine, theirs = (
        {k: v.detach().numpy().astype(np.float64) for k, v in each.logits.items()} for each in (student, teacher)
    )
    mask = MASK.numpy()
    starts = [divergence(mine["start_logits"][b, m], theirs["start_logits"][b, m]) for b, m in enumerate(mask)]
    tokens = divergence(mine["token_logits"][mask], theirs["token_logits"][mask])
    expected = 4 * (divergence(mine["logits"], theirs["logits"]) + np.mean(starts) + tokens)
    assert LOSSES["logits"].value(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_layers_are_mapped_by_relative_depth() -> None:
    assert layer_map(3, 6) == [0, 2, 4, 6]
    assert layer_map(6, 6) == [0, 1, 2, 3, 4, 5, 6]
    assert layer_map(4, 12) == [0, 3, 6, 9, 12]
