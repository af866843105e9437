"""What changes with the step: learning rate and sparsity."""

from __future__ import annotations

from fastcpu.recipe import Distill, Prune


def learning_rate(config: Distill, step: int, steps: int) -> float:
    """Of step 0 .. steps - 1: linear warm-up to the peak, then linear decay that would reach its end a step later."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    return config.learning_rate * (config.decay_to + (1 - config.decay_to) * left)


def average(config: Distill, step: int) -> float:
    """How much of the running mean of the weights remains in step 0 .. steps - 1; the first ones are soon forgotten."""
    return min(config.average, (step + 1) / (step + 10))


def sparsity(config: Prune, step: int, steps: int) -> float:
    """After step 0 .. steps - 1: s (1 - (1 - t)^3), t rising from 0 to 1 between begin and end.

    Zhu and Gupta, 2017, equation 1, with an initial sparsity of zero. All of it from the start after a reconstruction.
    """
    if config.reconstruct:
        return config.sparsity
    begin, end = config.begin * steps, config.end * steps
    done = 1.0 if end <= begin else min(1.0, max(0.0, (step + 1 - begin) / (end - begin)))
    return config.sparsity * (1 - (1 - done) ** 3)


def mean_progress(config: Prune) -> float:
    """The mean of `sparsity` over a long training, as a share of the final one."""
    return 1.0 if config.reconstruct else 1 - config.end + 0.75 * (config.end - config.begin)


def masks_change(config: Prune, step: int, steps: int) -> bool:
    """True if masks are chosen anew after this step or a later one."""
    return not config.reconstruct and step <= _last_update(config, steps)


def _last_update(config: Prune, steps: int) -> int:
    """The first step of full sparsity."""
    return max(0, int(min(steps, -(-config.end * steps // 1))) - 1)


def updates_masks(config: Prune, step: int, steps: int) -> bool:
    """True if masks are chosen anew after this step; the last time is the first step of full sparsity."""
    if config.reconstruct:
        return False
    last = _last_update(config, steps)
    return step == last or (step < last and step >= config.begin * steps and (step + 1) % config.interval == 0)
