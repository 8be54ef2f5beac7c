"""A world whose answers are known: one network, five questions, no data set, at most 4 minutes on 2 cores.

The world: o ~ N(0, I) in 2-D; in each coordinate an action a is +1 with probability sigmoid(2 o), else -1; then
o' = o + a. One small network learns all of it, each frame at its own time, and is then asked

    obs[1:] | obs[:1], action     forward dynamics       the answer is o + a
    action | obs                  inverse dynamics       the answer is o' - o
    obs, action |                 the joint              o' - o - a is 0
    action | obs[:1]              a policy               +1 or -1, with the right probability

    python examples/00_known_world.py [--steps N]
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from polyclock import Batch, Dice, DiT, Layout, Local, Modality, PerFrame, Recipe, Stream, loss, sample

recipe = Recipe(
    name="known world",
    modalities={"obs": Modality(shape=(2, 2), patch=(1,)), "action": Modality(shape=(1, 2), patch=(1,))},
    layout=Layout(Stream("obs"), Stream("action")),
    law=PerFrame(),
    modulation=Local(),
    backbone=DiT(width=64, depth=3, heads=2),
)


def world(n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """n samples: obs (n, 2, 2) holds o and o', action (n, 1, 2)."""
    o = torch.randn(n, 2, generator=generator)
    a = (torch.rand(n, 2, generator=generator) < torch.sigmoid(2 * o)).float() * 2 - 1
    return {"obs": torch.stack([o, o + a], 1), "action": a[:, None]}


def train(steps: int, size: int = 512) -> torch.nn.Module:
    """A model trained on fresh samples; the rate falls along half a cosine."""
    model, generator = recipe.build(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    everyone = torch.arange(size)
    for step in range(steps):
        values = world(size, generator)
        batch = Batch(index=everyone, values=values, rows=dict.fromkeys(values, everyone))
        total, parts = loss(model, batch, recipe.law, Dice(0, step, range(size)), step=step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5d}  " + "  ".join(f"{n} {v.item():.3f}" for n, v in parts.items()), flush=True)
    return model.eval()


def measure(model: torch.nn.Module, n: int = 10_000, steps: int = 30) -> dict[str, float]:
    """Errors against the known answers over n fresh samples."""
    truth = world(n, torch.Generator().manual_seed(1))
    obs, action = truth["obs"], truth["action"]
    forward = sample(model, "obs[1:] | obs[:1], action", obs=obs[:, :1], action=action, steps=steps)["obs"]
    inverse = sample(model, "action | obs", obs=obs, steps=steps)["action"]
    joint = sample(model, "obs, action |", size=n, steps=steps)
    policy = sample(model, "action | obs[:1]", obs=obs[:, :1], steps=steps)["action"]
    gap = joint["obs"][:, 1] - joint["obs"][:, 0] - joint["action"][:, 0]
    return {
        "forward": (forward[:, 1] - obs[:, 1]).abs().mean().item(),
        "inverse": (inverse - action).abs().mean().item(),
        "joint": gap.abs().mean().item(),
        "policy_abs": policy.abs().mean().item(),
        "policy_tv": total_variation(obs[:, 0].flatten(), policy[:, 0].flatten()),
    }


def total_variation(o: torch.Tensor, a: torch.Tensor) -> float:
    """The largest |P(a > 0) sampled - P(a = +1) true| over 5 bins of o with equally many samples."""
    sampled = [chunk.float().mean() for chunk in (a[o.argsort()] > 0).chunk(5)]
    true = [chunk.mean() for chunk in torch.sigmoid(2 * o.sort().values).chunk(5)]
    return max(abs(s - p).item() for s, p in zip(sampled, true, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    started = time.time()
    answers = measure(train(args.steps))
    print(f"{time.time() - started:.0f} s")
    print(json.dumps({name: round(value, 4) for name, value in answers.items()}))
