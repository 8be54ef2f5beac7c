"""Average precision of instance masks without confidences: whole instances are found or not, over a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))  # of the overlap, as COCO has them
POINTS = 101  # recalls, from 0 to 1, at which precision is read off


def found_instances(
    predicted: Tensor, true: Tensor, classes: Sequence[int] = (), thresholds: Sequence[float] = THRESHOLDS
) -> Tensor:
    """Segmentations (B, T, H, W, 2) = instance, class -> (B, classes, 2 + n): predicted, true, found at each threshold.

    An instance is all pixels of one id above 0 and one class over the whole clip: one that changes its id is two. It is
    found where a predicted one of its class overlaps it by a threshold or more of the union; the best overlaps are
    paired first, each instance once. classes: ids that count; none: classes are not told apart.
    """
    if predicted.shape != true.shape or true.shape[-1:] != (2,):
        raise ValueError(
            f"segmentations have shapes {tuple(predicted.shape)} and {tuple(true.shape)}; needed: (B, T, H, W, 2), both"
        )
    out = torch.zeros(len(true), max(1, len(classes)), 2 + len(thresholds), dtype=torch.float64)
    for b in range(len(true)):
        for c, one in enumerate(classes or (None,)):
            guess, real = (_of_class(v[b], one) for v in (predicted, true))
            overlaps = _overlaps(guess, real)
            out[b, c, :2] = torch.tensor(overlaps.shape)
            out[b, c, 2:] = torch.tensor([_paired(overlaps, t) for t in thresholds])
    return out


class PrecisionOf:
    """Pools (..., classes (2 + thresholds)) counts of `found_instances` to a mean average precision (...).

    The mean over thresholds, then over the classes that truly occur.

    Precision p = found / predicted at the one recall r = found / true that there is, as no confidence orders what is
    predicted; average precision by COCO's rule is p times the share of the 101 recalls 0, 0.01, ..., 1 up to r.
    """

    def __init__(self, thresholds: int) -> None:
        self.thresholds = thresholds

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        counts = sums.reshape(*sums.shape[:-1], -1, 2 + self.thresholds)
        said, real, found = counts[..., :1], counts[..., 1:2], counts[..., 2:]
        precision = np.divide(found, said, out=np.zeros_like(found), where=said > 0)
        recall = np.divide(found, real, out=np.zeros_like(found), where=real > 0)
        points = np.where(found > 0, np.floor(recall * (POINTS - 1) + 1e-9) + 1, 0) / POINTS
        each, occurs = (precision * points).mean(-1), real[..., 0] > 0
        n = occurs.sum(-1)
        return np.divide((each * occurs).sum(-1), n, out=np.full(n.shape, np.nan), where=n > 0)


def _of_class(values: Tensor, one: int | None) -> Tensor:
    """(T, H, W, 2) -> instance ids (n,), 0 where there is none or it is of another class."""
    ids, label = values[..., 0].flatten(), values[..., 1].flatten()
    return ids if one is None else torch.where(label == one, ids, torch.zeros_like(ids))


def _overlaps(guess: Tensor, real: Tensor) -> Tensor:
    """Ids (n,) twice -> (predicted, true) intersections over unions of all pairs of instances."""
    mine, theirs = (v.unique() for v in (guess, real))
    mine, theirs = mine[mine > 0], theirs[theirs > 0]
    said, so = guess == mine[:, None], real == theirs[:, None]
    both = said.double() @ so.double().T
    return both / (said.sum(1)[:, None] + so.sum(1) - both)


def _paired(overlaps: Tensor, threshold: float) -> int:
    """(predicted, true) -> how many pairs overlap by the threshold or more, the best first, each once."""
    left, n = overlaps.clone(), 0
    while left.numel() and float(left.max()) >= threshold - 1e-9:
        row, column = divmod(int(left.argmax()), left.shape[1])
        left[row], left[:, column] = -1, -1
        n += 1
    return n
