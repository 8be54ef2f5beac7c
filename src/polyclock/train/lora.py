"""Training a few added numbers in place of all weights: low-rank changes of the blocks' linear maps (LoRA, Hu et al.
2021), through peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..dice import seed_of
from ..errors import missing, unknown
from .parallel import blocks_of

NAME = "change"  # of the adapter that peft keeps beside every map
DOWN, UP, BASE = f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight", ".base_layer"


def add_lora(
    model: nn.Module,
    rank: int,
    seed: int,
    *,
    alpha: float | None = None,
    of: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> None:
    """Freeze `model` and put beside each linear map of its blocks a change of rank `rank`, zero at the start.

    A change counts `alpha` / rank times (None: once). `of` names maps by parts of their names ("attention", "mlp.0";
    none: all). What is new beside what is trained already (`model.newcomers()`) is trained too, and so are parameters
    whose names begin with one of `beside`. The added weights are float32.
    Errors: ImportError without peft; ValueError for a model without blocks, or a name that fits nothing.
    """
    try:
        import peft
    except ImportError as error:
        raise missing("peft", "hf") from error
    inside = {id(m) for block in blocks_of(model) for m in block.modules() if isinstance(m, nn.Linear)}
    new: set[str] = model.newcomers() if hasattr(model, "newcomers") else set()  # type: ignore[operator]
    # A map that is new is trained whole.
    every = [name for name, m in model.named_modules() if id(m) in inside and f"{name}.weight" not in new]
    names = [name for name in every if not of or any(part in name for part in of)]
    for part in of:
        if not any(part in name for name in every):
            raise unknown("part of the name of a block's map", part, sorted({n.split(".", 3)[-1] for n in every}))
    plain = [name for name, _ in model.named_parameters()]
    for prefix in beside:
        if not any(name.startswith(prefix) for name in plain):
            raise unknown("parameter prefix in lora_beside", prefix, sorted({n.split(".")[0] for n in plain}))
    config = peft.LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=names)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "lora"))
        peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    for name, p in model.named_parameters():
        added = name.endswith((DOWN, UP))
        p.requires_grad_(added or name in new or name.startswith(tuple(beside)))
        if added:
            p.data = p.data.float()


def adapted(model: nn.Module) -> bool:
    """Whether `add_lora` was here."""
    return any(name.endswith(DOWN) for name, _ in model.named_parameters())


def scale(model: nn.Module) -> float:
    """How often a change counts; 1 where there are none."""
    each = (m.scaling[NAME] for m in model.modules() if NAME in getattr(m, "scaling", ()))  # type: ignore[operator,index]
    return float(next(each, 1.0))


def merged(state: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """A state dict with every change added `scale` times to its map, by the names that the model has without them."""
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
            change = scale * (state[owner + UP] @ state[owner + DOWN])
            value = (value.float() + change).to(value.dtype)
        out[plain] = value
    return out
