"""The model families of transformers that are imported, and what their classes, weights and configurations are called.

To add one: its row in ``FAMILIES``. tests/frontend/test_families.py then imports it with every head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastcpu.errors import GraphError

OUTPUTS = {
    "Model": ("last_hidden_state",),
    "ForMaskedLM": ("logits",),
    "ForQuestionAnswering": ("start_logits", "end_logits"),
    "ForSequenceClassification": ("logits",),
    "ForTokenClassification": ("logits",),
}
"""The endings of class names, and what the models of such a class answer."""

PRETRAINING = (
    "cls.",
    "lm_head.",
    "predictions.",
    "sop_classifier.",
    "generator_predictions.",
    "generator_lm_head.",
    "discriminator_predictions.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
)
"""Heads that pretraining leaves in a checkpoint; a class ending in ForMaskedLM reads some of them."""

HEADS = {
    "qa_outputs.": ("ForQuestionAnswering",),
    "pre_classifier.": ("ForSequenceClassification",),
    "classifier.dense.": ("ForSequenceClassification",),
    "classifier.out_proj.": ("ForSequenceClassification",),
    "classifier.": ("ForSequenceClassification", "ForTokenClassification"),
}
"""Heads that a class with one of these endings reads, the more telling first."""

POOLER = "pooler."
"""What a checkpoint may lack or hold where no output reads it."""


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: what its classes begin with.
        prefix: what a class with a head calls the model below, and so the first part of that model's weights.
        types: whether token types are an input: always, never, or where the configuration has more than one type.
        layers: where the list of encoder layers hangs in the model without head; empty where layers share weights.
        depth: what the configuration calls the number of layers.
        projections: what an attention calls its linears for queries, keys and values.
        reads_pooler: class endings whose output depends on the pooler.
        counts_positions: positions are those among the tokens that are not padding, behind that of the padding token.
    """

    name: str
    prefix: str
    types: Literal["always", "never", "several"] = "always"
    layers: str = "encoder.layer"
    depth: str = "num_hidden_layers"
    projections: tuple[str, str, str] = ("query", "key", "value")
    reads_pooler: tuple[str, ...] = ()
    counts_positions: bool = False

    @property
    def model_type(self) -> str:
        """What config.json calls it, without hyphens and underscores."""
        return self.name.lower()

    def inputs(self, config: Any) -> tuple[str, ...]:
        """The inputs of a model with this configuration."""
        several = getattr(config, "type_vocab_size", 1) > 1
        types = self.types == "always" or (self.types == "several" and several)
        return ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))

    def length(self, config: Mapping[str, Any]) -> Any:
        """How many tokens the positions of a config.json allow; whatever it holds where that is no number."""
        rows, padding = config.get("max_position_embeddings"), config.get("pad_token_id", 1)
        if not self.counts_positions or not isinstance(rows, int) or not isinstance(padding, int):
            return rows
        return rows - padding - 1

    def base(self, module: Any, ending: str) -> Any:
        """The model without its head in a module whose class has this ending."""
        return module if ending == "Model" else getattr(module, self.prefix)


FAMILIES = (
    Family("Albert", "albert", layers="", reads_pooler=("ForSequenceClassification",)),
    Family("Bert", "bert", reads_pooler=("ForSequenceClassification",)),
    Family("Camembert", "roberta", types="several", counts_positions=True),
    Family(
        "DistilBert",
        "distilbert",
        types="never",
        layers="transformer.layer",
        depth="n_layers",
        projections=("q_lin", "k_lin", "v_lin"),
    ),
    Family("Electra", "electra"),
    Family("MPNet", "mpnet", types="never", projections=("q", "k", "v"), counts_positions=True),
    Family("Roberta", "roberta", types="several", counts_positions=True),
    Family("XLMRoberta", "roberta", types="several", counts_positions=True),
)

_DISENTANGLED = "its attention adds products with embeddings of relative positions to the scores"
_REFUSED = {"Deberta": _DISENTANGLED, "DebertaV2": _DISENTANGLED}
"""Families that look like supported ones, and what the runtime has no op for."""

SUPPORTED = f"{', '.join(family.name for family in FAMILIES)}, each with {', '.join(OUTPUTS)}"


def split(architecture: str) -> tuple[Family, str] | None:
    """The family and the ending of a class name; None if it is not a supported class."""
    for family in FAMILIES:
        ending = architecture.removeprefix(family.name)
        if ending != architecture and ending in OUTPUTS:
            return family, ending
    return None


def unsupported(architecture: str, where: str = "") -> GraphError:
    """The error for a class that is not supported, with the reason where it is known."""
    reason = _REFUSED.get(architecture.partition("For")[0].removesuffix("Model"))
    because = "" if reason is None else f" ({reason})"
    return GraphError(f"{where}{architecture} is not supported{because}; supported are {SUPPORTED}, and .onnx files")


def of_type(model_type: str) -> Family | None:
    """The family of a config.json's ``model_type``."""
    plain = model_type.replace("-", "").replace("_", "").lower()
    return next((family for family in FAMILIES if family.model_type == plain), None)
