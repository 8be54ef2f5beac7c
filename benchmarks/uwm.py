"""Time of policy calls and training steps: the authors' Unified World Models code against this package, same weights.

    python benchmarks/uwm.py CHECKOUT [--small] [--cases policy,train,solvers] [--rounds 10] [--out FILE.json]

Give a checkout of their code; it has no licence and is not part of this repository. Besides torch and diffusers it
needs transformers, `pip install einops` and `pip install --no-deps torchvision` (tools/make_uwm_golden.py says what
stands in for the rest). Both sides have the random weights of tests/uwm_weights.py: theirs go to a models.pt, ours is
what `polyclock.interop.uwm.load` makes of it. They take turns call by call in one process, so that whatever else the
machine does falls on both; a ratio is that of two neighbouring calls. `--small` runs a narrow model in seconds.

policy   one call at batch 1: pictures, their features, ten steps, actions
train    one step: pictures cropped and coloured, forward, backward, AdamW (fused on both sides, which theirs is not by
         itself). "network": the latents of the future are given to both, and its pictures looked at by neither.
         "whole": theirs encodes four pictures a sample with the autoencoder, ours is given their latents, as a cache
         would. "encoding": both encode
solvers  our policy call with fewer steps, by schedulers of diffusers, against the ten of DDIM: time alone
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
for folder in ("tools", "tests"):
    sys.path.insert(0, str(ROOT / folder))

import make_uwm_golden as golden  # noqa: E402

import uwm_weights as numbers  # noqa: E402

CASES = ("policy", "train", "solvers")
STEPS = 10
FEWER = (5, 3, 2)
Call = Callable[[], Any]


class Sides:
    """Their model and ours with one set of weights, and what both are fed with."""

    def __init__(self, checkout: Path, name: str, batch: int, folder: Path) -> None:
        import diffusers

        from polyclock.interop import uwm

        self.name, self.sizes = name, numbers.GOLDEN[name]
        self.theirs = golden.build(self.sizes, golden.import_theirs(checkout)).eval()
        del diffusers.AutoencoderKL.from_pretrained  # what stood in for it
        path = folder / "models.pt"
        torch.save({"model": self.theirs.state_dict(), "step": 0}, path)
        sizes = self.sizes
        self.ours = uwm.load(path, views=sizes.views, resize=sizes.resize, crop=sizes.crop, heads=sizes.heads).eval()
        path.unlink()
        self.videos = ["video", *(f"video.{v}" for v in sizes.views[1:])]
        self.many = replace(sizes, batch=batch)
        one = replace(sizes, batch=1)
        self.now = numbers.observation(f"{name}/benchmark/one", one, "now")
        self.cameras = dict(zip((n.replace("video", "camera") for n in self.videos), sizes.views, strict=True))
        self.query = f"action | {', '.join(self.cameras)}"
        self.given = {c: self.now[v] for c, v in self.cameras.items()}

    def latents(self, theirs: Tensor) -> dict[str, Tensor]:
        """Their (B, V, C, T, h, w) -> ours by name, (B, T, h, w, C)."""
        return {n: theirs[:, i].permute(0, 2, 3, 4, 1).contiguous() for i, n in enumerate(self.videos)}


# ---------------------------------------------------------------- taking turns


def turns(calls: dict[str, Call], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of each call in each round, by the wall and of the processor; who begins changes from round to round."""
    for call in calls.values():
        call()
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    names = list(calls)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            wall, processor = time.perf_counter(), time.process_time()
            calls[name]()
            spent[name].append({"wall": time.perf_counter() - wall, "processor": time.process_time() - processor})
    return spent


def order_interval(values: list[float]) -> tuple[float, float] | None:
    """95 % for the median, whatever the distribution: two order statistics; None for fewer than six values."""
    ordered, n = sorted(values), len(values)
    # The median lies outside the k-th least and the k-th largest with twice P(binomial(n, 1/2) < k).
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    k = sum(share <= 0.05 for share in outside)
    return (ordered[k - 1], ordered[n - k]) if k else None


def compared(spent: dict[str, list[dict[str, float]]], slow: str, fast: str) -> dict[str, Any]:
    """How many times as long `slow` takes as `fast`: the median over rounds of the ratio, and its interval."""
    found: dict[str, Any] = {}
    for clock in ("wall", "processor"):
        ratios = [a[clock] / b[clock] for a, b in zip(spent[slow], spent[fast], strict=True)]
        interval = order_interval(ratios)
        found[clock] = {
            "ratio": round(median(ratios), 4),
            "low": interval and round(interval[0], 4),
            "high": interval and round(interval[1], 4),
            "seconds": {name: round(median(s[clock] for s in spent[name]), 5) for name in (slow, fast)},
        }
    return found


def show(title: str, found: dict[str, Any]) -> None:
    for clock in ("wall", "processor"):
        one = found[clock]
        sure = "" if one["low"] is None else f" (95 %: {one['low']:.3f} to {one['high']:.3f})"
        seconds = ", ".join(f"{name} {value:.4f} s" for name, value in one["seconds"].items())
        print(f"  {title:28s} {clock:9s} {one['ratio']:8.3f}x{sure}   {seconds}", flush=True)


# ---------------------------------------------------------------- the cases


def policy(sides: Sides, rounds: int) -> dict[str, Any]:
    """One exact call of either side, and how far apart their answers are from the same noise."""
    from polyclock import sample

    def theirs() -> Tensor:
        return sides.theirs.sample_marginal_action(sides.now)

    def ours(**noise: Tensor) -> Tensor:
        how = {"noise": noise} if noise else {}
        return sample(sides.ours, sides.query, steps=STEPS, decode=False, **how, **sides.given)["action"]

    with torch.no_grad():
        torch.manual_seed(7)
        answer = theirs()
        torch.manual_seed(7)  # they draw the actions' noise first
        action = torch.randn(1, sides.sizes.horizon, sides.sizes.action)
        mine = ours(action=action, **sides.latents(torch.randn(1, *sides.sizes.latent)))
        apart = float((answer - mine).abs().max())
        found = compared(turns({"theirs": theirs, "ours": ours}, rounds), "theirs", "ours")
    show("policy, 10 steps", found)
    print(f"  largest difference of an action: {apart:.2e}")
    return found | {"largest_difference": apart}


def train(sides: Sides, rounds: int) -> dict[str, Any]:
    """One step of either side."""
    steps = TrainingSteps(sides)
    cases = {
        "network": ({"theirs": steps.theirs_given, "ours": steps.ours_given}, rounds),
        "whole": ({"theirs": steps.theirs_whole, "ours": steps.ours_given}, rounds),
        "encoding": ({"theirs": steps.theirs_whole, "ours": steps.ours_whole}, rounds),
    }
    found = {}
    for name, (calls, count) in cases.items():
        found[name] = compared(turns(calls, count), "theirs", "ours")
        show(f"train, {name}, batch {sides.many.batch}", found[name])
    return found


class TrainingSteps:
    """The four steps: theirs and ours, with the latents of the future given, and with the autoencoder at work."""

    def __init__(self, sides: Sides) -> None:
        from polyclock.batch import Batch

        self.sides, sizes = sides, sides.many
        case = f"{sides.name}/benchmark/many"
        self.now = numbers.observation(case, sizes, "now")
        self.later = numbers.observation(case, sizes, "later")
        self.action = numbers.actions(case, sizes)
        self.future = 0.5 * numbers.noise(f"{case}/latents", (sizes.batch, *sizes.latent))
        everyone = torch.arange(sizes.batch)
        values = {c: self.now[v] for c, v in sides.cameras.items()} | {"action": self.action}
        pictures = dict(zip(sides.videos, (self.later[v] for v in sizes.views), strict=True))
        names = (*values, *pictures)
        self.small = Batch(index=everyone, values=dict(values), rows=dict.fromkeys(names, everyone))
        self.large = replace(self.small, values=values | pictures)
        settings = {"lr": 1e-5, "weight_decay": 1e-6, "fused": True}
        self.optimizers = {
            side: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **settings)
            for side, model in (("theirs", sides.theirs), ("ours", sides.ours))
        }
        self.step = 0

    def theirs_whole(self) -> None:
        model = self.sides.theirs.train()
        total, _ = model(self.now, self.later, self.action.clone(), None)
        self._update("theirs", total)

    def theirs_given(self) -> None:
        """Without the autoencoder, and without the future pictures, which nothing else looks at."""
        encoder = self.sides.theirs.obs_encoder
        encoder.encode_curr_and_next_obs = lambda now, later: (encoder.encode_curr_obs(now), self.future)
        try:
            self.theirs_whole()
        finally:
            del encoder.encode_curr_and_next_obs

    def ours_given(self) -> None:
        self._ours(self.small, self.sides.latents(self.future))

    def ours_whole(self) -> None:
        self._ours(self.large, {})

    def _ours(self, batch: Any, latents: dict[str, Tensor]) -> None:
        from polyclock.dice import Dice
        from polyclock.objective import loss

        model = self.sides.ours.train()
        self.step += 1
        dice = Dice(0, self.step, range(batch.size))
        latent = model.encode(batch, dice)
        latent = replace(latent, values=latent.values | latents)
        total, _ = loss(model, latent, model.recipe.law, dice)
        self._update("ours", total)

    def _update(self, side: str, total: Tensor) -> None:
        total.backward()
        self.optimizers[side].step()
        self.optimizers[side].zero_grad(set_to_none=True)


def solvers(sides: Sides, rounds: int) -> dict[str, Any]:
    """Our policy call by other solvers: how many times as long the ten steps of DDIM take. Quality is not looked at."""
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    from polyclock import sample
    from polyclock.schedulers import Diffusers

    table = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}

    def by(solver: Any = None) -> Call:
        how = {"steps": STEPS} if solver is None else {"solver": solver}
        return lambda: sample(sides.ours, sides.query, decode=False, **how, **sides.given)

    calls, found = {"DDIM 10": by()}, {}
    for steps in FEWER:
        multistep = DPMSolverMultistepScheduler(**table, algorithm_type="dpmsolver++")
        calls[f"DPM-Solver++ {steps}"] = by(Diffusers({"action": multistep}, steps=steps))
        calls[f"UniPC {steps}"] = by(Diffusers({"action": UniPCMultistepScheduler(**table)}, steps=steps))
    sides.ours.eval()
    spent = turns(calls, rounds)
    for name in list(calls)[1:]:
        found[name] = compared(spent, "DDIM 10", name)
        show(name, found[name])
    return found


def record(args: argparse.Namespace, sizes: numbers.Sizes, results: dict[str, Any], load: tuple) -> dict[str, Any]:
    """What was run, on what, and what came out."""
    import diffusers

    words = ["CHECKOUT" if word == args.checkout else word for word in sys.argv[1:]]
    return {
        "command": " ".join(["python", "benchmarks/uwm.py", *words]),
        "what": "the authors' code and this package with the same random weights, taking turns in one process",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__,
        },
        "machine": {"processors": os.cpu_count(), "kind": platform.machine(), "threads": args.threads},
        "load_before": load,
        "load_after": os.getloadavg(),
        "size": {"width": sizes.embed, "depth": sizes.depth, "views": len(sizes.views), "batch": args.batch},
        "rounds": args.rounds,
        "results": results,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", metavar="CHECKOUT", help="of the authors' code")
    parser.add_argument("--small", action="store_true", help="a narrow model, in seconds")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4, help="samples of a training step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    chosen = args.cases.split(",")
    if not set(chosen) <= set(CASES) or not (Path(args.checkout) / "models").is_dir():
        parser.error(f"--cases are of {', '.join(CASES)}, and CHECKOUT holds a folder models/")
    torch.set_num_threads(args.threads)
    load, name = os.getloadavg(), "narrow" if args.small else "full"
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(Path(args.checkout).resolve(), name, args.batch, Path(folder))
    print(f"{name}: {sum(p.numel() for p in sides.ours.parameters()) / 1e6:.1f} M weights, load {load[0]:.1f}")
    cases = {"policy": policy, "train": train, "solvers": solvers}
    results = {case: cases[case](sides, args.rounds) for case in CASES if case in chosen}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record(args, sides.sizes, results, load), indent=1) + "\n")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
