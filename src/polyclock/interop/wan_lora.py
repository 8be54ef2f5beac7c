"""Low-rank changes of a Wan transformer (LoRA, Hu et al. 2021) as files of diffusers: what a model has learnt beyond
the network that it began as, written and read.

A file holds `transformer.blocks.0.attn1.to_q.lora_A.weight` (r, in) and `.lora_B.weight` (out, r), whose product is
added to the weight; beside it lie the expanded ends, which no such file holds (`interop/expanded.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import unknown
from ..model import WorldModel
from . import expanded
from .wan_folder import open_weights, transformer_folder
from .wan_names import Link

FILE, BESIDE = "pytorch_lora_weights.safetensors", "expanded_ends.safetensors"
PREFIX, DOWN, UP, SCALE = "transformer.", ".lora_A.weight", ".lora_B.weight", ".alpha"
LEFT = 0.02  # of a change, that a rank may leave out


def save(model: WorldModel, base: str | Path, folder: str | Path, *, rank: int, text: str = "text") -> float:
    """Write what `model` has learnt beside the network in the folder `base`: changes of this rank, and its ends.

    diffusers' `load_lora_weights(folder)` reads the changes. Each is the best of its rank (by singular values), exact
    for a model that was trained with changes of at most this rank. Returns the largest share that is left out.

    Errors: ValueError where more than 2 % is left out, or where weights differ that such a file cannot change.
    """
    names = expanded.fused(model)
    inner, _ = expanded.tables(model, names[0], text)
    state = model.state_dict(keep_vars=True)
    out: dict[str, Tensor] = {}
    worst = 0.0
    weights = open_weights(transformer_folder(base))
    for link, theirs in zip(inner, weights.stream(link.theirs for link in inner), strict=True):
        ours = link.write(state[link.ours].detach().cpu(), model.modalities[names[0]].patch)
        for name, was, now in zip(link.theirs, theirs, ours, strict=True):
            change = now.float() - was.float()
            if not change.any():
                continue
            owner = name.removesuffix(".weight")
            if change.ndim != 2 or owner == name or not _inside(name):
                raise ValueError(
                    f"{name!r} is another than in {base}; a file of low-rank changes holds those of linear maps in "
                    "blocks alone, so a model of which all weights were trained is saved whole (interop.expanded.save)"
                )
            down, up, left = _factors(change, rank)
            worst = max(worst, left)
            if left > LEFT:
                raise ValueError(f"rank={rank} leaves {left:.0%} of the change of {name!r} out; take a higher one")
            out[f"{PREFIX}{owner}{DOWN}"], out[f"{PREFIX}{owner}{UP}"] = down, up
    if not out:
        raise ValueError(f"the model's blocks are those of {base}, to the bit; there is no change to write")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = json.dumps({f"{PREFIX}r": rank, f"{PREFIX}lora_alpha": rank})
    safetensors.torch.save_file(out, folder / FILE, metadata={"format": "pt", "lora_adapter_metadata": about})
    channels = json.dumps({n: model.modalities[n].shape[-1] for n in names})
    ends = expanded.ends_of(model, names)
    safetensors.torch.save_file(ends, folder / BESIDE, metadata={"format": "pt", expanded.NOTE: channels})
    return worst


def load(model: WorldModel, path: str | Path, *, scale: float = 1.0, text: str = "text") -> None:
    """Add the changes of a file, `scale` times, to the model's weights; expanded ends that lie beside it take the place
    of the model's.

    `path` is the file, or its folder. Errors: ValueError for a name that is not known, or factors that do not fit.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    changes = _read(file)
    names = expanded.fused(model)
    inner, _ = expanded.tables(model, names[0], text)
    owners = {n.removesuffix(".weight"): (link, i) for link in inner for i, n in enumerate(link.theirs)}
    added: dict[str, list[tuple[Link, int, Tensor]]] = {}
    for owner, change in _products(changes, file):
        if owner not in owners or not _inside(f"{owner}.weight"):
            raise unknown(f"map in {file}:", owner, owners)
        link, place = owners[owner]
        added.setdefault(link.ours, []).append((link, place, change))
    for name, parts in added.items():
        value = model.get_parameter(name)
        for link, place, change in parts:
            rows = value.detach().chunk(len(link.theirs))[place]
            if rows.shape != change.shape:
                raise ValueError(
                    f"the change of {link.theirs[place]!r} in {file} is {tuple(change.shape)}; needed: "
                    f"{tuple(rows.shape)}"
                )
            rows += (scale * change).to(rows)
    ends = file.parent / BESIDE
    if ends.is_file():
        expanded.put_ends(model, names, _read(ends))


def _inside(name: str) -> bool:
    """Whether a weight is that of a linear map in a block."""
    return name.startswith("blocks.") and name.endswith(".weight") and ".norm" not in name


def _factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """(rank, in) and (out, rank) whose product is nearest, and the share of the norm that they leave out."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:rank].sqrt()
    left = float(s[rank:].norm() / s.norm())
    return (root[:, None] * v[:rank]).contiguous(), (u[:, :rank] * root).contiguous(), left


def _products(changes: Mapping[str, Tensor], file: Path) -> Iterator[tuple[str, Tensor]]:
    """(name of the map, what is added to its weight), from factors with or without an alpha."""
    for name in (n for n in changes if n.endswith(DOWN)):
        owner = name.removesuffix(DOWN)
        if owner + UP not in changes:
            raise ValueError(f"{file} has {name!r}, but not {owner + UP!r}")
        down, up = changes[name].float(), changes[owner + UP].float()
        alpha = changes.get(owner + SCALE)
        share = 1.0 if alpha is None else float(alpha) / len(down)
        yield owner.removeprefix(PREFIX), share * (up @ down)
    for name in changes:
        if not name.endswith((DOWN, UP, SCALE)):
            raise unknown(f"weight in {file}:", name, _ends_like(changes))


def _ends_like(changes: Mapping[str, Tensor]) -> Sequence[str]:
    return [n for n in changes if n.endswith((DOWN, UP))]


def _read(file: Path) -> dict[str, Tensor]:
    """Errors: ValueError for a file that is not there or damaged. lora_alpha of the header counts like an alpha."""
    try:
        with safetensors.safe_open(file, framework="pt") as found:
            values = {n: found.get_tensor(n) for n in found.keys()}  # noqa: SIM118
            about = json.loads((found.metadata() or {}).get("lora_adapter_metadata", "{}"))
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{file} holds no readable safetensors: {error}") from error
    alpha = about.get(f"{PREFIX}lora_alpha")
    if alpha is not None:
        for name in [n for n in values if n.endswith(DOWN)]:
            values.setdefault(name.removesuffix(DOWN) + SCALE, torch.tensor(float(alpha)))
    return values
