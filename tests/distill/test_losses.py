"""Each loss against NumPy in double precision; tests/conformance/test_losses.py has what all of them do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.distill.losses import LOSSES, Outputs
from fastcpu.distill.losses.hidden import layer_map
from fastcpu.distill.losses.loss import NO_LABEL, Projections

torch = pytest.importorskip("torch")

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)


def make(seed: int, layers: int = 3, width: int = 6, heads: int = 2) -> Outputs:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, requires_grad=True)

    return Outputs(
        MASK,
        torch.nn.functional.normalize(draw(3, 8), dim=-1),
        {"logits": draw(3, 4), "start_logits": draw(3, 5), "token_logits": draw(3, 5, 2)},
        tuple(draw(3, 5, 6) for _ in range(layers)),
        Projections(*(draw(3, 5, width) for _ in range(3)), heads),
    )


def test_embedding_and_similarity() -> None:
    student, teacher = make(0), make(1)
    s, t = (each.embedding.detach().numpy().astype(np.float64) for each in (student, teacher))
    assert LOSSES["embedding"].value(student, teacher).item() == pytest.approx(1 - (s * t).sum(1).mean(), rel=1e-5)
    squares = (s @ s.T - t @ t.T) ** 2
    assert LOSSES["similarity"].value(student, teacher).item() == pytest.approx(squares.sum() / 6, rel=1e-5)


def test_neighbors_are_those_of_the_teacher_among_other_texts() -> None:
    student, teacher = make(0), make(1)
    s, t = (each.embedding.detach().numpy().astype(np.float64) for each in (student, teacher))

    def expected(others: np.ndarray, places: list[int]) -> float:
        total = 0.0
        for b, place in enumerate(places):
            rest = np.delete(others, place, axis=0) if place >= 0 else others
            p, q = softmax(s[b] @ rest.T / 0.05), softmax(t[b] @ rest.T / 0.05)
            total += float((q * np.log(q / p)).sum())
        return total / len(places)

    assert LOSSES["neighbors"].value(student, teacher).item() == pytest.approx(expected(t, [0, 1, 2]), rel=1e-4)
    others = np.random.default_rng(0).standard_normal((20, 8))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    others[7] = t[1]
    many = replace(teacher, others=torch.from_numpy(others).float(), places=torch.tensor([-1, 7, -1]))
    assert LOSSES["neighbors"].value(student, many).item() == pytest.approx(expected(others, [-1, 7, -1]), rel=1e-4)


@pytest.mark.parametrize("temperature", [2.0, 5.0])
def test_logits_are_a_softened_divergence(temperature: float) -> None:
    student, teacher = make(0), replace(make(1), temperature=temperature)

    def divergence(x: np.ndarray, y: np.ndarray) -> float:
        p, q = softmax(x / temperature), softmax(y / temperature)
        return float((q * np.log(q / p)).sum(-1).mean())

    mine, theirs = (
        {k: v.detach().numpy().astype(np.float64) for k, v in each.logits.items()} for each in (student, teacher)
    )
    mask = MASK.numpy()
    starts = [divergence(mine["start_logits"][b, m], theirs["start_logits"][b, m]) for b, m in enumerate(mask)]
    tokens = divergence(mine["token_logits"][mask], theirs["token_logits"][mask])
    expected = temperature**2 * (divergence(mine["logits"], theirs["logits"]) + np.mean(starts) + tokens)
    assert LOSSES["logits"].value(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def softmax(x: np.ndarray) -> np.ndarray:
    exponent = np.exp(x - x.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def attention(query: torch.Tensor, key: torch.Tensor, heads: int, b: int) -> np.ndarray:
    """Probabilities [heads, tokens, tokens] among the real tokens of a text."""
    real = MASK[b].numpy()
    q, k = (np.stack(np.split(x.detach().numpy()[b][real].astype(np.float64), heads, -1)) for x in (query, key))
    return softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))


def divergence_of_attentions(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """mean over texts' tokens and heads, from (student, teacher) of each text."""
    per_token = [(q * np.log(q / p)).sum(-1).mean(0) for p, q in pairs]
    return float(np.concatenate(per_token).mean())


@pytest.mark.parametrize(("width", "heads"), [(6, 6), (8, 2), (24, 6), (7, 1)])
def test_relations_of_models_of_any_width(width: int, heads: int) -> None:
    """Relation heads are the common divisors of 48 and both widths, whatever the attention heads are."""
    student, teacher = make(0, heads=3), make(1, width=width, heads=width)
    assert student.projections is not None
    assert teacher.projections is not None
    parts = [
        divergence_of_attentions([(attention(s, s, heads, b), attention(t, t, heads, b)) for b in range(3)])
        for s, t in (
            (getattr(student.projections, name), getattr(teacher.projections, name))
            for name in ("query", "key", "value")
        )
    ]
    assert LOSSES["relations"].value(student, teacher).item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_attention_is_compared_head_by_head() -> None:
    student, teacher = make(0), make(1, width=10)
    s, t = student.projections, teacher.projections
    assert s is not None
    assert t is not None
    pairs = [(attention(s.query, s.key, 2, b), attention(t.query, t.key, 2, b)) for b in range(3)]
    expected = divergence_of_attentions(pairs)
    assert LOSSES["attention"].value(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="the student has 2 attention heads and the teacher 3; the loss relations"):
        LOSSES["attention"].value(student, make(1, heads=3))


def test_labels_are_a_cross_entropy() -> None:
    student, labels = make(0), [2, NO_LABEL, 0]
    p = softmax(student.logits["logits"].detach().numpy().astype(np.float64))
    expected = -(np.log(p[0, 2]) + np.log(p[2, 0])) / 2
    value = LOSSES["labels"].value(student, Outputs(MASK, labels=torch.tensor(labels)))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_as_many_classes_as_tokens() -> None:
    """Classes of a text are not taken for its tokens, some of which are padding."""
    student, teacher = (Outputs(MASK, logits={"logits": make(seed).logits["start_logits"]}) for seed in (0, 1))
    padded, alone = LOSSES["logits"].value(student, teacher), Outputs(torch.ones(3, 9, dtype=torch.bool))
    expected = LOSSES["logits"].value(Outputs(alone.mask, logits=student.logits), teacher)
    assert padded.item() == expected.item()


def test_layers_are_mapped_by_relative_depth() -> None:
    assert layer_map(3, 6) == [0, 2, 4, 6]
    assert layer_map(6, 6) == [0, 1, 2, 3, 4, 5, 6]
    assert layer_map(4, 12) == [0, 3, 6, 9, 12]


def test_layers_are_mapped_as_a_recipe_says() -> None:
    student, teacher = make(0), make(1)
    assert student.hidden is not None
    assert teacher.hidden is not None
    mine, theirs = (
        [each.detach().numpy()[MASK.numpy()].astype(np.float64) for each in side.hidden] for side in (student, teacher)
    )
    layers = len(mine) - 1
    given = tuple(range(layers, 0, -1))
    pairs = zip(mine[1:], (theirs[layer] for layer in given), strict=True)
    expected = np.mean([(((s - t) ** 2).sum(-1) / (t**2).sum(-1)).mean() for s, t in pairs])
    value = LOSSES["hidden"].value(student, replace(teacher, layer_map=given))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    for wrong in ((1,) * (layers + 1), (layers + 1,) * layers, (0,) * layers):
        with pytest.raises(InputError, match=rf"names a layer of the teacher, 1 to {layers}, for each of the student"):
            LOSSES["hidden"].value(student, replace(teacher, layer_map=wrong))
