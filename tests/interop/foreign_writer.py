"""Saves what a checkpoint of theirs may hold as torch saves it, and says what torch finds there again.

Run as a program, so that torch's own reader works in a process of its own:

    python foreign_writer.py FOLDER     writes new.pt and old.pt (both layouts), and new.json and old.json
"""

from __future__ import annotations

import json
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

MODULE = "datasets.utils.normalizer"


class LinearNormalizer:
    """In place of theirs: what it holds is what is pickled."""

    def __init__(self, scale: np.ndarray, offset: np.ndarray) -> None:
        self.scale, self.offset = scale, offset


class NestedDictLinearNormalizer(dict):
    """In place of theirs: a dict of normalisers."""


@contextmanager
def their_module() -> Iterator[None]:
    """Both classes are those of their module while this lasts, so that their pickles name it."""
    names = ("datasets", "datasets.utils", MODULE)
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: types.ModuleType(name) for name in names})
    for kind in (LinearNormalizer, NestedDictLinearNormalizer):
        kind.__module__ = MODULE
        setattr(sys.modules[MODULE], kind.__name__, kind)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def contents() -> dict:
    """What a checkpoint holds, and more: every dtype, views, empty and shared tensors, odd arrays, a loop."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    base = torch.randn(6, 6)
    low = NestedDictLinearNormalizer()
    low["pose"] = LinearNormalizer(np.arange(6.0) + 1, np.ones(6))
    dtypes = (
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    )
    loop: list = []
    loop.append(loop)
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0).state_dict(),
        "scaler": {},
        "action_normalizer": LinearNormalizer(np.float32([1, 2]), np.float32([0.5, -1])),
        "lowdim_normalizer": low,
        "step": 7,
        "dtypes": [torch.arange(4, dtype=dtype) for dtype in dtypes],
        "bool": torch.tensor([True, False]),
        "views": (base, base.T, base[1:, ::2], base[3]),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "size": base.shape,
        "whole": 2**70,
        "text": "gr\u00fc\u00dfe",
        "ordered": OrderedDict(a=1, b=None, c=(True, 1.5)),
        "grid": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "loop": loop,
    }


def plain(value: object) -> list:
    """A value as JSON: classes with a scale and an offset by these two, a torch.Size as the tuple that it is."""
    if isinstance(value, torch.Tensor):
        return ["tensor", str(value.dtype), list(value.shape), value.detach().double().flatten().tolist()]
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.kind, list(value.shape), value.astype(float).flatten().tolist()]
    if hasattr(value, "offset"):
        return ["linear", plain(value.scale), plain(value.offset)]
    if isinstance(value, dict):
        return ["dict", [[str(name), plain(part)] for name, part in value.items()]]
    if isinstance(value, list | tuple):
        return ["list", [plain(part) for part in value]]
    return ["is", repr(value)]


def main(folder: Path) -> None:
    for name, zipped in (("new", True), ("old", False)):
        path = folder / f"{name}.pt"
        with their_module():
            torch.save(contents(), path, _use_new_zipfile_serialization=zipped)
            found = torch.load(path, weights_only=False)
        assert found["loop"][0] is found["loop"]
        del found["loop"]
        (folder / f"{name}.json").write_text(json.dumps(plain(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
