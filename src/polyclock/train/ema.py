"""The moving average of the weights: average <- average + (1 - decay) (weight - average)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .parallel import local, shared_like


class Average:
    """Averages the trainable parameters of `model`; `updates` counts the steps that went in.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._weight = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.value = {name: p.detach().clone() for name, p in self._weight.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [local(p.detach()) for p in self._weight.values()]
        torch._foreach_lerp_([local(v) for v in self.value.values()], weights, 1 - decay)
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the block the model holds the average; after it, its own weights to the bit."""
        kept = {name: p.detach().clone() for name, p in self._weight.items()}
        self._put(self.value)
        try:
            yield
        finally:
            self._put(kept)

    def load(self, value: Mapping[str, Tensor], updates: int) -> None:
        """Continue from a saved average. Raises `ValueError` if names or shapes differ from the model's."""
        put(self.value, value, "average")
        self.updates = updates

    @torch.no_grad()
    def _put(self, value: Mapping[str, Tensor]) -> None:
        for name, p in self._weight.items():
            p.copy_(value[name])


@torch.no_grad()
def put(into: Mapping[str, Tensor], value: Mapping[str, Tensor], what: str) -> None:
    """Copy `value` into the tensors of `into`, in place. Raises `ValueError` if names or shapes differ."""
    odd = sorted(into.keys() ^ value.keys())
    if odd:
        where = "is missing from the checkpoint" if odd[0] in into else "is not in the model"
        raise ValueError(f"{what} {odd[0]!r} {where} ({len(odd)} names differ): it belongs to another recipe")
    for name, tensor in into.items():
        if tensor.shape != value[name].shape:
            raise ValueError(
                f"{what} {name!r} has shape {tuple(value[name].shape)} in the checkpoint and "
                f"{tuple(tensor.shape)} in the model: it belongs to another recipe"
            )
        tensor.copy_(shared_like(value[name], tensor))
