"""Everything that a training run is at one step, as tensors and plain data: what is saved is what is resumed."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import AdamW

from .checkpoint import Files
from .ema import Average, put
from .lora import adapted, merged, scale
from .parallel import shared_like, whole
from .settings import Training

Save = Callable[[nn.Module, Path, Mapping[str, Tensor]], object]
# What the counters of the state are called in state.json.
_COUNTERS = ("step", "bad_steps", "bad_in_a_row", "validated", "best_step", "best_loss", "seconds", "window")


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds, by name: the model's weights; where low-rank changes are trained, what is trained; the
    average; the optimizer's numbers, whose names end in .step, .exp_avg and .exp_avg_sq."""

    weights: dict[str, Tensor]
    trained: dict[str, Tensor]
    average: dict[str, Tensor]
    moments: dict[str, Tensor]


@dataclass
class State:
    """The model with its optimizer and average, and how far it has come.

    step          steps done, bad ones included; the next one is called `step`
    bad_steps     steps skipped for NaN or Inf; bad_in_a_row: without a good one since
    validated     the step of the last validation, -1: none; best_step, best_loss: of the best one
    seconds       spent training, over all resumptions
    window        sums since the last line of the log
    """

    model: nn.Module
    optimizer: AdamW
    average: Average | None
    step: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    validated: int = -1
    best_step: int = -1
    best_loss: float | None = None
    seconds: float = 0.0
    window: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fresh(cls, model: nn.Module, training: Training) -> State:
        """Step 0 of `model`. Raises `ValueError` if a prefix in `training.factors` fits no parameter."""
        average = Average(model, training.ema) if training.ema else None
        return cls(model=model, optimizer=make_optimizer(model, training), average=average)

    @property
    def updates(self) -> int:
        """Steps that changed the weights."""
        return self.step - self.bad_steps

    @property
    def bytes(self) -> int:
        """About how much a checkpoint takes; optimizer state that does not exist yet is counted."""
        weights = list(self.model.state_dict().values())
        trained = [p for p in self.model.parameters() if p.requires_grad]
        total = sum(t.numel() * t.element_size() for t in weights)
        return total + (3 if self.average else 2) * sum(p.numel() * p.element_size() for p in trained) + 65_536

    def weights(self) -> dict[str, Tensor]:
        """The model's weights as they are used: whole, with low-rank changes added. All processes must ask."""
        return merged({name: _cpu(value) for name, value in self.model.state_dict().items()}, scale(self.model))

    def tensors(self) -> Saved:
        """All that a checkpoint holds, whole. All processes must ask."""
        average = {name: _cpu(value) for name, value in self.average.value.items()} if self.average else {}
        moments = {
            f"{name}.{key}": _cpu(value)
            for name, p in self.model.named_parameters()
            for key, value in self.optimizer.state.get(p, {}).items()
        }
        trained = {}
        if adapted(self.model):
            trained = {name: _cpu(p) for name, p in self.model.named_parameters() if p.requires_grad}
        return Saved(self.weights(), trained, average, moments)

    def save(self, folder: Path, saved: Saved, save_model: Save, notes: dict[str, Any], files: Files) -> None:
        """Fill a checkpoint folder with `saved`: model/, ema.safetensors, optimizer.safetensors and state.json (with
        `notes`); where low-rank changes are trained also trained.safetensors."""
        files.make(folder / "model")
        save_model(self.model, folder / "model", saved.weights)
        if saved.trained:
            files.write_tensors(folder / "trained.safetensors", saved.trained)
        if self.average:
            files.write_tensors(folder / "ema.safetensors", saved.average)
        files.write_tensors(folder / "optimizer.safetensors", saved.moments)
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        plain = {name: getattr(self, name) for name in _COUNTERS} | {"updates": self.updates, "versions": versions()}
        text = json.dumps(plain | notes | {"optimizer": groups}, indent=1)
        files.write(folder / "state.json", text + "\n")

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint folder that `checkpoint.fault` found whole; returns its state.json.

        Raises `ValueError` if names or shapes of tensors differ from the model's.
        """
        plain: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if adapted(self.model):  # the rest is what the run began with
            own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            put(own, load_file(folder / "trained.safetensors"), "weight")
        else:
            load_weights(self.model, folder / "model" / "model.safetensors")
        if self.average:
            self.average.load(load_file(folder / "ema.safetensors"), plain["updates"])
        self._load_optimizer(load_file(folder / "optimizer.safetensors"))
        for name in _COUNTERS:
            setattr(self, name, plain[name])
        return plain

    def _load_optimizer(self, moments: dict[str, Tensor]) -> None:
        known = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        for full, value in moments.items():
            name, _, key = full.rpartition(".")
            if name not in known:
                raise ValueError(f"optimizer state {full!r} is not in the model: it belongs to another recipe")
            p = known[name]
            self.optimizer.state[p][key] = shared_like(value, p) if value.shape == p.shape else value.to(p.device)


def make_optimizer(model: nn.Module, training: Training) -> AdamW:
    """Fused AdamW over the trainable parameters, grouped by learning rate factor and weight decay.

    A model says by `newcomers()` which of its parameters join what is trained already. Errors: ValueError for a factor
    that would have no effect.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    training.check_factors(name for name, _ in named)
    new: set[str] = model.newcomers() if hasattr(model, "newcomers") else set()  # type: ignore[operator]
    if training.lr_new != 1 and not new:
        raise ValueError(
            f"lr_new={training.lr_new} has no effect: nothing joins a trained model (a modality with zero_init=True or "
            "copy=, or what the recipe's base does not have)"
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in named:
        decay = training.weight_decay if p.ndim >= 2 else 0.0
        groups.setdefault((training.factor(name, name in new), decay), []).append(p)
    return AdamW(
        [{"params": params, "factor": key[0], "weight_decay": key[1]} for key, params in groups.items()],
        lr=training.lr,
        betas=training.betas,
        fused=True,
    )


def load_weights(model: nn.Module, path: Path, optional: bool = False) -> None:
    """Copy the tensors of a safetensors file into `model`, by name.

    Frozen parameters may be missing from the file (they come with their own files); with `optional` any may.
    Raises `ValueError` if other names, or shapes, differ.
    """
    tensors = load_file(path)
    own = model.state_dict()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    skip = own.keys() if optional else frozen
    put({name: t for name, t in own.items() if name in tensors or name not in skip}, tensors, "weight")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on; of packages that may be absent those that are installed."""
    found = {"polyclock": "not installed", "python": platform.python_version(), "torch": torch.__version__}
    for package in ("polyclock", "numpy", "av", "mujoco", "metaworld"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _cpu(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).to("cpu").contiguous()
