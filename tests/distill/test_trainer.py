"""What a trainer does beside the losses: rates per layer, a mean of the weights, two runs, texts by length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError, recipe
from fastcpu.distill import schedule
from fastcpu.distill.corpus import Corpus, Order
from fastcpu.recipe import Distill, Prune, Recipe

torch = pytest.importorskip("torch")

from fastcpu.distill.model import depths, make_student  # noqa: E402  (needs torch)
from fastcpu.distill.teacher import NoTeacher  # noqa: E402
from fastcpu.distill.trainer import Trainer  # noqa: E402
from tests.frontend import tiny  # noqa: E402

TUNED = Recipe("test", "test", distill=Distill(losses={"labels": 1.0, "consistency": 1.0}, batch=8, dropout=0.2))


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Corpus:
    """40 labelled sequences of 3 to 12 tokens."""
    lengths = rng.integers(3, 13, 40)
    np.save(tmp_path / "ids.npy", rng.integers(5, tiny.VOCABULARY, lengths.sum()).astype(np.int32))
    np.save(tmp_path / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(tmp_path / "labels.npy", rng.integers(0, 3, 40))
    return Corpus(tmp_path)


def trainer(corpus: Corpus, chosen: Recipe, folder: Path, steps: int = 6, dropout: float = 0.2) -> Trainer:
    folder.mkdir(exist_ok=True)
    student = make_student(tiny.model("BertForSequenceClassification"), None, dropout)
    return Trainer(student, None, corpus, NoTeacher(), chosen, steps, 0, folder)


def weights(training: Trainer) -> dict[str, torch.Tensor]:
    found = {name: parameter.detach().clone() for name, parameter in training.student.named_parameters()}
    if training.words is not None and "forward" in vars(training.words.layer):
        found[training.words.name][training.words.tokens] = training.words.rows.detach()
    return found


def of(**changes: object) -> Recipe:
    assert TUNED.distill is not None
    return replace(TUNED, distill=replace(TUNED.distill, **changes))


def test_depths_are_counted_from_the_head_down() -> None:
    found = depths(tiny.model("BertForSequenceClassification"))
    assert {found[name] for name in found if "embeddings" in name} == {3}
    assert {found[name] for name in found if ".layer.0." in name} == {2}
    assert {found[name] for name in found if ".layer.1." in name} == {1}
    assert found["classifier.weight"] == found["bert.pooler.dense.weight"] == 0
    shared = depths(tiny.model("AlbertForSequenceClassification"))
    assert set(shared.values()) == {0, 1, 2}


def test_lower_layers_learn_more_slowly(corpus: Corpus, tmp_path: Path) -> None:
    training = trainer(corpus, of(layer_decay=0.5), tmp_path / "a")
    scales = {id(p): group["scale"] for group in training.optimizer.param_groups for p in group["params"]}
    layer = training.student.bert.encoder.layer
    assert scales[id(training.student.classifier.weight)] == 1.0
    assert scales[id(layer[1].output.dense.bias)] == 0.5
    assert scales[id(layer[0].output.dense.weight)] == 0.25
    training.step(3)
    rates = {group["scale"]: group["lr"] for group in training.optimizer.param_groups}
    assert rates[0.25] == pytest.approx(0.25 * schedule.learning_rate(training.config, 3, 6))
    uniform = trainer(corpus, TUNED, tmp_path / "b")
    assert {group["scale"] for group in uniform.optimizer.param_groups} == {1.0}


def test_what_remains_is_the_mean_of_the_weights(corpus: Corpus, tmp_path: Path) -> None:
    training = trainer(corpus, of(average=0.9), tmp_path / "a")
    mean = weights(training)
    names = set(training.parameters)
    for step in range(6):
        training.step(step)
        kept = min(0.9, (step + 1) / (step + 10))
        for name, now in weights(training).items():
            mean[name] = kept * mean[name] + (1 - kept) * now
    last = weights(training)
    again = trainer(corpus, of(average=0.9), tmp_path / "b")
    again.run(lambda _: None)
    for name, found in weights(again).items():
        torch.testing.assert_close(found, mean[name], atol=1e-5, rtol=1e-5)
        assert name not in names or "bias" in name or not torch.equal(found, last[name])


def test_pruned_weights_are_zero_in_the_mean_too(corpus: Corpus, tmp_path: Path) -> None:
    chosen = replace(of(average=0.9), prune=Prune(sparsity=0.5, end=0.9, interval=1))
    training = trainer(corpus, chosen, tmp_path / "a", steps=10)
    training.run(lambda _: None)
    assert training.masks is not None
    for name, layer in training.masks.layers.items():
        assert (layer.weight == 0).float().mean().item() == pytest.approx(0.5, abs=0.01), name


def test_moments_and_means_follow_the_masks(corpus: Corpus, tmp_path: Path) -> None:
    chosen = replace(of(average=0.9, layer_decay=0.7), prune=Prune(sparsity=0.9))
    training = trainer(corpus, chosen, tmp_path, steps=100)
    training.step(0)
    assert training.masks is not None

    def state() -> dict[str, list[torch.Tensor]]:
        """Of each weight that is pruned: itself, its moments and its mean, as matrices."""
        assert training.masks is not None
        found = {}
        for name, blocks in training.masks.blocks().items():
            trained = training.parameters[name]
            moments = training.optimizer.state[trained]
            parts = [trained.detach(), moments["exp_avg"], moments["exp_avg_sq"], training.average[name]]
            found[name] = [each.clone() if blocks is None else blocks.scatter(each) for each in parts]
        return found

    for sparsity in (0.6, 0.7, 0.9):
        before = state()
        training._update_masks(sparsity)
        for name, blocks in training.masks.blocks().items():
            assert blocks is not None
            keep = training.masks.keep[name.removesuffix(".weight")]
            assert keep.mean().item() == pytest.approx(1 - sparsity, abs=0.05)
            for was, now in zip(before[name], state()[name], strict=True):
                assert torch.equal(now, was * keep), name
        training.step(1)
    trained = [id(each) for group in training.optimizer.param_groups for each in group["params"]]
    assert sorted(trained) == sorted(map(id, training.parameters.values()))


@pytest.mark.parametrize("prune", [None, Prune(sparsity=0.8, score="snip_momentum", end=0.5, interval=1)])
def test_a_killed_training_goes_on_to_the_same_bits(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prune: Prune | None
) -> None:
    monkeypatch.setenv("FASTCPU_CHECKPOINT_SECONDS", "0")
    chosen = replace(of(average=0.9, layer_decay=0.7, sampling="by length"), prune=prune)
    whole = trainer(corpus, chosen, tmp_path / "whole")
    whole.run(lambda _: None)

    def stop(progress: object) -> None:
        if progress.step == 4:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(corpus, chosen, tmp_path / "cut").run(stop)
    rest = trainer(corpus, chosen, tmp_path / "cut")
    rest.run(lambda _: None)
    for name, found in weights(rest).items():
        assert torch.equal(found, weights(whole)[name]), name


def test_a_text_is_run_twice_with_other_units(corpus: Corpus, tmp_path: Path) -> None:
    training = trainer(corpus, TUNED, tmp_path / "a")
    torch.manual_seed(0)
    losses = training.losses(np.arange(8))
    assert losses["consistency"].item() > 1e-4
    alike = trainer(corpus, TUNED, tmp_path / "b", dropout=0.0)
    assert alike.losses(np.arange(8))["consistency"].item() == pytest.approx(0, abs=1e-5)
    labels = replace(TUNED, distill=replace(alike.config, losses={"labels": 1.0}))
    alone = trainer(corpus, labels, tmp_path / "c", dropout=0.0)
    assert alone.losses(np.arange(8))["labels"].item() == pytest.approx(
        alike.losses(np.arange(8))["labels"].item(), rel=0.02
    )


def test_two_runs_without_dropout_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('description = "x"\n[distill.losses]\nlabels = 1\nconsistency = 1\n')
    with pytest.raises(InputError, match="consistency compares two runs with dropout: set dropout"):
        recipe.load(path)


def test_long_texts_are_drawn_more_often(rng: np.random.Generator) -> None:
    lengths = np.where(np.arange(4000) % 2, 30, 10)
    order = Order(lengths, 32, 0, by_length=True)
    drawn = np.concatenate([order(step) for step in range(4000 // 32)])
    assert 0.72 < (lengths[drawn] == 30).mean() < 0.78
    again = Order(lengths, 32, 0, by_length=True)
    np.testing.assert_array_equal(again(77), order(77))


def test_the_time_of_a_step_counts_pruned_ones(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(TUNED, prune=Prune(sparsity=0.8, end=0.5, interval=1))
    training = trainer(corpus, chosen, tmp_path / "a", steps=1_000_000)
    masks = training.masks
    assert masks is not None
    seen: list[float] = []

    def timed(_: int) -> float:
        seen.append(float(np.mean([1 - mask.mean().item() for mask in masks.keep.values()])))
        return {1: 9.0, 2: 3.0, 3: 1.0}[len(seen)]  # a warm-up, dense, pruned

    monkeypatch.setattr(training, "_timed", timed)
    assert training.seconds_per_step(2) == pytest.approx(3.0 - 2.0 * 0.875)
    assert seen == pytest.approx([0.0, 0.0, 0.8], abs=0.01)


def test_the_time_of_a_step_is_that_of_the_usual_length(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer(corpus, TUNED, tmp_path / "a", steps=5)
    now = [0.0]

    def step(number: int) -> dict[str, float]:
        lengths = corpus.lengths[training.order(number)]
        now[0] += float(len(lengths) * lengths.max())  # a second per token
        return {}

    monkeypatch.setattr(training, "step", step)
    monkeypatch.setattr("fastcpu.distill.trainer.time.monotonic", lambda: now[0])
    longest = [len(rows) * corpus.lengths[rows].max() for rows in map(training.order, range(5))]
    assert training.seconds_per_step(2) == pytest.approx(np.mean(longest))
