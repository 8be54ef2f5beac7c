"""Random draws of somebody else's code, answered with numbers of ours and written down in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from uwm_weights import draw


class Draws(TorchFunctionMode):
    """Answers every random draw with our numbers and keeps what was asked for, in order."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        self.order: list[list] = []

    def __torch_function__(
        self, function: Callable, kinds: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        options = options or {}
        name = getattr(function, "__name__", "")
        if name in ("randn", "randn_like", "randint", "randperm", "uniform_"):
            return self.drawn(name, arguments, options)
        if name in ("rand", "rand_like", "normal_", "bernoulli", "bernoulli_", "multinomial", "random_"):
            raise NotImplementedError(f"their code draws with {name}, which this recorder does not know")
        return function(*arguments, **options)

    def drawn(self, name: str, arguments: tuple, options: dict) -> Tensor:
        low, high = 0.0, 1.0
        if name == "randn":
            shape = arguments[0] if isinstance(arguments[0], tuple | list | torch.Size) else arguments
        elif name == "randint":
            named = {"low": 0, "high": None, "size": None} | options
            given = list(arguments)
            if given:  # (high, size) or (low, high[, size])
                named["low"], named["high"] = (0, given[0]) if len(given) == 1 else (given[0], given[1])
            low, high, shape = named["low"], named["high"], named["size"]
        elif name == "randperm":
            shape, high = (1,), arguments[0]
        else:  # randn_like, uniform_
            shape = arguments[0].shape
        if name == "uniform_":
            low, high = arguments[1:3]
        shape = tuple(int(n) for n in shape)
        value = draw(self.case, len(self.order), name, shape, low, high)
        value = value.to(torch.get_default_dtype()) if value.is_floating_point() else value
        self.order.append(
            [name, list(shape), low, high] if name in ("randint", "uniform_", "randperm") else [name, list(shape)]
        )
        return arguments[0].copy_(value) if name == "uniform_" else value
