"""The labels of a classifier, and which entities BIO labels mark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from fastcpu.errors import FileFormatError, InputError
from fastcpu.tasks.tokenizer import read_config

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]

OUTSIDE = "O"
_ENDS = ("E", "S", "L", "U")  # prefixes of the last word of an entity, in IOBES and BILOU
_BEGINS = ("B", "S", "U")
_PREFIXES = {"B", "I", *_ENDS}


def label_names(directory: Path, channels: int, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of a head's channels: `given`, id2label of config.json, or LABEL_0, LABEL_1, ... as transformers says.

    Raises:
        InputError: as many names are not given.
        FileFormatError: config.json has not as many.
    """
    if given is not None:
        if len(given) != channels or isinstance(given, str):
            raise InputError(f"{len(given)} labels are given, but the model has {channels}")
        return tuple(given)
    path = directory / "config.json"
    listed = read_config(path).get("id2label")
    if listed is None:
        return tuple(f"LABEL_{index}" for index in range(channels))
    try:
        names = {int(index): str(name) for index, name in listed.items()}
    except (AttributeError, ValueError) as error:
        raise FileFormatError(f"{path}: id2label is not an object of numbers and names") from error
    if sorted(names) != list(range(channels)):
        raise FileFormatError(f"{path}: id2label has the labels {sorted(names)}, but the model gives {channels} logits")
    return tuple(names[index] for index in range(channels))


def problem_type(directory: Path, channels: int) -> Problem:
    """problem_type of config.json. Without one, one channel is a yes-or-no question and more exclude each other."""
    path = directory / "config.json"
    given = read_config(path).get("problem_type")
    if given is None:
        return "multi_label_classification" if channels == 1 else "single_label_classification"
    for problem in get_args(Problem):
        if given == problem:
            return problem  # type: ignore[no-any-return]
    raise FileFormatError(f"{path}: problem_type is {given!r}, none of {', '.join(get_args(Problem))}")


class Span(NamedTuple):
    """An entity: its type, its first word, and the word after its last."""

    kind: str
    first: int
    last: int


def spans(labels: Sequence[str]) -> list[Span]:
    """The entities that the labels of a sentence's words mark.

    As conlleval and seqeval count them: an entity begins at B-, where the type changes, and after O or the end of
    another one; so I- alone begins one too. E- and S- (L- and U-) end it. A label without such a prefix is the type
    itself: equal neighbours are one entity. B and I alone mark entities of the type "".
    """
    return list(_spans(labels))


def _spans(labels: Sequence[str]) -> Iterator[Span]:
    current, first, ended = "", 0, True
    for place, label in enumerate(labels):
        prefix, kind = _split(label)
        if not ended and (kind != current or prefix in _BEGINS or label == OUTSIDE):
            yield Span(current, first, place)
            ended = True
        if label == OUTSIDE:
            continue
        if ended:
            current, first = kind, place
        ended = prefix in _ENDS
        if ended:
            yield Span(current, first, place + 1)
    if not ended:
        yield Span(current, first, len(labels))


def _split(label: str) -> tuple[str, str]:
    prefix, dash, kind = label.partition("-")
    if (dash and prefix in _PREFIXES) or label in ("B", "I"):
        return prefix, kind
    return "", label


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def sigmoid(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    x = logits.astype(np.float64)
    result: npt.NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * x))
    return result
