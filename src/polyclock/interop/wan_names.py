"""The names of Wan's weights in diffusers' `WanTransformer3DModel` and in a model of ours, both ways in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Form = Literal["same", "patch", "row"]

IN_BLOCK = {  # ours: theirs, whose rows follow each other in ours
    "attention.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attention.out": ("attn1.to_out.0",),
    "cross.q": ("attn2.to_q",),
    "cross.kv": ("attn2.to_k", "attn2.to_v"),
    "cross.out": ("attn2.to_out.0",),
    "mlp.0": ("ffn.net.0.proj",),
    "mlp.2": ("ffn.net.2",),
}
NORMS = {"attention.q_norm": "attn1.norm_q", "attention.k_norm": "attn1.norm_k"}
NORMS |= {"cross.q_norm": "attn2.norm_q", "cross.k_norm": "attn2.norm_k"}


@dataclass(frozen=True)
class Link:
    """One weight of ours and the ones of theirs that it is made of.

    form   "same"; "patch": theirs is a convolution (D, C, *patch), ours a linear map whose patches list channels last;
           "row": theirs has one more dimension, of length 1, in front
    """

    ours: str
    theirs: tuple[str, ...]
    form: Form = "same"

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """Theirs -> ours."""
        if self.form == "patch":
            return parts[0].movedim(1, -1).flatten(1).contiguous()
        if self.form == "row":
            return parts[0][0]
        return parts[0] if len(parts) == 1 else torch.cat(list(parts))

    def write(self, value: Tensor, patch: Sequence[int]) -> list[Tensor]:
        """Ours -> theirs; `patch` is the size of a token over (T, H, W)."""
        if self.form == "patch":
            return [value.unflatten(1, (*patch, -1)).movedim(-1, 1).contiguous()]
        if self.form == "row":
            return [value[None]]
        return [part.contiguous() for part in value.chunk(len(self.theirs))]


def links(depth: int, cross_norm: bool, video: str, text: str, time: str) -> list[Link]:
    """Every weight of a Wan transformer. `video` and `text` are what our model calls the modality and the condition,
    `time` the modality that has the network of the times."""
    clock, words = "condition_embedder.time_embedder.linear_", "condition_embedder.text_embedder.linear_"
    out = [
        Link(f"embed.{video}.weight", ("patch_embedding.weight",), "patch"),
        Link(f"embed.{video}.bias", ("patch_embedding.bias",)),
        *_linear(f"modulation.time.{time}.first", f"{clock}1"),
        *_linear(f"modulation.time.{time}.last", f"{clock}2"),
        *_linear("backbone.time.linear", "condition_embedder.time_proj"),
        *_linear(f"conditioner.project.{text}.0", f"{words}1"),
        *_linear(f"conditioner.project.{text}.2", f"{words}2"),
        Link("backbone.table", ("scale_shift_table",), "row"),
        *_linear(f"head.{video}", "proj_out"),
    ]
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"blocks.{i}"
        out.append(Link(f"{ours}.table", (f"{theirs}.scale_shift_table",), "row"))
        for a, b in IN_BLOCK.items():
            out += _linear(f"{ours}.{a}", *(f"{theirs}.{name}" for name in b))
        out += [Link(f"{ours}.{a}.weight", (f"{theirs}.{b}.weight",)) for a, b in NORMS.items()]
        if cross_norm:
            out += _linear(f"{ours}.cross_norm", f"{theirs}.norm2")
    return out


def _linear(ours: str, *theirs: str) -> list[Link]:
    return [Link(f"{ours}.{end}", tuple(f"{name}.{end}" for name in theirs)) for end in ("weight", "bias")]
