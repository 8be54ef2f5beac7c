"""Training a few added numbers in place of all weights: low-rank changes of the blocks' linear maps (LoRA, Hu et al.
2021), through peft."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..dice import seed_of
from ..errors import missing
from .parallel import blocks_of

NAME = "change"  # of the adapter that peft keeps beside every map
DOWN, UP, BASE = f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight", ".base_layer"


def add_lora(model: nn.Module, rank: int, seed: int) -> None:
    """Freeze `model` and put beside each linear map of its blocks a change of rank `rank`, zero at the start.

    What joins what is trained already (`model.newcomers()`) is trained too. The added weights are float32.
    Errors: ImportError without peft; ValueError for a model without blocks.
    """
    try:
        import peft
    except ImportError as error:
        raise missing("peft", "hf") from error
    inside = {id(m) for block in blocks_of(model) for m in block.modules() if isinstance(m, nn.Linear)}
    names = [name for name, m in model.named_modules() if id(m) in inside]
    new: set[str] = model.newcomers() if hasattr(model, "newcomers") else set()  # type: ignore[operator]
    # With alpha = rank what is added is B A itself: `merged` counts on it.
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "lora") % 2**63)
        peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    for name, p in model.named_parameters():
        added = name.endswith((DOWN, UP))
        p.requires_grad_(added or name in new)
        if added:
            p.data = p.data.float()


def adapted(model: nn.Module) -> bool:
    """Whether `add_lora` was here."""
    return any(name.endswith(DOWN) for name, _ in model.named_parameters())


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every change added to its map, by the names that the model has without them."""
    out = {}
    for name, value in state.items():
        if name.endswith((DOWN, UP)):
            continue
        if f"{BASE}." not in name:
            out[name] = value
            continue
        plain = name.replace(f"{BASE}.", ".")
        owner = plain.removesuffix(".weight")
        if plain.endswith(".weight"):
            change = state[owner + UP] @ state[owner + DOWN]
            value = (value.float() + change).to(value.dtype)
        out[plain] = value
    return out
