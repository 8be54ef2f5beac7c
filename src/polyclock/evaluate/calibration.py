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
Judged = tuple[np.ndarray, np.ndarray]
WHAT = (
    f"Share of recorded action numbers that lie between the least and the largest of {SAMPLES} sampled ones. Draws "
    f"from the true distribution hold a further draw in exactly {LEVEL:.0%} of cases; of equal numbers each is as "
    "likely to be the outermost. All are moved into the range of the training data first."
)


def calibration(probing: Probing) -> Plain:
    """Coverage and mean width of per-dimension sets of the policy's samples, beside training quantiles."""
    policy = probing.asked.get("policy")
    if policy is None:
        return skipped(WHAT, "the model cannot be asked for actions alone")
    moving = [n for n in policy.wanted if bool((probing.reference.spreads[n].std > 0).any())]
    if not moving:
        return skipped(WHAT, "no action moves in the training data")
    drawn: dict[Place, dict[str, np.ndarray]] = {}
    truth: dict[Place, dict[str, np.ndarray]] = {}
    for places, batch, _ in probing.batches():
        asking = probing.asking(places, batch, probing.spread_steps)
        # Turn 0 is the noise of the questions themselves.
        turns = [asking.ask(policy, turn=1 + i) for i in range(SAMPLES)]
        for j, place in enumerate(places):
            drawn[place] = {n: torch.stack([t[n][j] for t in turns])[:, f:].numpy() for n, f in policy.wanted.items()}
            truth[place] = {n: batch.tensor(n)[j, f:].numpy() for n, f in policy.wanted.items()}
    scores, strangers = probing.scores(), probing.held.strangers(probing.seed, list(drawn))
    for name in moving:
        column = np.concatenate(list(probing.reference.training.column(probing.reference.signals[name].key)))
        least, most = (limit.astype(np.float32) for limit in (column.min(0), column.max(0)))
        sets, true = ({p: v[name].clip(least, most) for p, v in values.items()} for values in (drawn, truth))
        usual = np.quantile(column, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        chosen = {
            MODEL: {p: judged(samples, true[p]) for p, samples in sets.items()},
            f"training {LEVEL:.0%} range": {p: _within(usual[0], usual[1], t) for p, t in true.items()},
        }
        if policy.control:
            chosen[policy.control] = {p: judged(sets[strangers[p]], true[p]) for p in sets if p in strangers}
        for series, mine in chosen.items():
            _put(scores, series, name, mine)
    found = probing.found(WHAT, scores, samples=SAMPLES, nominal=LEVEL, steps=probing.spread_steps)
    rows = found["rows"][LABEL]["errors"]
    found["notes"] += [_said(name, rows[f"{name}.coverage"]) for name in moving]
    return found


def judged(samples: np.ndarray, true: np.ndarray) -> Judged:
    """Samples (n, T', C) and the truth (T', C) -> how far it lies inside their set and how wide that is, (T', C) each.

    Inside is 1, outside 0. At an end of the set, among b samples as large, the truth is the outermost of b + 1 with
    probability 1 / (b + 1): so much is taken off. Then draws of one distribution hold one more in exactly
    1 - 2 / (n + 1) of cases, be it in steps or cut off at a limit of the robot.
    """
    ends = 2.0 - (samples < true).any(0) - (samples > true).any(0)
    return 1 - ends / (1 + (samples == true).sum(0)), samples.max(0) - samples.min(0)


def _within(low: np.ndarray, high: np.ndarray, true: np.ndarray) -> Judged:
    """The same of an interval, ends included."""
    return ((low <= true) & (true <= high)).astype(np.float64), np.broadcast_to(high - low, true.shape)


def _put(scores: Scores, series: str, name: str, sets: Mapping[Place, Judged]) -> None:
    """Coverage and width of sets, each window's, over the dimensions that move."""
    std = scores.reference.spreads[name].std.numpy().astype(np.float64)
    used = std > 0
    inside = [held[..., used].mean() for held, _ in sets.values()]
    width = [(wide[..., used] / std[used]).mean() for _, wide in sets.values()]
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
