"""Low-rank changes of a Wan transformer (LoRA, Hu et al. 2021) as files of diffusers: what a model has learnt beyond
the network that it began as, written and read.

A file holds `transformer.blocks.0.attn1.to_q.lora_A.weight` (r, in) and `.lora_B.weight` (out, r), whose product is
added to the weight; beside it lie the expanded ends, which no such file holds (`interop/expanded.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import unknown
from ..model import WorldModel
from . import expanded
from .wan_folder import open_weights, transformer_folder

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
    inner = expanded.inner_of(model, names[0], text)
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
    channels = json.dumps(expanded.channels(model, names))
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
    names = expanded.fused(model)
    inner = expanded.inner_of(model, names[0], text)
    places = {n.removesuffix(".weight"): (link, i) for link in inner for i, n in enumerate(link.theirs) if _inside(n)}
    changes: list[tuple[Tensor, Tensor, Tensor, float]] = []
    for owner, down, up, alpha in _changes(file):
        if owner not in places:
            raise unknown(f"map in {file}:", owner, places)
        link, place = places[owner]
        rows = model.get_parameter(link.ours).detach().chunk(len(link.theirs))[place]
        fits = down.ndim == up.ndim == 2 and 0 < len(down) == up.shape[1] and (len(up), down.shape[1]) == rows.shape
        if not fits:
            raise ValueError(
                f"the factors of {owner!r} in {file} are {tuple(up.shape)} and {tuple(down.shape)}; their product must "
                f"be {tuple(rows.shape)}"
            )
        changes.append((rows, down, up, scale if alpha is None else scale * alpha / len(down)))
    ends = file.parent / BESIDE
    if ends.is_file():
        expanded.put_ends(model, names, _read(ends)[0])
    for rows, down, up, often in changes:
        rows.copy_(rows.float() + (often * (up.float() @ down.float())).to(rows.device))


def _inside(name: str) -> bool:
    """Whether a weight is that of a linear map in a block."""
    return name.startswith("blocks.") and name.endswith(".weight") and ".norm" not in name


def _factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """(rank, in) and (out, rank) whose product is nearest, and the share of the norm that they leave out."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:rank].sqrt()
    left = float(s[rank:].norm() / s.norm())
    return (root[:, None] * v[:rank]).contiguous(), (u[:, :rank] * root).contiguous(), left


def _changes(file: Path) -> Iterator[tuple[str, Tensor, Tensor, float | None]]:
    """(name of the map, lora_A, lora_B, alpha if there is one) for each map in a file.

    Errors: ValueError for a name that is not known, a factor without the other, or changes that count in another way.
    """
    values, notes = _read(file)
    try:
        about = dict(json.loads(notes.get("lora_adapter_metadata", "{}")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} has a damaged header: {error}") from error
    for setting in ("use_rslora", "use_dora", "alpha_pattern"):
        if about.get(PREFIX + setting):
            raise ValueError(f"{file} has {setting}={about[PREFIX + setting]!r}; possible: plain LoRA with one alpha")
    factors = [n for n in values if n.endswith((DOWN, UP))]
    for name in values:
        if not name.endswith((DOWN, UP, SCALE)):
            raise unknown(f"weight in {file}:", name, factors)
    for owner in dict.fromkeys(n.removesuffix(DOWN).removesuffix(UP) for n in factors):
        for part in (DOWN, UP):
            if owner + part not in values:
                raise ValueError(f"{file} has a factor of {owner!r}, but not {owner + part!r}")
        alpha = values.get(owner + SCALE, about.get(f"{PREFIX}lora_alpha"))
        said = None if alpha is None else float(alpha)
        yield owner.removeprefix(PREFIX), values[owner + DOWN], values[owner + UP], said


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header. Errors: ValueError for a file that is not there or damaged."""
    try:
        with safetensors.safe_open(file, framework="pt") as found:
            return {n: found.get_tensor(n) for n in found.keys()}, dict(found.metadata() or {})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{file} holds no readable safetensors: {error}") from error
