"""What a model takes and gives in the Open Inference Protocol: token ids for its own outputs, or texts for results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import orjson

from fastcpu.serve.model import Model
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.protocols.tensors import Input, IntArray, Values, integers, wrong
from fastcpu.serve.protocols.tensors import texts as texts_of
from fastcpu.tasks.engine import FloatArray, Rows
from fastcpu.tasks.task import AnyTask, Work
from fastcpu.tasks.tokenizer import Encoded

TEXT, PAIR = "text", "text_pair"
MOST_BINARY, MOST_JSON = 1 << 27, 1 << 24
"""Bytes of the outputs of one answer, the latter of those that are JSON."""


@dataclass(frozen=True)
class Spec:
    """A tensor of a model.

    Attributes:
        name: of it.
        datatype: of the protocol.
        shape: sizes of the axes, -1 for any.
        labels: the names of its last axis, if they have some.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()


# ---- texts ----


@dataclass(frozen=True)
class Form:
    """A task in tensors.

    Attributes:
        pair: whether a second text goes with each text.
        key: of its results in the cache; some are shared with other protocols.
        outputs: what it gives; an output without channels has the shape of the texts.
        prepare: tokenizes texts and pairs.
        tensors: results as outputs: [texts, channels] or [texts].
    """

    pair: Literal["never", "optional", "always"]
    key: str
    outputs: Callable[[Any], tuple[Spec, ...]]
    prepare: Callable[[Any], Callable[[list[Any]], Work[Any]]]
    tensors: Callable[[Sequence[Any]], dict[str, Values]]


def _column(results: Sequence[Any], name: str, kind: Any) -> npt.NDArray[Any]:
    return np.array([getattr(each, name) for each in results], kind)


def _json(values: Sequence[Any]) -> list[str]:
    return [orjson.dumps(value).decode() for value in values]


def _plain(task: AnyTask) -> Callable[[list[Any]], Work[Any]]:
    return task.prepare


FORMS: dict[str, Form] = {
    "embed": Form(
        "optional",
        "embed True",
        lambda task: (Spec("embedding", "FP32", (-1, task.channels)),),
        _plain,
        lambda results: {"embedding": np.stack(results)},
    ),
    "classify": Form(
        "optional",
        "classify",
        lambda task: (
            Spec("scores", "FP32", (-1, len(task.labels)), task.labels),
            Spec("label", "BYTES", (-1, 1)),
        ),
        _plain,
        lambda results: {
            "scores": np.array([each.scores for each in results], np.float32),
            "label": [each.label for each in results],
        },
    ),
    "rerank": Form(
        "always",
        "rerank",
        lambda _: (Spec("score", "FP32", (-1, 1)),),
        lambda task: task.prepare_scores,
        lambda results: {"score": np.array(results, np.float32)},
    ),
    "qa": Form(
        "always",
        "v2 qa",
        lambda _: (
            Spec("answer", "BYTES", (-1, 1)),
            Spec("score", "FP32", (-1, 1)),
            Spec("start", "INT64", (-1, 1)),
            Spec("end", "INT64", (-1, 1)),
        ),
        _plain,
        lambda results: {
            "answer": [each.text for each in results],
            "score": _column(results, "score", np.float32),
            "start": _column(results, "start", np.int64),
            "end": _column(results, "end", np.int64),
        },
    ),
    "tag": Form(
        "never",
        "v2 tag",
        lambda _: (Spec("words", "BYTES", (-1, 1)), Spec("entities", "BYTES", (-1, 1))),
        _plain,
        lambda results: {
            "words": _json([each.words for each in results]),
            "entities": _json([each.entities for each in results]),
        },
    ),
    "fill_mask": Form(
        "never",
        "v2 fill_mask",
        lambda _: (Spec("fills", "BYTES", (-1, 1)),),
        _plain,
        lambda results: {"fills": _json(results)},
    ),
}
"""The tasks of `fastcpu.tasks`. Rerankers and question answering take the query or question as the text, and the
passage as its pair."""


@dataclass(frozen=True)
class Texts:
    """The texts of a request.

    Attributes:
        inputs: texts, or pairs of them.
        shape: of the tensor that they were.
        paired: whether they are pairs.
    """

    inputs: list[Any]
    shape: tuple[int, ...]
    paired: bool


def read_texts(given: Mapping[str, Input], check_rows: Callable[[int], None]) -> Texts:
    """The texts in the inputs of a request; `check_rows` is told how many there are before they are read."""
    named = {name.lower(): tensor for name, tensor in given.items()}
    if len(named) != len(given):
        raise invalid(f"inputs: {' and '.join(map(repr, given))} are the same", "inputs")
    text = named.get(TEXT)
    if text is None:
        raise invalid(f"inputs: {PAIR!r} is there without {TEXT!r}", "inputs")
    if not 1 <= len(text.shape) <= 2 or text.shape[1:] not in ((), (1,)):
        raise wrong(text.name, f"shape {list(text.shape)} is neither [texts] nor [texts, 1]")
    check_rows(text.shape[0])
    inputs: list[Any] = texts_of(text)
    pair = named.get(PAIR)
    if pair is not None:
        if pair.shape != text.shape:
            raise wrong(pair.name, f"shape {list(pair.shape)} is not that of {text.name!r}, {list(text.shape)}")
        inputs = list(zip(inputs, texts_of(pair), strict=True))
    return Texts(inputs, text.shape, pair is not None)


# ---- token ids ----


@dataclass(frozen=True)
class Sequences:
    """The token ids of a request, without their padding.

    Attributes:
        encoded: of each row.
        places: the columns of a row's tokens, None where they are the first ones.
    """

    encoded: list[Encoded]
    places: list[IntArray | None]


class Signature:
    """Inputs and outputs of a model.

    Attributes:
        inputs: of both kinds.
        outputs: of both kinds.
    """

    def __init__(self, model: Model) -> None:
        self._roles = {spec.name: spec.role for spec in model.session.inputs}
        self._required = [spec.name for spec in model.session.inputs if not spec.optional and spec.role != "mask"]
        self._limits = model.limits
        longest = model.limits.positions
        self._longest = model.max_length if longest is None else min(longest, model.max_length)
        self._raw = {spec.name: spec.dims for spec in model.session.outputs}
        self._tasks = [(name, FORMS[name], FORMS[name].outputs(task)) for name, task in model.tasks.items()]
        self.inputs = tuple(self._listed_inputs())
        own = [
            Spec(name, "FP32", tuple(size if isinstance(size, int) else -1 for size in dims))
            for name, dims in self._raw.items()
        ]
        results = [spec for _, _, specs in self._tasks for spec in specs]
        self.outputs = tuple({spec.name: spec for spec in (*results, *own)}.values())

    def _listed_inputs(self) -> Iterator[Spec]:
        for name in self._roles:
            yield Spec(name, "INT64", (-1, -1))
        yield Spec(TEXT, "BYTES", (-1, 1))
        if any(form.pair != "never" for _, form, _ in self._tasks):
            yield Spec(PAIR, "BYTES", (-1, 1))

    def takes_texts(self, given: Mapping[str, Input]) -> bool:
        """Whether a request has texts and not token ids. Problem if it has neither, or an input that there is not."""
        if given.keys() <= self._roles.keys():
            return False
        if all(name.lower() in (TEXT, PAIR) for name in given):
            return True
        known = [spec.name for spec in self.inputs]
        strange = next((name for name in given if name.lower() not in known and name not in known), None)
        if strange is not None:
            raise invalid(f"no input is named {strange!r:.100}; there are {', '.join(known)}", "inputs")
        raise invalid(f"inputs: token ids ({', '.join(self._roles)}) or texts ({TEXT}, {PAIR}), and not both", "inputs")

    def task(self, paired: bool, wanted: Sequence[str]) -> tuple[str, Form, list[str]]:
        """The task for texts or pairs that has the wanted outputs: its name, form and outputs, by default all."""
        fits = [each for each in self._tasks if each[1].pair != ("never" if paired else "always")]
        if not fits:
            raise invalid(f"inputs: the model takes {'no ' if paired else 'a '}{PAIR}", "inputs")
        for name, form, specs in fits:
            names = [spec.name for spec in specs]
            if set(wanted) <= set(names):
                return name, form, list(wanted) or names
        known = [spec.name for _, _, specs in fits for spec in specs]
        self._check_known(wanted, known, "texts")
        raise invalid(f"outputs: {' and '.join(wanted)} are not of the same task", "outputs")

    def raw_outputs(self, wanted: Sequence[str]) -> list[str]:
        """The model's own outputs that are wanted, by default all."""
        self._check_known(wanted, list(self._raw), "token ids")
        return list(wanted) or list(self._raw)

    def _check_known(self, wanted: Sequence[str], known: Sequence[str], kind: str) -> None:
        for name in wanted:
            if name not in known:
                raise invalid(f"no output is named {name!r:.100}; those of {kind} are {', '.join(known)}", "outputs")

    def shape_of_ids(self, given: Mapping[str, Input], check_rows: Callable[[int], None]) -> tuple[int, int]:
        """Rows and columns of the inputs of a request, which `check_rows` is told before the data are looked at.

        Problem unless they have the same, and none is missing.
        """
        for name in self._required:
            if name not in given:
                raise invalid(f"inputs: {name!r} is missing", "inputs")
        first = next(tensor for name, tensor in given.items() if self._roles[name] == "ids")
        if len(first.shape) != 2 or 0 in first.shape:
            raise wrong(first.name, f"shape {list(first.shape)} is not [batch, sequence], both above 0")
        rows, columns = first.shape
        check_rows(rows)
        for tensor in given.values():
            if tensor.shape != first.shape:
                shape = list(tensor.shape)
                raise wrong(tensor.name, f"shape {shape} is not that of {first.name!r}, {list(first.shape)}")
        return rows, columns

    def raw_shapes(self, names: Sequence[str], shape: tuple[int, int]) -> list[tuple[int, ...]]:
        """Of the model's own outputs, for token ids of this shape."""
        sizes: dict[int | str, int] = {"batch": shape[0], "sequence": shape[1]}
        return [tuple(size if isinstance(size, int) else sizes[size] for size in self._raw[name]) for name in names]

    def read_ids(self, given: Mapping[str, Input]) -> Sequences:
        """The token ids in inputs that have the same shape. Problem for what the model does not take."""
        named = {self._roles[name]: tensor for name, tensor in given.items()}
        first = named["ids"]
        ids = integers(first)
        mask = _mask(named["mask"]) if "mask" in named else None
        types = integers(named["types"]) if "types" in named else None
        lengths, places = self._kept(first.name, ids, mask)
        longest = max(lengths)
        if longest > self._longest:
            row = lengths.index(longest)
            raise wrong(first.name, f"row {row} has {longest} tokens; the model takes {self._longest}")
        _check_range(first.name, ids, mask, self._limits.ids, "token id")
        if types is None:
            zeros = np.zeros(longest, np.int64)
            encoded = [
                Encoded(_part(row, length, place), zeros[:length])
                for row, length, place in zip(ids, lengths, places, strict=True)
            ]
        else:
            _check_range(named["types"].name, types, mask, self._limits.types, "token type")
            encoded = [
                Encoded(_part(row, length, place), _part(kinds, length, place))
                for row, kinds, length, place in zip(ids, types, lengths, places, strict=True)
            ]
        return Sequences(encoded, places)

    def _kept(self, name: str, ids: IntArray, mask: IntArray | None) -> tuple[list[int], list[IntArray | None]]:
        """How many tokens each row has, and their columns where they are not the first ones."""
        rows, columns = ids.shape
        places: list[IntArray | None] = [None] * rows
        if mask is None:
            return [columns] * rows, places
        counts = mask.sum(axis=1, dtype=np.int64)
        lengths: list[int] = counts.tolist()
        if not all(lengths):
            raise wrong(name, f"row {lengths.index(0)} has no token: its mask is 0 everywhere")
        scattered = (mask != (np.arange(columns) < counts[:, None])).any(axis=1)
        for row in np.flatnonzero(scattered).tolist():
            kept = np.flatnonzero(mask[row])
            self._check_places(name, row, ids[row], kept)
            places[row] = kept
        return lengths, places

    def _check_places(self, name: str, row: int, ids: IntArray, kept: IntArray) -> None:
        """Problem where the tokens at the columns `kept` are not what they are without the padding before them."""
        limits = self._limits
        if limits.distances and kept[-1] - kept[0] != len(kept) - 1:
            reason = "the model attends by distance, and there are gaps between the tokens"
        elif limits.positions is None:
            return
        elif limits.padding is None:
            reason = "the positions of the model are columns, so padding may only stand at the end"
        else:
            counted = ids != limits.padding
            if np.array_equal(np.cumsum(counted)[kept], np.cumsum(counted[kept])):
                return
            reason = f"before a token there may be no padding but that of the token id {limits.padding}"
        raise wrong(name, f"row {row} has padding before tokens, by its mask: {reason}")

    def raw_work(
        self, sequences: Sequences, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> Work[FloatArray]:
        """The work whose results are these outputs, in these shapes."""
        arrays = [np.empty(shape, np.float32) for shape in shapes]
        per_token = [self._raw[name][1:2] == ("sequence",) for name in names]
        fills = [self._limits.fills[name] for name in names]
        places = sequences.places

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            for array, found, is_per_token, fill in zip(arrays, rows, per_token, fills, strict=True):
                if not is_per_token:
                    array[indices] = found
                    continue
                for index, values in zip(indices, found, strict=True):
                    target, place = array[index], places[index]
                    if place is None:
                        target[: len(values)] = values
                        target[len(values) :] = fill
                    else:
                        target[...] = fill
                        target[place] = values

        return Work(sequences.encoded, tuple(names), take, lambda: arrays)


_KNOWN: WeakKeyDictionary[Model, Signature] = WeakKeyDictionary()


def signature_of(model: Model) -> Signature:
    """The signature of a model, made once."""
    found = _KNOWN.get(model)
    if found is None:
        found = _KNOWN[model] = Signature(model)
    return found


def _part(row: IntArray, length: int, place: IntArray | None) -> Any:
    return row[:length] if place is None else row[place]


def _mask(tensor: Input) -> IntArray:
    values = integers(tensor)
    if values.max() > 1 or values.min() < 0:
        row, column = np.argwhere((values != 0) & (values != 1))[0].tolist()
        raise wrong(tensor.name, f"value {int(values[row, column])} at row {row}, column {column} is neither 0 nor 1")
    return values


def _check_range(name: str, values: IntArray, mask: IntArray | None, limit: int | None, what: str) -> None:
    """Problem for a value of a token that is below 0 or not below `limit`."""
    if limit is None or (int(values.min()) >= 0 and int(values.max()) < limit):
        return
    outside = (values < 0) | (values > limit - 1)
    if mask is not None:
        outside &= mask != 0
    found = np.argwhere(outside)
    if len(found):
        row, column = found[0].tolist()
        raise wrong(
            name, f"{what} {int(values[row, column])} at row {row}, column {column} is not from 0 to {limit - 1}"
        )


def checked_size(shapes: Sequence[Sequence[int]], binary: Sequence[bool], room: int) -> int:
    """The bytes of float32 outputs of these shapes. Problem if they are too large to answer with.

    Args:
        shapes: of the outputs.
        binary: which of them are not JSON.
        room: bytes that the server has for all requests.
    """
    sizes = [4 * math.prod(shape) for shape in shapes]
    text = sum(size for size, is_binary in zip(sizes, binary, strict=True) if not is_binary)
    most = min(MOST_BINARY, room // 2)
    if sum(sizes) > most or text > MOST_JSON:
        raise Problem(
            413,
            "answer_too_large",
            f"the outputs would have {sum(sizes)} bytes, {text} of them as JSON; at most {most}, {MOST_JSON} as JSON: "
            "send fewer rows, or ask for fewer outputs",
        )
    return sum(sizes)
