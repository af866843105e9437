"""From what a drop-in is asked to open to a directory that ``fastcpu.compile`` takes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fastcpu.errors import FileFormatError, GraphError, InputError
from fastcpu.frontend.sentence_transformers import MODULES_FILE, read_json, read_pooling

CONFIG_FILE = "config.json"
_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pt")


@dataclass(frozen=True)
class Head:
    """What an auto class of transformers promises.

    Attributes:
        title: for messages.
        mapping: the dict of transformers.models.auto.modeling_auto that has its classes by model type.
        result: the class of transformers.modeling_outputs that it returns.
        outputs: the outputs of a graph that make it up, with their ranks.
    """

    title: str
    mapping: str
    result: str
    outputs: Mapping[str, int]

    def class_name(self, model_type: str, where: str) -> str:
        """The class of transformers for this head and a config.json's model type; InputError if there is none."""
        from transformers.models.auto import modeling_auto

        name: Any = getattr(modeling_auto, self.mapping).get(model_type)
        if name is None:
            raise InputError(f"{where}: transformers has no model for {self.title} of type {model_type!r}")
        return cast("str", name if isinstance(name, str) else name[0])


BARE = Head("hidden states", "MODEL_MAPPING_NAMES", "BaseModelOutput", {"last_hidden_state": 3})
SEQUENCE_CLASSIFICATION = Head(
    "sequence classification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "SequenceClassifierOutput",
    {"logits": 2},
)
TOKEN_CLASSIFICATION = Head(
    "token classification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES", "TokenClassifierOutput", {"logits": 3}
)
QUESTION_ANSWERING = Head(
    "question answering",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "QuestionAnsweringModelOutput",
    {"start_logits": 2, "end_logits": 2},
)
MASKED_LM = Head("filling masks", "MODEL_FOR_MASKED_LM_MAPPING_NAMES", "MaskedLMOutput", {"logits": 3})


_ORGANIZATION = "sentence-transformers"


def locate(model: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The directory of a model: a local one, or that of a hub id in the cache of Hugging Face. Nothing is downloaded.

    A name without an organization may be one of sentence-transformers, as it is there.

    Raises:
        InputError: there is neither.
    """
    path = Path(model)
    if path.is_dir():
        return path
    reason = "no such directory"
    if path.is_file():
        reason = "a file and no directory; `fastcpu compile` makes one of it"
    elif not path.exists() and isinstance(model, str):
        try:
            names = [model] if "/" in model else [model, f"{_ORGANIZATION}/{model}"]
            found = next(filter(None, (_in_cache(name, revision) for name in names)), None)
            if found is not None:
                return found
            reason = "no such directory, and not in the cache of Hugging Face (nothing is downloaded)"
        except ImportError:
            reason = "no such directory (names of models on the hub need the package 'huggingface_hub')"
    raise InputError(f"{os.fspath(model)}: {reason}")


def _in_cache(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # it is not in the cache, or no name of a model
        return None


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a directory; FileFormatError if it is missing or no JSON object."""
    config = read_json(path / CONFIG_FILE)
    if not isinstance(config, dict):
        raise FileFormatError(f"{path / CONFIG_FILE}: not a JSON object")
    return config


def architecture(config: Mapping[str, Any]) -> str | None:
    """The class that a config.json says the weights are of."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, Sequence) and named else None


# ---- sources for fastcpu.compile ----


@contextmanager
def with_head(path: Path, head: Head) -> Iterator[Path]:
    """A directory whose weights are those of the class for ``head``: ``path``, or a temporary one.

    The weights of another class, say a pretrained language model for a bare encoder, are read by transformers, which
    drops what the wanted class does not have.

    Raises:
        InputError: the weights lack the head.
        FileFormatError: config.json or the weights cannot be loaded.
    """
    config = read_config(path)
    wanted = head.class_name(str(config.get("model_type")), str(path / CONFIG_FILE))
    fits = architecture(config) == wanted or (architecture(config) is None and head is BARE)
    pooled = head is not BARE and (path / MODULES_FILE).is_file()  # that file would make it a sentence encoder
    if fits and not pooled:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.resolve().name
        made.mkdir()
        _link_files(path, made)
        if pooled:
            (made / MODULES_FILE).unlink()
        if not fits:
            _save_as(path, wanted, head, made)
        yield made


def _link_files(path: Path, out: Path) -> None:
    """Give the files of a directory, and not those of its folders, a name in another one; those there stay."""
    for each in path.iterdir():
        if each.is_file() and not (out / each.name).exists():
            (out / each.name).symlink_to(each.resolve())


def _save_as(path: Path, class_name: str, head: Head, out: Path) -> None:
    """Replace config.json and the weights in ``out`` by those of the class, without those that ``path`` lacks."""
    import transformers

    from fastcpu.frontend.torch_export import quiet

    kind: Any = getattr(transformers, class_name)
    try:
        with quiet():
            model, info = kind.from_pretrained(path, local_files_only=True, output_loading_info=True)
    except Exception as error:  # safetensors, pickle, torch and transformers each raise their own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise FileFormatError(f"{path}: cannot be loaded as {class_name}: {reason}") from error
    lacking = set(info["missing_keys"])
    needed = sorted(key for key in lacking if not (head is BARE and "pooler." in key))
    if needed:
        raise InputError(
            f"{path}: the weights are not trained for {head.title}: {class_name} also has {', '.join(needed[:3])}"
        )
    for each in out.iterdir():
        if each.name == CONFIG_FILE or each.name.endswith((*_WEIGHTS, ".index.json")):
            each.unlink()
    with quiet():
        model.save_pretrained(out, state_dict={k: v for k, v in model.state_dict().items() if k not in lacking})


@contextmanager
def as_cross_encoder(path: Path) -> Iterator[Path]:
    """As `with_head` for sequence classification; GraphError for a modules.json that lists more than a transformer."""
    if (path / MODULES_FILE).is_file():
        modules = read_modules(path)
        if modules != [("Transformer", "")]:
            kinds = ", ".join(kind for kind, _ in modules)
            raise GraphError(f"{path / MODULES_FILE}: {kinds}: of a cross encoder, only a Transformer is supported")
    with with_head(path, SEQUENCE_CLASSIFICATION) as source:
        yield source


@contextmanager
def as_sentence_encoder(path: Path) -> Iterator[Path]:
    """A sentence-transformers directory whose transformer lies beside modules.json: ``path``, or a temporary one.

    A plain directory of transformers gets the mean over its tokens, as in sentence-transformers.
    """
    found = read_pooling(path)
    if found is not None and found[1].resolve() == path.resolve():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.resolve().name
        (made / "1_Pooling").mkdir(parents=True)
        pooling = made / "1_Pooling" / CONFIG_FILE
        kinds = ["Transformer", "Pooling"]
        if found is None:
            pooling.write_text(json.dumps({"pooling_mode": "mean"}), encoding="utf-8")
        else:
            listed = read_modules(path)
            kinds = [kind for kind, _ in listed]
            shutil.copyfile(path / listed[1][1] / CONFIG_FILE, pooling)
            for i, dense in enumerate(found[0].folders, 2):
                (made / f"{i}_Dense").mkdir()
                _link_files(dense, made / f"{i}_Dense")
            _link_files(found[1], made)
        folders = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], 1))]
        modules = [
            {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
            for i, (folder, kind) in enumerate(zip(folders, kinds, strict=True))
        ]
        (made / MODULES_FILE).write_text(json.dumps(modules, indent=2), encoding="utf-8")
        _link_files(path, made)
        yield made


def read_modules(path: Path) -> list[tuple[str, str]]:
    """The kind of each module of modules.json, say ``Pooling``, and its folder."""
    try:
        return [
            (str(module["type"]).rpartition(".")[2], str(module.get("path", "")))
            for module in read_json(path / MODULES_FILE)
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(f"{path / MODULES_FILE}: not a list of modules with a type and a path") from error
