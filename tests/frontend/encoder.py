"""A one-layer encoder whose parts can each be written in the ways that exporters and authors write them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

CHANNELS, HEADS = 16, 2
HEAD_DIM = CHANNELS // HEADS


class Encoder(nn.Module):
    """``forms`` chooses the form of a part: mask, scale, gelu, qkv, norm, positions, output."""

    def __init__(self, **forms: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.forms = forms
        self.words, self.positions = nn.Embedding(50, CHANNELS), nn.Embedding(24, CHANNELS)
        self.types = nn.Embedding(2, CHANNELS)
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.q, self.k, self.v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.o = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.fc1, self.fc2 = nn.Linear(CHANNELS, 32), nn.Linear(32, CHANNELS)
        self.head = nn.Linear(CHANNELS, 2)
        self.biases = nn.Embedding(7, HEADS)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def form(self, part: str, default: str) -> str:
        return self.forms.get(part, default)

    def embed(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1])[None]
        match self.form("positions", "plain"):
            case "offset":
                positions = positions + 2
            case "expanded":
                positions = positions.expand(ids.shape[0], -1)
            case "reversed":
                positions = ids.shape[1] - 1 - positions
        hidden = self.words(ids) + self.positions(positions)
        if self.form("types", "none") == "constant":
            hidden = hidden + self.types(torch.ones_like(ids))
        return self.norm(self.norm1, hidden)

    def norm(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        if self.form("norm", "op") == "op":
            return norm(x)
        centered = x - x.mean(-1, keepdim=True)
        variance = (centered * centered).mean(-1, keepdim=True)
        if self.form("norm", "op") == "rsqrt":
            return centered * (1.0 / torch.sqrt(variance + 1e-5)) * norm.weight + norm.bias
        return centered / torch.sqrt(variance + 1e-5)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], HEADS, HEAD_DIM).transpose(1, 2)

    def by_distance(self, length: int) -> Tensor:
        """[heads, query, key]: a number for each head and distance up to 3."""
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        return self.biases(distance.clamp(-3, 3) + 3).permute(2, 0, 1)

    def masked(self, scores: Tensor, mask: Tensor, ids: Tensor, form: str = "") -> Tensor:
        length = scores.shape[-1]
        causal = torch.ones(length, length).tril() != 0
        match form or self.form("mask", "additive"):
            case "additive":
                return scores + (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
            case "finfo":
                return scores + (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
            case "fill":
                return scores.masked_fill((mask == 0)[:, None, None, :], float("-inf"))
            case "square":
                both = (mask[:, None, None, :] * mask[:, None, :, None]).to(torch.float32)
                return scores + (1.0 - both) * -10000.0
            case "causal":
                return scores.masked_fill(~(causal & (mask[:, None, None, :] != 0)), float("-inf"))
            case "bias":
                return scores + ((1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0 + 0.5)
            case "bias_alone":
                return self.masked(scores + self.by_distance(length), mask, ids, "additive")
            case "bias_and_mask":
                return scores + ((1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0 + self.by_distance(length))
            case "bias_by_key":
                return self.masked(scores + torch.arange(length)[None, None, None, :] * 0.1, mask, ids, "additive")
            case "twice":
                return self.masked(self.masked(scores, mask, ids, "additive"), mask, ids, "additive")
            case "weak":
                return scores + (1.0 - mask[:, None, None, :].to(torch.float32)) * -5.0
            case "ids":
                return scores + (1.0 - (ids != 0)[:, None, None, :].to(torch.float32)) * -10000.0
        return scores

    def attend(self, x: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        if self.form("qkv", "separate") == "merged":
            q, k, v = (self.heads(part) for part in self.qkv(x).split(CHANNELS, dim=-1))
        else:
            q, k, v = (self.heads(linear(x)) for linear in (self.q, self.k, self.v))
        scale = 1 / math.sqrt(HEAD_DIM)
        match self.form("scale", "scores"):
            case "scores":
                scores = q @ k.transpose(-1, -2) * scale
            case "division":
                scores = q @ k.transpose(-1, -2) / math.sqrt(HEAD_DIM)
            case "query":
                scores = (q / math.sqrt(HEAD_DIM)) @ k.transpose(-1, -2)
            case "split":
                scores = (q * math.sqrt(scale)) @ (k.transpose(-1, -2) * math.sqrt(scale))
            case _:
                scores = q @ k.transpose(-1, -2)
        context = torch.softmax(self.masked(scores, mask, ids), dim=-1) @ v
        return self.o(context.transpose(1, 2).reshape(x.shape))

    def gelu(self, x: Tensor) -> Tensor:
        match self.form("gelu", "op"):
            case "half_first":
                return (x * 0.5) * (1.0 + torch.erf(x / math.sqrt(2)))
            case "half_erf":
                return x * (0.5 * (torch.erf(x * math.sqrt(0.5)) + 1.0))
            case "relu":
                return torch.relu(x)
            case "tanh_approximation":
                return nn.functional.gelu(x, approximate="tanh")
            case "new":
                return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))
            case "fast":
                return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))
            case "bent":
                return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.05 * torch.pow(x, 3.0))))
            case "sigmoid":
                return x * torch.sigmoid(1.702 * x)
        return nn.functional.gelu(x)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        x = self.embed(ids)
        if self.form("padding", "kept") == "zeroed":
            x = x * mask[:, :, None].to(torch.float32)
        x = self.norm(self.norm2, x + self.attend(x, mask, ids))
        x = self.norm(self.norm2, x + self.fc2(self.gelu(self.fc1(x))))
        weights = mask[:, :, None].to(torch.float32)
        match self.form("output", "hidden"):
            case "select":
                logits = self.head(x)
                return logits[:, :, 0], logits[..., 1:2].squeeze(-1)
            case "first":
                return torch.tanh(self.head(x[:, 0:1, :].reshape(-1, CHANNELS)))
            case "mean":
                mean = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
                return nn.functional.normalize(mean, dim=1)
            case "mean_expanded":
                weights = weights.expand(x.shape)
                return (x * weights).sum(1) / torch.clamp(weights.sum(1), min=1e-9)
            case "mean_of_all":
                return (x * weights).sum(1) / float(CHANNELS)
        return x
