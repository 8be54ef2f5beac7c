"""Are sampled actions as uncertain as they should be? Coverage of sets that should hold 90 % of recorded actions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from .compare import MODEL, Plain
from .held_out import Place
from .probing import Probing, skipped
from .scores import Scores

SAMPLES, LEVEL = 19, 0.9
LABEL = "policy"
Limits = tuple[np.ndarray, np.ndarray]
WHAT = (
    f"Share of recorded action numbers that lie between the least and the largest of {SAMPLES} sampled ones. Draws "
    f"from the true distribution hold a further draw in exactly {LEVEL:.0%} of cases."
)


def calibration(probing: Probing) -> Plain:
    """Coverage and mean width of per-dimension sets of the policy's samples, beside training quantiles."""
    policy = probing.asked.get("policy")
    if policy is None:
        return skipped(WHAT, "the model cannot be asked for actions alone")
    drawn: dict[Place, dict[str, np.ndarray]] = {}
    truth: dict[Place, dict[str, np.ndarray]] = {}
    for places, batch, _ in probing.batches():
        asking = probing.asking(places, batch)
        # Turn 0 is the noise of the questions themselves.
        turns = [asking.ask(policy, turn=1 + i) for i in range(SAMPLES)]
        for j, place in enumerate(places):
            drawn[place] = {n: torch.stack([t[n][j] for t in turns])[:, f:].numpy() for n, f in policy.wanted.items()}
            truth[place] = {n: batch.tensor(n)[j, f:].numpy() for n, f in policy.wanted.items()}
    scores, strangers = probing.scores(), probing.held.strangers(probing.seed, list(drawn))
    for name in policy.wanted:
        sets = {p: (d[name].min(0), d[name].max(0)) for p, d in drawn.items()}
        usual = _usual(probing, name)
        chosen = {
            MODEL: sets,
            f"training {LEVEL:.0%} range": dict.fromkeys(sets, usual),
        }
        if policy.control:
            chosen[policy.control] = {p: sets[strangers[p]] for p in sets if p in strangers}
        for series, mine in chosen.items():
            _put(scores, series, name, mine, {p: t[name] for p, t in truth.items()})
    found = probing.found(WHAT, scores, samples=SAMPLES, nominal=LEVEL)
    rows = found["rows"][LABEL]["errors"]
    found["notes"] += [_said(name, rows[f"{name}.coverage"]) for name in policy.wanted]
    return found


def _usual(probing: Probing, name: str) -> Limits:
    """The quantiles of each dimension over the training frames."""
    key = probing.reference.signals[name].key
    rows = np.concatenate(list(probing.reference.training.column(key)))
    return np.quantile(rows, (1 - LEVEL) / 2, axis=0), np.quantile(rows, (1 + LEVEL) / 2, axis=0)


def _put(
    scores: Scores, series: str, name: str, sets: Mapping[Place, Limits], truth: Mapping[Place, np.ndarray]
) -> None:
    """Coverage and width of sets, each window's, over the dimensions that move."""
    std = scores.reference.spreads[name].std.numpy().astype(np.float64)
    used = std > 0
    inside, width = [], []
    for place, (low, high) in sets.items():
        inside.append(((low <= truth[place]) & (truth[place] <= high))[..., used].mean())
        width.append(((high - low)[..., used] / std[used]).mean())
    scores.put(LABEL, series, f"{name}.coverage", list(sets), np.array(inside))
    scores.put(LABEL, series, f"{name}.width", list(sets), np.array(width))


def _said(name: str, row: Plain) -> str:
    """A sentence on whether the sets are as wide as they should be."""
    span = f"the sets of {name} hold {row['mean']:.0%} of recorded numbers"
    if row["low"] is None:
        return span
    span = f"{span} (95 % interval {row['low']:.0%} to {row['high']:.0%})"
    if row["low"] <= LEVEL <= row["high"]:
        return f"{span}: not told apart from {LEVEL:.0%}"
    return f"{span}: they are too {'narrow' if row['mean'] < LEVEL else 'wide'}"
