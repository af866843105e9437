"""ONNX files of Hugging Face sentence encoders, for ONNX Runtime: fp32 and its best dense int8."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastcpu.errors import FileFormatError, InputError
from fastcpu.files import replacing_file
from fastcpu.frontend.sentence_transformers import Pooling, read_pooling
from fastcpu.graph.ir import EMBEDDING

_OPSET = 17


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress messages of the exporter and optimizer; errors are still raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _transformer(model_dir: Path) -> tuple[Pooling, Path]:
    """The pooling and the folder of the transformer; plain transformers get the mean, as in sentence-transformers."""
    return read_pooling(model_dir) or (Pooling("mean", normalize=False), model_dir)


def export_encoder(model_dir: Path, path: Path) -> None:
    """Writes the fp32 encoder with its pooling: outputs last_hidden_state and sentence_embedding (not normalized).

    Raises:
        FileFormatError: the directory holds no model that transformers can load.
        GraphError: its modules or its pooling are not supported.
        InputError: torch or transformers is not installed.
        OutputError: `path` cannot be written.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel
        from transformers.utils import logging as transformers_logging

        from fastcpu.frontend.torch_pooling import pool
    except ImportError as error:
        raise InputError(
            f"exporting {str(model_dir)!r} needs torch and transformers (pip install fastcpu[compress])"
        ) from error
    pooling, folder = _transformer(model_dir)

    class Encoder(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *token_type_ids: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            arrays = (input_ids, attention_mask, *token_type_ids)
            hidden = self.model(**dict(zip(names, arrays, strict=True))).last_hidden_state
            return hidden, pool(hidden, attention_mask, pooling)

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with _quiet():
            model = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FileFormatError(f"{folder}: the model cannot be loaded: {error}") from error
    pooling.channels(model.config.hidden_size)
    names = ["input_ids", "attention_mask"]
    ids = torch.ones((2, 8), dtype=torch.int64)
    example = [ids, ids]
    if "token_type_ids" in inspect.signature(model.forward).parameters:  # DistilBERT has none
        names.append("token_type_ids")
        example.append(torch.zeros_like(ids))
    tokens = {0: "batch", 1: "sequence"}
    with replacing_file(path, parents=True) as temporary, _quiet(), torch.no_grad():
        # The TorchScript exporter: the transformer optimizer below recognizes the graphs that it writes.
        torch.onnx.export(
            Encoder(model.float().eval()),
            tuple(example),
            str(temporary),
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["last_hidden_state", EMBEDDING],
            dynamic_axes={**dict.fromkeys([*names, "last_hidden_state"], tokens), EMBEDDING: {0: "batch"}},
        )


def optimize_for_ort(source: Path, path: Path, model_dir: Path) -> None:
    """Fuses attention, LayerNorm and GELU of an exported encoder with ONNX Runtime's transformer optimizer."""
    from onnxruntime.transformers import optimizer
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(_transformer(model_dir)[1], local_files_only=True)
    heads, hidden = config.num_attention_heads, config.hidden_size
    with replacing_file(path, parents=True) as temporary, _quiet():
        model = optimizer.optimize_model(
            str(source), model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=1
        )
        model.save_model_to_file(str(temporary))


def quantize_for_ort(source: Path, path: Path) -> None:
    """Dynamic int8 of an optimized model, one weight scale per output channel: what ONNX Runtime runs fastest here."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with replacing_file(path, parents=True) as temporary, _quiet():
        quantize_dynamic(
            str(source),
            str(temporary),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
