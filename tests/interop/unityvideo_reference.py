"""The released network in its own words, on the blocks of diffusers' Wan: what an imported checkpoint is held against.

Both videos are cut into tokens and laid side by side along the width; positions run over the wide grid; every token has
the noisy stream's time; the left half reads the caption, the right half what the modality is; each half has its head.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

NAMES = ("depth", "raft", "segmentation", "skeleton", "densepose")
# Ours in the checkpoint are the names of Wan's authors.
TO_AUTHORS = [
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn1.to_", "self_attn."),
    ("attn2.to_", "cross_attn."),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    ("norm2.", "norm3."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("proj_out", "head.head"),
]


class Released(nn.Module):
    """`base` is a WanTransformer3DModel; every weight that is added is random too."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        config = base.config
        dim = config.num_attention_heads * config.attention_head_dim
        patch, cells = tuple(config.patch_size), config.in_channels
        self.base = base
        self.flow_patch_embedding = nn.Conv3d(cells, dim, patch, patch)
        self.flow_in = nn.Linear(dim, dim)
        self.flow_head = nn.Linear(dim, cells * patch[1] * patch[2])
        self.flow_table = nn.Parameter(torch.randn(1, 2, dim) * 0.3)
        self.modality_embeddings = nn.ParameterDict({n: nn.Parameter(torch.randn(dim) * 0.3) for n in NAMES})

    def forward(self, video: Tensor, other: Tensor, name: str, t: Tensor, text: Tensor, prompt: Tensor):
        """video, other (B, C, T, H, W) as they are shown; t (B,) of the noisy ones -> what is said of each."""
        base = self.base
        left, right = base.patch_embedding(video), self.flow_patch_embedding(other)
        right = (self.flow_in(right.movedim(1, -1)) + self.modality_embeddings[name]).movedim(-1, 1)
        wide = torch.cat([left, right], -1)
        f, h, w2 = wide.shape[2:]
        rope = base.rope(torch.cat([video, other], -1))
        x = wide.flatten(2).transpose(1, 2)
        temb, time, caption, _ = base.condition_embedder(1000 * t, text, None)
        told = base.condition_embedder.text_embedder(prompt)
        time = time.unflatten(1, (6, -1))
        for block in base.blocks:
            a, b, c, d, e, g = (block.scale_shift_table + time).chunk(6, 1)
            x = x + block.attn1(block.norm1(x) * (1 + b) + a, None, None, rope) * c
            grid = block.norm2(x).unflatten(1, (f, h, w2))
            halves = [half.flatten(1, 3) for half in grid.chunk(2, 3)]
            halves = [block.attn2(half, words, None, None) for half, words in zip(halves, (caption, told), strict=True)]
            x = x + torch.cat([half.unflatten(1, (f, h, w2 // 2)) for half in halves], 3).flatten(1, 3)
            x = x + block.ffn(block.norm3(x) * (1 + e) + d) * g
        left, right = (half.flatten(1, 3) for half in x.unflatten(1, (f, h, w2)).chunk(2, 3))
        ends = ((left, base.scale_shift_table, base.proj_out), (right, self.flow_table, self.flow_head))
        out = []
        for half, table, head in ends:
            shift, scale = (table + temb[:, None]).chunk(2, 1)
            y = head(base.norm_out(half) * (1 + scale) + shift)
            y = y.unflatten(1, (f, h, w2 // 2)).unflatten(-1, (1, 2, 2, -1))  # (B, f, h, w, 1, 2, 2, C)
            out.append(y.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6).flatten(4, 5).flatten(2, 3))
        return out

    def checkpoint(self, authors: bool) -> dict[str, Tensor]:
        """The released keys; the Wan's by the names of its authors, or of diffusers."""
        state = {}
        for name, value in self.base.state_dict().items():
            state[f"base.{by_authors(name) if authors else name}"] = value
        for part in ("flow_patch_embedding", "flow_in"):
            state |= {f"{part}.{n}": v for n, v in getattr(self, part).state_dict().items()}
        state |= {f"flow_head.head.{n}": v for n, v in self.flow_head.state_dict().items()}
        state["flow_head.modulation"] = self.flow_table.data
        state |= {f"modality_embeddings.{n}": v.data for n, v in self.modality_embeddings.items()}
        return {n: v.detach().clone().contiguous() for n, v in state.items()}

    def save(self, file: Path, authors: bool = True) -> None:
        if file.suffix == ".safetensors":
            save_file(self.checkpoint(authors), file)
        else:
            torch.save({"model": self.checkpoint(authors)}, file)


def by_authors(name: str) -> str:
    if name == "scale_shift_table":
        return "head.modulation"
    name = name.replace("scale_shift_table", "modulation")
    for ours, theirs in TO_AUTHORS:
        name = name.replace(ours, theirs)
    return name
