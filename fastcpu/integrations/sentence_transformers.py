"""SentenceTransformer and CrossEncoder over compressed models.

    from fastcpu.integrations.sentence_transformers import SentenceTransformer

    model = SentenceTransformer(MODEL)
    vectors = model.encode(["a sentence", "another one"])

Texts run ragged, without padding. A compressed directory needs neither sentence-transformers nor torch; what is not
compressed yet is compiled first, which needs fastcpu[compress].
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastcpu.errors import FileFormatError, InputError
from fastcpu.frontend.sentence_transformers import MODULES_FILE
from fastcpu.graph.ir import EMBEDDING
from fastcpu.integrations import source
from fastcpu.integrations.cache import Calibration
from fastcpu.integrations.cross_encoder import CrossEncoder
from fastcpu.integrations.similarity import SIMILARITIES, FloatArray, all_pairs, normalized
from fastcpu.integrations.text_model import (
    SETTINGS_FILE,
    TextModel,
    as_array,
    as_tensor,
    check_device,
    converted,
    is_tensor,
    read_object,
)
from fastcpu.recipe import Recipe

__all__ = ["CrossEncoder", "SentenceTransformer"]

_TOKENS = "last_hidden_state"
_OUTPUT_VALUES = (EMBEDDING, "token_embeddings")


class SentenceTransformer(TextModel):
    """Embeds sentences with a compressed encoder, as sentence-transformers does.

    Args:
        model_name_or_path: a directory that fastcpu wrote, which is opened as it is; a directory of
            sentence-transformers or transformers; or the name of a model on the hub that is in the cache of Hugging
            Face. Where nothing says how to pool, it is the mean over the tokens.
        recipe: how a model is compressed that is not yet: a recipe of ``fastcpu recipes`` that does not train, or a
            file. What was compiled is kept, and found again by the contents of the model.
        threads: threads per run; all CPUs available to this process by default.
        calibration: texts, or a text file, for a recipe that needs some.
        prompts: texts that are put before a sentence, by name, beside those of the model.
        default_prompt_name: the prompt where none is asked for.
        similarity_fn_name: cosine, dot, euclidean or manhattan; by default what the model says, or cosine.
        truncate_dim: keep the first channels only.
        device: ``cpu``.
        revision: of a model on the hub.
        cache_dir: where compiled models are kept, by default ``~/.cache/fastcpu/compiled``.

    Raises:
        InputError: there is no such model, it is no sentence encoder, the recipe trains, or an argument is not one of
            these.
        fastcpu.errors.FastcpuError: as `fastcpu.compile` and `fastcpu.Session` raise it.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        recipe: str | os.PathLike[str] | Recipe = "int8-dynamic",
        threads: int | None = None,
        calibration: Calibration | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            model_name_or_path,
            source.as_sentence_encoder,
            "sentence encoder",
            device=device,
            max_length=None,
            recipe=recipe,
            calibration=calibration,
            threads=threads,
            revision=revision,
            cache_dir=cache_dir,
        )
        dims = {output.name: output.dims for output in self.session.outputs}
        sources = [name for name, rank in ((EMBEDDING, 2), (_TOKENS, 3)) if len(dims.get(name, ())) == rank]
        if not sources:
            raise InputError(f"{self.path}: no sentence encoder: its outputs are {', '.join(dims)}")
        self._sources = sources
        self._channels = int(dims[sources[0]][-1])
        self.truncate_dim = truncate_dim if truncate_dim is not None else self.settings.get("truncate_dim")
        self._kept(None)
        self.prompts = _read_prompts(self.settings, self.path) | dict(prompts or {})
        self.default_prompt_name = default_prompt_name or self.settings.get("default_prompt_name")
        self._pools_prompts = _pools_prompts(self.path)
        self._prompt(None, None)
        self.similarity_fn_name = similarity_fn_name or self.settings.get("similarity_fn_name") or "cosine"

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: cosine, dot, euclidean or manhattan."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        if name not in SIMILARITIES:
            raise InputError(f"no similarity {name!r}; there are {', '.join(SIMILARITIES)}")
        self._similarity = name

    def get_sentence_embedding_dimension(self) -> int:
        """Channels of an embedding."""
        return self._kept(None)

    get_embedding_dimension = get_sentence_embedding_dimension

    def encode(
        self,
        sentences: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] = "sentence_embedding",
        precision: Literal["float32"] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed sentences. The vector of a sentence has the same bits whatever it is encoded together with.

        Args:
            sentences: one text, or several.
            prompt_name: of ``prompts``.
            prompt: a text that is put before every sentence.
            batch_size: sentences per run.
            show_progress_bar: whether to show one, of the package tqdm.
            output_value: ``sentence_embedding``, or ``token_embeddings``: an array [tokens, channels] for each text.
            precision: ``float32``.
            convert_to_numpy: return an array; otherwise a list of tensors.
            convert_to_tensor: return a tensor of torch.
            device: ``cpu``.
            normalize_embeddings: whether to give vectors length 1; many models do that themselves.
            truncate_dim: keep the first channels only.

        Returns:
            f32 [sentences, channels], or [channels] for one text; lists for token embeddings.

        Raises:
            InputError: something that is no text, a text that is longer than the model allows, an unknown prompt, or an
                argument that is not one of these.
        """
        if precision != "float32":
            raise InputError(f"embeddings are returned as float32, not as {precision}")
        if output_value not in _OUTPUT_VALUES:
            raise InputError(f"output_value must be one of {', '.join(_OUTPUT_VALUES)}, not {output_value!r}")
        check_device(device)
        before = self._prompt(prompt_name, prompt)
        texts = [before + text for text in _texts(sentences)]
        kept = self._kept(truncate_dim)
        if output_value == "token_embeddings":
            if _TOKENS not in self._sources:
                raise InputError(f"{self.path}: this model does not give the embeddings of tokens")
            rows: list[FloatArray] = [np.empty(0, np.float32)] * len(texts)
            for places, lengths, found in self._run(texts, _TOKENS, batch_size, show_progress_bar):
                for place, length, hidden in zip(places, lengths, found, strict=True):
                    rows[place] = hidden[:length].copy()
            answers: list[Any] = (
                rows if convert_to_numpy and not convert_to_tensor else [as_tensor(row) for row in rows]
            )
            return answers[0] if isinstance(sentences, str) else answers
        vectors = np.empty((len(texts), self._channels), np.float32)
        for places, lengths, found in self._run(texts, self._sources[0], batch_size, show_progress_bar):
            if found.ndim == 2:
                vectors[places] = found
            else:
                vectors[places] = [row[:length].mean(axis=0) for row, length in zip(found, lengths, strict=True)]
        vectors = vectors[:, :kept]
        if normalize_embeddings:
            vectors = normalized(vectors)
        return converted(vectors, isinstance(sentences, str), convert_to_numpy, convert_to_tensor)

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """As `encode`, with the prompt named ``query`` where the model has one and no other is asked for."""
        return self._encode_as("query", sentences, options)

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """As `encode`, with the prompt named ``document`` where the model has one and no other is asked for."""
        return self._encode_as("document", sentences, options)

    def _encode_as(self, name: str, sentences: str | Sequence[str], options: dict[str, Any]) -> Any:
        if name in self.prompts and "prompt" not in options:
            options = {"prompt_name": name} | options
        return self.encode(sentences, **options)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The similarity of all pairs, f32 [n, m]: a tensor for tensors, else an array.

        ``embeddings1`` is [n, channels] or [channels], ``embeddings2`` [m, channels] or [channels].
        """
        a, b = _vectors(embeddings1), _vectors(embeddings2)
        scores = all_pairs(self._similarity, np.atleast_2d(a), np.atleast_2d(b))
        return as_tensor(scores) if is_tensor(embeddings1) else scores

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The similarity of each of ``embeddings1`` [n, channels] to its partner in ``embeddings2``: f32 [n]."""
        a, b = _vectors(embeddings1), _vectors(embeddings2)
        if a.shape != b.shape:
            raise InputError(f"pairs of vectors need two arrays of one shape, not {list(a.shape)} and {list(b.shape)}")
        scores = SIMILARITIES[self._similarity](a, b)
        return as_tensor(scores) if is_tensor(embeddings1) else scores

    def _kept(self, truncate_dim: int | None) -> int:
        """How many channels of an embedding are returned."""
        kept = truncate_dim if truncate_dim is not None else self.truncate_dim
        if kept is None:
            return self._channels
        if not isinstance(kept, int) or kept < 1:
            raise InputError(f"truncate_dim must be at least 1, not {kept!r}")
        return min(kept, self._channels)

    def _prompt(self, name: str | None, text: str | None) -> str:
        """What is put before every sentence."""
        if text is None:
            name = name if name is not None else self.default_prompt_name
            if name is None:
                return ""
            if name not in self.prompts:
                raise InputError(f"no prompt {name!r}; there are {', '.join(sorted(self.prompts)) or 'none'}")
            text = self.prompts[name]
        if text and not self._pools_prompts:
            raise InputError(f"{self.path}: prompts are not supported where the pooling leaves them out")
        return text

    def _write_settings(self, folder: Path) -> None:
        self.settings |= {
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self._similarity,
        }
        super()._write_settings(folder)


def _read_prompts(settings: Mapping[str, Any], path: Path) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise FileFormatError(f"{path / SETTINGS_FILE}: prompts must be texts by name, not {prompts!r}")
    return {name: text or "" for name, text in prompts.items()}


def _pools_prompts(path: Path) -> bool:
    """Whether the tokens of a prompt are pooled too."""
    if not (path / MODULES_FILE).is_file():
        return True
    folders = [folder for kind, folder in source.read_modules(path) if kind == "Pooling"]
    return all(read_object(path / folder / source.CONFIG_FILE).get("include_prompt", True) for folder in folders)


def _texts(sentences: str | Sequence[str]) -> list[str]:
    texts = [sentences] if isinstance(sentences, str) else list(sentences)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"sentence {index} is of type {type(text).__name__} and not a string")
    return texts


def _vectors(embeddings: Any) -> FloatArray:
    """Tensors, arrays or lists of them as one array f32 [n, channels] or [channels]."""
    rows = [as_array(row) for row in embeddings] if isinstance(embeddings, (list, tuple)) else as_array(embeddings)
    try:
        vectors = np.asarray(rows, np.float32)
    except ValueError as error:
        raise InputError(f"embeddings are not vectors of one length: {error}") from error
    if vectors.ndim not in (1, 2):
        raise InputError(f"embeddings have the shape [n, channels] or [channels], not {list(vectors.shape)}")
    return vectors
