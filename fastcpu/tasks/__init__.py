"""Text in, results out: tokenization, inference and postprocessing, without torch.

To add a task: a file here with a class derived from `Task`, and its line below.
"""

from __future__ import annotations

from fastcpu.tasks.classify import Classifier
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.fill_mask import MaskFiller
from fastcpu.tasks.qa import QuestionAnswerer
from fastcpu.tasks.rerank import Reranker
from fastcpu.tasks.tag import Tagger
from fastcpu.tasks.task import AnyTask, Task

TASKS: dict[str, type[AnyTask]] = {
    task.name: task
    for task in (
        Classifier,
        Embedder,
        MaskFiller,
        QuestionAnswerer,
        Reranker,
        Tagger,
    )
}

__all__ = ["TASKS", "Classifier", "Embedder", "MaskFiller", "QuestionAnswerer", "Reranker", "Tagger", "Task"]
