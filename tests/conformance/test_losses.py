"""What every registered distillation loss does; tests/distill/test_losses.py compares each with NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from fastcpu import InputError
from fastcpu.distill.losses import LOSSES, Loss, Outputs
from fastcpu.distill.losses.loss import NO_LABEL, Projections

torch = pytest.importorskip("torch")

EVERY = pytest.mark.parametrize("name", sorted(LOSSES))
OF_A_TEACHER = pytest.mark.parametrize("name", sorted(name for name, loss in LOSSES.items() if loss.target != "labels"))
OF_LABELS = pytest.mark.parametrize("name", sorted(name for name, loss in LOSSES.items() if loss.target == "labels"))
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)
ROWS, LENGTH = MASK.shape
CLASSES, WIDTH, HEADS = 4, 12, 2


def make(seed: int, dtype: torch.dtype = torch.float32) -> Outputs:
    """Every part, as a classifier gives it, from leaves that want gradients; labels of all classes but the first."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_()

    return Outputs(
        MASK,
        torch.nn.functional.normalize(draw(ROWS, 8), dim=-1).detach().requires_grad_(),
        {"logits": draw(ROWS, CLASSES)},
        tuple(draw(ROWS, LENGTH, WIDTH) for _ in range(3)),
        Projections(*(draw(ROWS, LENGTH, WIDTH) for _ in range(3)), HEADS),
        torch.arange(1, ROWS + 1) % CLASSES,
    )


def mapped(part: Any, change: Any) -> Any:
    """A part of `Outputs` with every tensor changed."""
    if isinstance(part, torch.Tensor):
        return change(part)
    if isinstance(part, dict):
        return {name: mapped(each, change) for name, each in part.items()}
    if isinstance(part, tuple):
        return tuple(mapped(each, change) for each in part)
    if is_dataclass(part):
        return replace(part, **{field.name: mapped(getattr(part, field.name), change) for field in fields(part)})
    return part


def tensors(part: Any) -> Iterator[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(part, lambda tensor: found.append(tensor) or tensor)
    yield from found


def detached(outputs: Outputs) -> Outputs:
    return mapped(outputs, torch.Tensor.detach)  # type: ignore[no-any-return]


def only(loss: Loss, outputs: Outputs) -> Outputs:
    """What a loss may read of a student."""
    return Outputs(outputs.mask, **{loss.part: getattr(outputs, loss.part)})


def target_of(loss: Loss, outputs: Outputs) -> Outputs:
    """What a loss may read of its target."""
    return Outputs(outputs.mask, labels=outputs.labels) if loss.target == "labels" else only(loss, outputs)


def with_part(loss: Loss, outputs: Outputs, change: Any) -> Outputs:
    return replace(outputs, **{loss.part: mapped(getattr(outputs, loss.part), change)})


@EVERY
def test_it_is_positive_and_reads_its_part_and_its_target_alone(name: str) -> None:
    loss, student, other = LOSSES[name], make(0), make(1)
    assert loss.name == name
    value = loss.value(student, other)
    assert value.shape == ()
    assert value.item() > 0.01
    assert loss.value(only(loss, student), target_of(loss, other)).item() == value.item()
    assert loss.value(student, other).item() == value.item()


@OF_A_TEACHER
def test_it_is_zero_where_the_student_is_its_teacher(name: str) -> None:
    teacher = make(1)
    value = LOSSES[name].value(teacher, teacher)
    assert value.item() == pytest.approx(0, abs=1e-6)
    value = LOSSES[name].value(teacher, detached(teacher))
    gradients = torch.autograd.grad(value, list(tensors(getattr(teacher, LOSSES[name].part))), allow_unused=True)
    directions = [g for g in gradients if g is not None]
    if LOSSES[name].part == "embedding":  # on the sphere: what is left points outward
        (gradient,), (vectors,) = directions, tensors(teacher.embedding)
        directions = [gradient - (gradient * vectors).sum(-1, keepdim=True) * vectors]
    assert all(gradient.abs().max() < 1e-5 for gradient in directions)


@EVERY
def test_a_step_against_its_gradient_makes_it_smaller(name: str) -> None:
    loss, student, other = LOSSES[name], make(0, torch.float64), make(1, torch.float64)
    leaves = list(tensors(getattr(student, loss.part)))
    value = loss.value(student, other)
    gradients = iter(torch.autograd.grad(value, leaves, allow_unused=True))

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        gradient = next(gradients)
        return tensor.detach() - (0 if gradient is None else 1e-3 * gradient)

    assert loss.value(with_part(loss, student, moved), other).item() < value.item()


@EVERY
def test_its_gradient_is_that_of_differences(name: str) -> None:
    loss, student, other = LOSSES[name], make(0, torch.float64), detached(make(1, torch.float64))
    leaves = list(tensors(getattr(student, loss.part)))

    def value(*changed: torch.Tensor) -> torch.Tensor:
        given = iter(changed)
        return loss.value(with_part(loss, student, lambda _: next(given)), other)

    assert torch.autograd.gradcheck(value, leaves)


@EVERY
def test_f32_gives_what_f64_gives(name: str) -> None:
    single, double = (LOSSES[name].value(make(0, dtype), make(1, dtype)) for dtype in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    assert single.item() == pytest.approx(double.item(), rel=1e-5)


@EVERY
@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_it_is_finite_for_small_and_large_outputs(name: str, size: float) -> None:
    loss = LOSSES[name]
    student, other = (
        outputs if loss.part == "embedding" else with_part(loss, outputs, lambda x: (x * size).detach())
        for outputs in (make(0), make(1))
    )
    student = with_part(loss, student, lambda x: x.detach().requires_grad_())
    value = loss.value(student, other)
    assert value.isfinite()
    gradients = torch.autograd.grad(value, list(tensors(getattr(student, loss.part))), allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@EVERY
def test_padding_has_no_influence(name: str) -> None:
    loss, student, other = LOSSES[name], make(0), make(1)
    before = loss.value(student, other).item()

    def disturbed(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[:2] != MASK.shape:
            return tensor
        padding = (~MASK).reshape(*MASK.shape, *[1] * (tensor.dim() - 2))
        return torch.where(padding, tensor + 100, tensor).detach().requires_grad_()

    changed = with_part(loss, student, disturbed)
    value = loss.value(changed, with_part(loss, other, lambda x: disturbed(-x)) if loss.target == "labels" else other)
    assert value.item() == pytest.approx(before, rel=1e-6)
    for tensor in tensors(getattr(changed, loss.part)):
        if tensor.shape[:2] == MASK.shape:
            (gradient,) = torch.autograd.grad(value, tensor, retain_graph=True, allow_unused=True)
            assert gradient is None or (gradient[~MASK] == 0).all()


@EVERY
def test_the_order_of_the_texts_does_not_matter(name: str) -> None:
    loss, order = LOSSES[name], torch.tensor([2, 0, 1])
    student, other = (
        mapped(outputs, lambda tensor: tensor[order]) for outputs in (make(0, torch.float64), make(1, torch.float64))
    )
    expected = loss.value(make(0, torch.float64), make(1, torch.float64)).item()
    assert loss.value(student, other).item() == pytest.approx(expected, rel=1e-12)


@EVERY
def test_another_number_of_texts_is_refused(name: str) -> None:
    loss = LOSSES[name]
    with pytest.raises(InputError, match=f"loss {name}: .*"):
        loss.value(make(0), mapped(make(1), lambda tensor: tensor[:2]))


# ---- labels ----


@OF_LABELS
def test_it_vanishes_where_the_student_is_sure_of_the_labels(name: str) -> None:
    student = make(0)
    assert student.labels is not None
    sure = {"logits": 50.0 * torch.nn.functional.one_hot(student.labels, CLASSES)}
    assert LOSSES[name].value(replace(student, logits=sure), student).item() == pytest.approx(0, abs=1e-6)


@OF_LABELS
def test_texts_without_a_label_do_not_count(name: str) -> None:
    loss, student, other = LOSSES[name], make(0), make(1)
    some = replace(other, labels=torch.tensor([1, NO_LABEL, 3]))
    value = loss.value(student, some)
    (gradient,) = torch.autograd.grad(value, student.logits["logits"])
    assert gradient[[0, 2]].abs().sum() > 0
    assert (gradient[1] == 0).all()
    kept = mapped(student, lambda tensor: tensor[[0, 2]])
    assert loss.value(kept, Outputs(MASK[[0, 2]], labels=torch.tensor([1, 3]))).item() == pytest.approx(value.item())
    nothing = loss.value(student, replace(other, labels=torch.full((ROWS,), NO_LABEL)))
    assert nothing.item() == 0
    assert (torch.autograd.grad(nothing, student.logits["logits"])[0] == 0).all()


@OF_LABELS
@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_that_the_model_does_not_have_is_refused(name: str, label: int) -> None:
    with pytest.raises(InputError, match=f"loss {name}: label {label} of a model with {CLASSES} labels"):
        LOSSES[name].value(make(0), Outputs(MASK, labels=torch.tensor([0, label, 1])))


@OF_LABELS
def test_data_without_labels_and_models_without_a_fitting_head_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"loss {name}: the data have no labels"):
        LOSSES[name].value(make(0), Outputs(MASK))
    for logits in (None, {"logits": torch.zeros(ROWS, LENGTH, CLASSES)}, {"start_logits": torch.zeros(ROWS, LENGTH)}):
        with pytest.raises(InputError, match=f"loss {name}: it needs a model with a head for sequence classification"):
            LOSSES[name].value(Outputs(MASK, logits=logits), make(1))
