"""ONNX files of Hugging Face sentence encoders, for ONNX Runtime: fp32 and its best dense int8."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastcpu.errors import InputError, OutputError

SENTENCE_OUTPUT = "sentence_embedding"
_OPSET = 17


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        try:
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error


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


def pooling_mode(model_dir: Path) -> str:
    """`mean` or `cls`, as 1_Pooling/config.json of sentence-transformers says; `mean` without that file."""
    path = model_dir / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = json.loads(path.read_text(encoding="utf-8"))
    enabled = [
        key.removeprefix("pooling_mode_")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    modes = {"mean_tokens": "mean", "cls_token": "cls"}
    if len(enabled) != 1 or enabled[0] not in modes:
        raise InputError(f"{path}: pooling by {enabled} is not supported, only one of {sorted(modes)}")
    return modes[enabled[0]]


def export_encoder(model_dir: Path, path: Path) -> None:
    """Writes the fp32 encoder with its pooling: outputs last_hidden_state and sentence_embedding (not normalized)."""
    try:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise InputError(
            f"exporting {str(model_dir)!r} needs torch and transformers (pip install fastcpu[compress])"
        ) from error
    pooling = pooling_mode(model_dir)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = (
                AutoModel.from_pretrained(model_dir, local_files_only=True, attn_implementation="eager").float().eval()
            )

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state
            if pooling == "cls":
                return hidden, hidden[:, 0]
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return hidden, (hidden * weights).sum(1) / weights.sum(1)

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones((2, 8), dtype=torch.int64)
    tokens = {0: "batch", 1: "sequence"}
    with _written_whole(path) as temporary, _quiet(), torch.no_grad():
        # The TorchScript exporter: the transformer optimizer below recognizes the graphs that it writes.
        torch.onnx.export(
            Encoder(),
            (ids, ids, torch.zeros_like(ids)),
            str(temporary),
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["last_hidden_state", SENTENCE_OUTPUT],
            dynamic_axes={**dict.fromkeys([*names, "last_hidden_state"], tokens), SENTENCE_OUTPUT: {0: "batch"}},
        )


def optimize_for_ort(source: Path, path: Path, model_dir: Path) -> None:
    """Fuses attention, LayerNorm and GELU of an exported encoder with ONNX Runtime's transformer optimizer."""
    from onnxruntime.transformers import optimizer

    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    with _written_whole(path) as temporary, _quiet():
        model = optimizer.optimize_model(
            str(source), model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=1
        )
        model.save_model_to_file(str(temporary))


def quantize_for_ort(source: Path, path: Path) -> None:
    """Dynamic int8 of an optimized model, one weight scale per output channel: what ONNX Runtime runs fastest here."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _written_whole(path) as temporary, _quiet():
        quantize_dynamic(
            str(source),
            str(temporary),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
