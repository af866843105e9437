"""Metrics of models: one module per task, used for teacher, student and exported model alike."""

from __future__ import annotations

# The tasks of `fastcpu eval`. Each is a module fastcpu/eval/<task>.py with
#   load(path, split) -> data              reads a data set (path None: where FASTCPU_DATA keeps it),
#   texts(data) -> list of str             the texts that training must not see,
#   evaluate(engine, data) -> Evaluation   embeds its texts and computes its metrics, and
#   compare(a, b) -> {metric: Interval}    gives the paired difference of two evaluations of the same data.
TASKS: tuple[str, ...] = (
    "retrieval",
    "sts",
)
