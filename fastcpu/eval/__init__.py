"""Metrics of models: one module per task, used for teacher, student and exported model alike."""

from __future__ import annotations

# The tasks of `fastcpu eval`. Each is a module fastcpu/eval/<task>.py that has what `EvalTask` in
# fastcpu/eval/task.py describes.
TASKS: tuple[str, ...] = (
    "classify",
    "qa",
    "rerank",
    "retrieval",
    "sts",
    "tag",
)
