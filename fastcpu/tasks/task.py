"""What all tasks share: the model, its tokenizer, and runs in batches of similar length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from fastcpu.errors import InputError
from fastcpu.tasks.engine import BATCH_TOKENS, Model, Rows, as_engine, batches, run_rows
from fastcpu.tasks.tokenizer import Encoded, Tokenizer

Input = TypeVar("Input")
Result = TypeVar("Result")

_TELLING = {"logits", "last_hidden_state", "sentence_embedding", "pooler_output", "start_logits", "end_logits"}
"""Names of outputs that say what they are."""
_GROUP = 2048  # inputs that are tokenized and sorted together; bounds memory


@dataclass(frozen=True)
class Work(Generic[Result]):
    """Inputs of a task after tokenization: what the model must run, and what becomes of its outputs.

    Whoever runs the sequences may do so in any batches and in any order, beside those of other work.

    Attributes:
        sequences: what the model is given.
        outputs: names of the outputs that are needed.
        take: takes the rows of these outputs for some of the sequences, by their indices.
        results: one result per input, in order, after every sequence was taken.
    """

    sequences: Sequence[Encoded]
    outputs: tuple[str, ...]
    take: Callable[[Sequence[int], tuple[Rows, ...]], None]
    results: Callable[[], list[Result]]


class Task(ABC, Generic[Input, Result]):
    """Text in, results out.

    A call takes a list of inputs and gives a list with one result each. An int8 model gives a text the same result
    whatever it runs together with.

    Args:
        model: a directory that `fastcpu.compile` wrote, with its tokenizer.json, or another `Engine`.
        threads: threads per run of a directory; by default all CPUs available to this process.
        max_length: longest sequence in tokens, special tokens included; by default what the model was made for.

    Attributes:
        name: in the registry.
        head: ending of the transformers classes of such models.

    Raises:
        InputError: the model has not the outputs of the task, or has no tokenizer.json.
        FileFormatError: a file of the model is damaged.
        MissingPackageError: `tokenizers` is not installed.
    """

    name: ClassVar[str]
    head: ClassVar[str]
    truncate: ClassVar[bool] = True
    batch_tokens: ClassVar[int] = BATCH_TOKENS

    def __init__(self, model: Model, threads: int | None = None, max_length: int | None = None) -> None:
        self.engine = as_engine(model, threads)
        self.tokenizer = Tokenizer(self.engine.directory, max_length, self.truncate)

    def __call__(self, inputs: Sequence[Input]) -> list[Result]:
        """One result per input, in order. InputError names an input that is wrong, counted from 0."""
        return in_groups(lambda group, first: self.run(self.prepare(group, first)), inputs)

    @abstractmethod
    def prepare(self, inputs: Sequence[Input], first: int = 0) -> Work[Result]:
        """Tokenizes inputs; nothing runs yet. InputError names an input that is wrong, counted from `first`."""

    def run(self, work: Work[Any]) -> list[Any]:
        """The results of `work`, which is run in batches of similar length."""
        lengths = [len(sequence.ids) for sequence in work.sequences]
        for batch in batches(lengths, self.engine.max_rows, self.batch_tokens):
            work.take(batch, run_rows(self.engine, [work.sequences[index] for index in batch], work.outputs))
        return work.results()

    def _output(self, name: str, *axes: str) -> tuple[str, int]:
        """The output called `name`, and its channels. InputError unless it has these axes.

        An .onnx file may give its only output a name of its own.

        Args:
            name: what transformers calls it.
            axes: ``batch`` or ``batch``, ``sequence``; a last axis of channels must follow.
        """
        outputs = self.engine.outputs
        found = name
        if name not in outputs and len(outputs) == 1 and not outputs.keys() & _TELLING:
            found = next(iter(outputs))
        dims = outputs.get(found, ())
        if dims[:-1] != axes or not isinstance(dims[-1], int):
            raise self._refusal(f"{name} [{', '.join(axes)}, channels]")
        return found, dims[-1]

    def _refusal(self, needed: str) -> InputError:
        """What is said of a model that has other outputs than `needed`."""
        has = ", ".join(f"{name} [{', '.join(map(str, dims))}]" for name, dims in self.engine.outputs.items())
        return InputError(f"task {self.name}: {str(self.engine.directory)!r} has the outputs {has}, not {needed}")


AnyTask = Task[Any, Any]


def in_groups(process: Callable[[Sequence[Any], int], Iterable[Any]], inputs: Sequence[Any]) -> list[Any]:
    """What `process` gives for groups of inputs, each with the number of its first one; bounds what tokens take."""
    if isinstance(inputs, str):
        raise InputError("inputs must be a list and not one string")
    return [
        result for start in range(0, len(inputs), _GROUP) for result in process(inputs[start : start + _GROUP], start)
    ]
