"""Are sampled actions as uncertain as they should be? Coverage of sets that should hold 90 % of recorded actions."""

from __future__ import annotations

import numpy as np
import torch

from .compare import MODEL, Plain
from .held_out import Place
from .probing import Probing, skipped

SAMPLES, LEVEL = 19, 0.9
WHAT = (
    f"Share of recorded action numbers that lie between the least and the largest of {SAMPLES} sampled ones. Draws "
    f"from the true distribution hold a further draw in exactly {LEVEL:.0%} of cases."
)


def calibration(probing: Probing) -> Plain:
    """Coverage and mean width of per-dimension sets of the policy's samples, beside training quantiles."""
    policy = probing.asked.get("policy")
    if policy is None:
        return skipped(WHAT, "the model cannot be asked for actions alone")
    scores, reference = probing.scores(), probing.reference
    name = next(iter(policy.wanted))
    first, std = policy.wanted[name], reference.spreads[name].std.numpy().astype(np.float64)
    used = std > 0
    sets: dict[Place, tuple[np.ndarray, np.ndarray]] = {}
    truth: dict[Place, np.ndarray] = {}
    for places, batch, _ in probing.batches():
        asking = probing.asking(places, batch)
        # Turn 0 is the noise of the questions themselves.
        drawn = torch.stack([asking.ask(policy, turn=1 + i)[name][:, first:] for i in range(SAMPLES)])
        low, high = drawn.amin(0).numpy(), drawn.amax(0).numpy()
        for j, place in enumerate(places):
            sets[place] = low[j][..., used], high[j][..., used]
            truth[place] = batch.tensor(name)[j, first:].numpy()[..., used]
    rows = np.concatenate(list(reference.training.column(reference.signals[name].key)))
    usual = tuple(np.quantile(rows, q, axis=0)[used] for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    strangers = probing.held.strangers(probing.seed, list(sets))
    chosen = {
        MODEL: sets,
        f"training {LEVEL:.0%} range": dict.fromkeys(sets, usual),
        policy.control: {p: sets[strangers[p]] for p in sets if p in strangers},
    }
    for series, mine in chosen.items():
        inside = [((low <= truth[p]) & (truth[p] <= high)).mean() for p, (low, high) in mine.items()]
        width = [((high - low) / std[used]).mean() for low, high in mine.values()]
        scores.put("policy", series, f"{name}.coverage", list(mine), np.array(inside))
        scores.put("policy", series, f"{name}.width", list(mine), np.array(width))
    found = probing.found(WHAT, scores, samples=SAMPLES, nominal=LEVEL)
    found["notes"].append(_said(found["rows"]["policy"]["errors"][f"{name}.coverage"]))
    return found


def _said(row: Plain) -> str:
    """A sentence on whether the sets are as wide as they should be."""
    if row["low"] is None:
        return f"the sets hold {row['mean']:.0%} of recorded numbers"
    span = f"{row['mean']:.0%} of recorded numbers (95 % interval {row['low']:.0%} to {row['high']:.0%})"
    if row["low"] <= LEVEL <= row["high"]:
        return f"the sets hold {span}: not told apart from {LEVEL:.0%}"
    return f"the sets hold {span}: they are too {'narrow' if row['mean'] < LEVEL else 'wide'}"
