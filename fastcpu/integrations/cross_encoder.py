"""CrossEncoder over compressed models: a score, or one per label, for each pair of texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcpu.errors import InputError
from fastcpu.integrations import source
from fastcpu.integrations.cache import Calibration
from fastcpu.integrations.similarity import FloatArray
from fastcpu.integrations.text_model import (
    SETTINGS_FILE,
    TextModel,
    as_array,
    as_tensor,
    check_device,
    converted,
    has_torch,
    read_object,
)
from fastcpu.recipe import Recipe
from fastcpu.tasks.labels import sigmoid, softmax

_LOGITS = "logits"


def _identity(scores: FloatArray) -> FloatArray:
    return scores


def _sigmoid(scores: FloatArray) -> FloatArray:
    return sigmoid(scores).astype(np.float32)


_ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {"Identity": _identity, "Sigmoid": _sigmoid}
"""Class of torch.nn that a model's configuration names -> the same of arrays."""


class CrossEncoder(TextModel):
    """Scores pairs of texts with a compressed model for sequence classification, as sentence-transformers does.

    Args:
        model_name_or_path: a directory that fastcpu wrote, which is opened as it is; a directory of transformers; or
            the name of a model on the hub that is in the cache of Hugging Face.
        recipe: how a model is compressed that is not yet: a recipe of ``fastcpu recipes`` that does not train, or a
            file. What was compiled is kept, and found again by the contents of the model.
        threads: threads per run; all CPUs available to this process by default.
        max_length: longest pair in tokens; by default what the model was made for.
        activation_fn: what turns logits [pairs, labels] into scores; by default what the model says, or the sigmoid of
            a single label and nothing for several. It gets a tensor where torch has been imported, else an array.
        calibration: pairs of texts, or texts, or a text file, for a recipe that needs some.
        device: ``cpu``.
        revision: of a model on the hub.
        cache_dir: where compiled models are kept, by default ``~/.cache/fastcpu/compiled``.

    Attributes:
        num_labels: logits per pair.

    Raises:
        InputError: there is no such model, it is no model for sequence classification, the recipe trains, or an
            argument is not one of these.
        fastcpu.errors.FastcpuError: as `fastcpu.compile` and `fastcpu.Session` raise it.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        recipe: str | os.PathLike[str] | Recipe = "int8-dynamic",
        threads: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
        calibration: Calibration | None = None,
        device: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            model_name_or_path,
            source.as_cross_encoder,
            "cross encoder",
            device=device,
            max_length=max_length,
            recipe=recipe,
            calibration=calibration,
            threads=threads,
            revision=revision,
            cache_dir=cache_dir,
        )
        dims = {output.name: output.dims for output in self.session.outputs}
        if len(dims.get(_LOGITS, ())) != 2:
            raise InputError(f"{self.path}: not a model for sequence classification: its outputs are {', '.join(dims)}")
        self.num_labels = int(dims[_LOGITS][1])
        self._activation = _activation(self.path, self.num_labels)
        self.activation_fn = activation_fn

    def predict(
        self,
        sentences: Sequence[str] | Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
    ) -> Any:
        """Score pairs. The score of a pair has the same bits whatever it is scored together with.

        Args:
            sentences: pairs of texts, or one pair.
            batch_size: pairs per run.
            show_progress_bar: whether to show one, of the package tqdm.
            activation_fn: instead of the one of this object.
            apply_softmax: whether to make the scores of several labels add up to 1.
            convert_to_numpy: return an array; otherwise a list of tensors.
            convert_to_tensor: return a tensor of torch.
            device: ``cpu``.

        Returns:
            f32 [pairs], or [pairs, labels] where there are several; without the first axis for one pair.

        Raises:
            InputError: something that is no pair of texts, or an argument that is not one of these.
        """
        check_device(device)
        pairs, single = _pairs(sentences)
        logits = np.empty((len(pairs), self.num_labels), np.float32)
        for places, _, found in self._run(pairs, _LOGITS, batch_size, show_progress_bar):
            logits[places] = found
        scores = self._activated(logits, activation_fn or self.activation_fn)
        if self.num_labels == 1 and scores.ndim == 2:
            scores = scores[:, 0]
        if apply_softmax and scores.ndim == 2:
            scores = softmax(scores).astype(np.float32)
        return converted(scores, single, convert_to_numpy, convert_to_tensor)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Documents by their score for a query, the best first.

        Returns:
            At most ``top_k`` dicts with ``corpus_id``, the document's place, ``score``, and with ``return_documents``
            its ``text``.

        Raises:
            InputError: as `predict`, and for a model with several labels.
        """
        if self.num_labels != 1:
            raise InputError(f"{self.path}: ranking needs a model with one label, not {self.num_labels}; use predict")
        pairs = [(query, document) for document in documents]
        scores = self.predict(pairs, batch_size, show_progress_bar, activation_fn).tolist()
        order = sorted(range(len(scores)), key=lambda place: -scores[place])[:top_k]
        ranked: list[dict[str, Any]] = [{"corpus_id": place, "score": scores[place]} for place in order]
        if return_documents:
            for each in ranked:
                each["text"] = documents[each["corpus_id"]]
        return ranked

    def _activated(self, logits: FloatArray, function: Callable[[Any], Any] | None) -> FloatArray:
        if function is None:
            return self._activation(logits)
        scores = function(as_tensor(logits) if has_torch() else logits)
        return np.asarray(as_array(scores), np.float32)


def _activation(path: Path, labels: int) -> Callable[[FloatArray], FloatArray]:
    """What the files of a model say about its scores; InputError for a function that is not supported."""
    config = read_object(path / source.CONFIG_FILE)
    settings = config.get("sentence_transformers")
    named = (
        read_object(path / SETTINGS_FILE).get("activation_fn")
        or (settings.get("activation_fn") if isinstance(settings, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    if named is None:
        return _sigmoid if labels == 1 else _identity
    function = _ACTIVATIONS.get(str(named).rpartition(".")[2])
    if function is None:
        raise InputError(f"{path}: the activation {named} is not supported; {', '.join(_ACTIVATIONS)} are")
    return function


def _pairs(sentences: Any) -> tuple[list[tuple[str, str]], bool]:
    """Pairs as tuples, and whether it was a single one."""
    listed = list(sentences) if not isinstance(sentences, str) else [sentences]
    single = bool(listed) and isinstance(listed[0], str)
    pairs = []
    for index, pair in enumerate([listed] if single else listed):
        texts = list(pair)
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise InputError(f"pair {index} is not two strings")
        pairs.append((texts[0], texts[1]))
    return pairs, single
