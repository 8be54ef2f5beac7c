"""Masks of single frames as numbers that stay with their things from frame to frame."""

from __future__ import annotations

import numpy as np

LEAST = 0.3  # share of the union that a thing must cover again in the next frame to be the same


def linked(ids: np.ndarray, classes: np.ndarray, least: float = LEAST) -> np.ndarray:
    """Numbers (T, H, W) that mean something within a frame alone, 0 = none -> numbers (T, H, W) int32 of the clip.

    classes (T, H, W): only things of one class are linked. A thing goes on as the one of the frame before with which
    it shares most, where that is at least `least` of their union; what has none is new, in the order of appearance.
    """
    out = np.zeros(ids.shape, np.int32)
    count = 0
    for t in range(len(ids)):
        pairs = _overlaps(out[t - 1], classes[t - 1], ids[t], classes[t], least) if t else []
        chosen: dict[int, int] = {}
        for _, old, new in pairs:
            if new not in chosen and old not in chosen.values():
                chosen[new] = old
        for new in (int(n) for n in np.unique(ids[t]) if n):
            if new not in chosen:
                count += 1
                chosen[new] = count
            out[t][ids[t] == new] = chosen[new]
    return out


def _overlaps(
    old: np.ndarray, old_classes: np.ndarray, new: np.ndarray, new_classes: np.ndarray, least: float
) -> list[tuple[float, int, int]]:
    """(share of the union, old number, new number) of things of one class, the largest share first."""
    both = (old > 0) & (new > 0) & (old_classes == new_classes)
    most = int(new.max(initial=0)) + 1
    pairs, shared = np.unique(old[both].astype(np.int64) * most + new[both], return_counts=True)
    old_sizes, new_sizes = np.bincount(old.ravel()), np.bincount(new.ravel())
    found = []
    for pair, n in zip(pairs.tolist(), shared.tolist(), strict=True):
        a, b = divmod(pair, most)
        share = n / (old_sizes[a] + new_sizes[b] - n)
        if share >= least:
            found.append((float(share), int(a), int(b)))
    return sorted(found, key=lambda pair: (-pair[0], pair[1], pair[2]))


def distinct(masks: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Masks (n, H, W) bool -> the numbers of those to keep, best score (n,) first: none covers a kept one by more than
    `overlap` of their union."""
    areas = masks.reshape(len(masks), -1).sum(1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        shares = [(masks[i] & masks[j]).sum() / max(1, (masks[i] | masks[j]).sum()) for j in kept]
        if areas[i] and all(share <= overlap for share in shares):
            kept.append(i)
    return kept
