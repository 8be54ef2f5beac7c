"""Samples -> `Batch`, by presence: a signal has rows only for the samples that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..modality import Signal
from .source import Ahead, Sample


def collate(samples: Sequence[Sample], index: Sequence[int], signals: Mapping[str, Signal]) -> Batch:
    """Stack samples; `index` (B,) are their places in the global batch. Every name of `signals` is a key.

    Videos stay uint8 (16-bit planes become int32), vectors float32, sentences a list of str; what was encoded ahead
    stays as it is kept and is named in `Batch.ahead`. Where no sample has a name its values are (0, T', *S, C'), a size
    that is not known counting as 1.
    Errors: ValueError naming the sample and the signal whose shape is not the one of the others or of the signal.
    """
    values: dict[str, Tensor | list[str]] = {}
    rows: dict[str, Tensor] = {}
    valid: dict[str, Tensor] = {}
    ahead = set()
    for name, signal in signals.items():
        have = [j for j, sample in enumerate(samples) if name in sample.values]
        rows[name] = torch.tensor(have, dtype=torch.int64)
        if signal.kind == "text":
            values[name] = [str(samples[j].values[name]) for j in have]
            continue
        dtype = torch.uint8 if signal.kind == "video" else torch.float32
        frames = int(signal.shape[0] or 0)
        if not have:
            values[name] = torch.zeros(0, *(1 if n is None else n for n in signal.shape), dtype=dtype)
            valid[name] = torch.zeros(0, frames, dtype=torch.bool)
            continue
        if any(isinstance(samples[j].values[name], Ahead) for j in have):
            values[name] = _stack_ahead(name, [samples[j] for j in have])
            ahead.add(name)
        else:
            values[name] = _stack(name, signal, [samples[j] for j in have])
        masks = [samples[j].valid.get(name, np.ones(frames, bool)) for j in have]
        valid[name] = torch.from_numpy(np.stack(masks))
    return Batch(torch.tensor(list(index), dtype=torch.int64), values, rows, valid, frozenset(ahead))


def _stack_ahead(name: str, samples: Sequence[Sample]) -> Tensor:
    """(b, V, T, *S, K). Errors: a sample whose values are raw, or kept in another shape."""
    found = [s.values[name] for s in samples]
    arrays = [value.numbers for value in found if isinstance(value, Ahead)]
    for value, sample in zip(found, samples, strict=True):
        if not isinstance(value, Ahead) or value.numbers.shape != arrays[0].shape:
            here = value.numbers.shape if isinstance(value, Ahead) else "raw values"
            raise ValueError(f"{sample.where}: of {name} there are {here}, of others {arrays[0].shape} encoded ahead")
    return torch.from_numpy(np.stack(arrays))


def _stack(name: str, signal: Signal, samples: Sequence[Sample]) -> Tensor:
    arrays = [np.asarray(s.values[name]) for s in samples]
    first = arrays[0].shape
    for array, sample in zip(arrays, samples, strict=True):
        wrong = len(array.shape) != len(signal.shape) or any(
            w is not None and w != n for w, n in zip(signal.shape, array.shape, strict=True)
        )
        if wrong or array.shape != first:
            want = signal.shape if wrong else first
            raise ValueError(f"{sample.where}: {name} has shape {array.shape}, the batch wants {want}")
    stacked = np.stack(arrays)
    if signal.kind == "vector":
        return torch.from_numpy(stacked.astype(np.float32, copy=False))
    return torch.from_numpy(stacked.astype(np.int32) if stacked.dtype == np.uint16 else stacked)
