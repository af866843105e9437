"""Auto classes of transformers over compressed models.

    from fastcpu.integrations.transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(MODEL)
    classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")

Works with transformers 4.57 and 5.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import FileFormatError, InputError
from fastcpu.integrations import source
from fastcpu.integrations.cache import Calibration, compiled
from fastcpu.integrations.saving import save_model
from fastcpu.recipe import Recipe
from fastcpu.runtime import Session
from fastcpu.tasks.engine import ROLES

if TYPE_CHECKING:
    import torch

__all__ = [
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "PreTrainedModel",
]


def _require(package: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"fastcpu.integrations.transformers needs the package {package!r}") from error


class PreTrainedModel:
    """A compressed model with the interface of a model of transformers, as far as inference goes.

    The class has the name that pipelines of transformers 4 recognize a model by; an instance is of a class with the
    name of the model's architecture, which pipelines compare with those that they know.

    Attributes:
        config: the configuration of the model, from its config.json.
        head: what it returns.
    """

    main_input_name = "input_ids"
    input_modalities = "text"
    head: ClassVar[source.Head]

    def __init__(self, session: Session, config: Any) -> None:
        self.config = config
        self._session = session
        self._path = Path(session.path)
        self._inputs = {spec.role: spec.name for spec in session.inputs}
        produced = {output.name: len(output.dims) for output in session.outputs}
        self._outputs = list(self.head.outputs)
        if any(produced.get(name) != rank for name, rank in self.head.outputs.items()):
            raise InputError(f"{session.path}: not a model for {self.head.title}: its outputs are {_shapes(session)}")
        if self.head is source.BARE and produced.get("pooler_output") == 2:
            self._outputs.append("pooler_output")
        result = "BaseModelOutputWithPooling" if len(self._outputs) > len(self.head.outputs) else self.head.result
        self._result: Any = getattr(_require("transformers.modeling_outputs"), result)
        self._torch: Any = _require("torch")

    # ---- inference ----

    def forward(
        self,
        input_ids: torch.Tensor | NDArray[Any] | None = None,
        attention_mask: torch.Tensor | NDArray[Any] | None = None,
        token_type_ids: torch.Tensor | NDArray[Any] | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Run one batch.

        Args:
            input_ids, attention_mask, token_type_ids: integers [batch, sequence], tensors of torch or arrays of NumPy.
                Without a mask, there is no padding; without token types, all are 0.
            return_dict: whether to return a ModelOutput, and not a tuple; by default what ``config`` says.
            others: further arguments of transformers, which must be None or False.

        Returns:
            The ModelOutput of this head: f32 tensors where ``input_ids`` is one, else arrays. Padding is not computed:
            its rows are 0 in hidden states and -1e4 in logits per token.

        Raises:
            InputError: what `fastcpu.Session.run` refuses, or an argument that is not supported.
        """
        asked = sorted(name for name, value in others.items() if value is not None and value is not False)
        if asked:
            raise InputError(f"a compressed model takes {', '.join(ROLES)} and return_dict, not {asked[0]}")
        if input_ids is None:
            raise InputError("input_ids are missing")
        outputs = self._session.run(self._feeds(input_ids, attention_mask, token_type_ids), outputs=self._outputs)
        results: list[Any] = [outputs[name] for name in self._outputs]
        if isinstance(input_ids, self._torch.Tensor):
            results = [self._torch.from_numpy(array) for array in results]
        if self.config.return_dict if return_dict is None else return_dict:
            return self._result(**dict(zip(self._outputs, results, strict=True)))
        return tuple(results)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def _feeds(self, ids: Any, mask: Any, types: Any) -> dict[str, NDArray[Any]]:
        array = self._array("input_ids", ids)
        feeds = {self._inputs["ids"]: array}
        if "mask" in self._inputs:
            feeds[self._inputs["mask"]] = np.ones_like(array) if mask is None else self._array("attention_mask", mask)
        elif mask is not None:
            raise InputError(f"{self._path}: this model takes no attention_mask")
        if types is not None:
            array = self._array("token_type_ids", types)
            if "types" in self._inputs:
                feeds[self._inputs["types"]] = array
            elif array.any():  # tokenizers give zeros to models that do not look at them
                raise InputError(f"{self._path}: this model takes no token_type_ids")
        return feeds

    def _array(self, name: str, value: Any) -> NDArray[Any]:
        if isinstance(value, self._torch.Tensor):
            if not value.is_cpu:
                raise InputError(f"{name} is on {value.device}: fastcpu runs on CPUs")
            array: NDArray[Any] = (value.detach() if value.requires_grad else value).numpy()
            return array
        if isinstance(value, np.ndarray):
            return value
        raise InputError(f"{name} must be a tensor of torch or an array of NumPy, not {type(value).__name__}")

    # ---- what pipelines ask of a model ----

    @property
    def device(self) -> torch.device:
        """The CPU."""
        device: torch.device = self._torch.device("cpu")
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of what it returns."""
        dtype: torch.dtype = self._torch.float32
        return dtype

    @property
    def base_model_prefix(self) -> str:
        """The model type, for messages of pipelines."""
        return str(self.config.model_type)

    @property
    def name_or_path(self) -> str:
        """The compiled directory."""
        return str(self._path)

    def can_generate(self) -> bool:
        """It does not."""
        return False

    def eval(self) -> PreTrainedModel:
        """The model: it is always in evaluation mode."""
        return self

    def to(self, *args: Any, **kwargs: Any) -> PreTrainedModel:
        """The model, where a device asked for is the CPU and a dtype f32; InputError for others."""
        for asked in (*args, *kwargs.values()):
            is_device = isinstance(asked, (str, self._torch.device))
            if (self._torch.device(asked).type if is_device else asked) not in ("cpu", -1, None, self._torch.float32):
                raise InputError(
                    f"fastcpu runs on CPUs and returns float32: the model cannot be moved to {asked} "
                    '(give pipelines device="cpu")'
                )
        return self

    # ---- files ----

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, safe_serialization: bool = True) -> None:
        """Write a directory that `from_pretrained`, `fastcpu.Session` and transformers' AutoTokenizer open.

        Args:
            save_directory: replaced as a whole where it holds a compiled model; must be empty or missing otherwise.
            safe_serialization: weights are always written as safetensors.

        Raises:
            InputError: ``safe_serialization`` is False.
            OutputError: the directory cannot be written, or holds something else.
        """
        if not safe_serialization:
            raise InputError("weights are written as safetensors only: safe_serialization cannot be False")
        save_model(self._path, save_directory, self.config.save_pretrained)


def _shapes(session: Session) -> str:
    return ", ".join(f"{output.name} [{', '.join(map(str, output.dims))}]" for output in session.outputs)


class _AutoModel:
    """Opens models of one kind."""

    head: ClassVar[source.Head]

    def __init__(self) -> None:
        raise InputError(f"{type(self).__name__} is not made directly; use {type(self).__name__}.from_pretrained")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        recipe: str | os.PathLike[str] | Recipe = "int8-dynamic",
        calibration: Calibration | None = None,
        threads: int | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> PreTrainedModel:
        """Open a compressed model, or compress one without training and open that.

        Args:
            pretrained_model_name_or_path: a directory that fastcpu wrote, which is opened as it is; a directory of
                transformers; or the name of a model on the hub that is in the cache of Hugging Face.
            recipe: how a model of transformers is compressed: a recipe of ``fastcpu recipes`` that does not train, or
                a file. What was compiled is kept, and found again by the contents of the model.
            calibration: texts, or a text file, for a recipe that needs some.
            threads: threads per run; all CPUs available to this process by default.
            revision: of a model on the hub.
            cache_dir: where compiled models are kept, by default ``~/.cache/fastcpu/compiled``.

        Raises:
            InputError: there is no such model, it is of another kind, its weights are not trained for this one, or the
                recipe trains.
            fastcpu.errors.FastcpuError: as `fastcpu.compile` and `fastcpu.Session` raise it.
        """
        _require("transformers")
        head = cls.head
        path = compiled(
            pretrained_model_name_or_path,
            lambda found: source.with_head(found, head),
            head.title,
            recipe=recipe,
            calibration=calibration,
            revision=revision,
            cache_dir=cache_dir,
            threads=threads,
        )
        return cls.from_session(Session(path, threads=threads or 0))

    @classmethod
    def from_session(cls, session: Session) -> PreTrainedModel:
        """The model of an open session, whose directory needs a config.json; errors as those of `from_pretrained`."""
        transformers: Any = _require("transformers")
        head, path = cls.head, Path(session.path)
        config = source.read_config(path)
        name = head.class_name(str(config.get("model_type")), str(path / source.CONFIG_FILE))
        found = source.architecture(config)
        if head is not source.BARE and found is not None and found != name:
            raise InputError(f"{path}: a {found}, and not a model for {head.title} ({name})")
        try:
            loaded = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        except Exception as error:  # whatever transformers raises for settings that do not fit
            raise FileFormatError(f"{path / source.CONFIG_FILE}: {error}".partition("\n")[0]) from error
        kind = type(name, (PreTrainedModel,), {"head": head, "__doc__": PreTrainedModel.__doc__})
        model: PreTrainedModel = kind(session, loaded)
        return model


class AutoModel(_AutoModel):
    """Models without a head: hidden states."""

    head = source.BARE


class AutoModelForSequenceClassification(_AutoModel):
    """A label, or a number, for each sequence."""

    head = source.SEQUENCE_CLASSIFICATION


class AutoModelForTokenClassification(_AutoModel):
    """A label for each token."""

    head = source.TOKEN_CLASSIFICATION


class AutoModelForQuestionAnswering(_AutoModel):
    """Where an answer begins and ends."""

    head = source.QUESTION_ANSWERING


class AutoModelForMaskedLM(_AutoModel):
    """What stands behind a mask."""

    head = source.MASKED_LM
