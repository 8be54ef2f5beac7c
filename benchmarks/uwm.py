"""Time of policy calls and training steps: the authors' Unified World Models code against this package, same weights.

    python benchmarks/uwm.py CHECKOUT [--small] [--cases policy,bare,train,solvers] [--rounds 10] [--out FILE.json]

Give a checkout of their code; it has no licence and is not part of this repository. Besides torch and diffusers it
needs transformers, `pip install einops` and `pip install --no-deps torchvision` (tools/make_uwm_golden.py says what
stands in for the rest). Both sides have the random weights of tests/uwm_weights.py: theirs go to a models.pt, ours is
what `polyclock.interop.uwm.load` makes of it. They take turns call by call in one process, so that whatever else the
machine does falls on both; a ratio is that of two neighbouring calls. `--small` runs a narrow model in seconds.

policy   one call at batch 1: pictures, their features, ten steps, actions
bare     the same question without tokens for the future ("action | .., -video") of a network whose law trains it, as
         `polyclock train uwm --alone` does, beside their call and our full one: time alone, so random weights will do
train    one step: pictures cropped and coloured, forward, backward, AdamW. Theirs is as they train: the autoencoder
         encodes four pictures a sample in every step, and torch chooses how AdamW is computed. Ours is fused, and
         encodes the same pictures in every step ("encoding"), or has what was said of them ahead ("ahead": 8 looks at
         them, of which the step draws one). Reading data is counted on neither side. "parts" is where the time goes
solvers  our policy call in fewer steps, by DDIM and by schedulers of diffusers, against their ten of DDIM: time alone
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
for folder in ("tools", "tests", "benchmarks"):
    sys.path.insert(0, str(ROOT / folder))

import make_uwm_golden as golden  # noqa: E402
from turns import Call, compared, order_interval, show, turns  # noqa: E402, F401

import uwm_weights as numbers  # noqa: E402

CASES = ("policy", "bare", "train", "solvers")
STEPS = 10
FEWER = (5, 3, 2)
LOOKS = 8


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


def bare(sides: Sides, rounds: int) -> dict[str, Any]:
    """Our call without tokens for the future beside theirs and our full one, and how many tokens each of ours has."""
    from polyclock import Mixture, Task, sample

    model, question = sides.ours, f"{sides.query}, -video"
    recipe = model.recipe
    law = Mixture((0.3, Task(question)), (0.7, recipe.law), whole=True)
    model.patterns = law.patterns(recipe.modalities, recipe.conditions)
    lengths: list[int] = []

    def asked(query: str) -> Call:
        return lambda: sample(model, query, steps=STEPS, decode=False, strict=True, **sides.given)

    sides.theirs.eval()
    calls = {"theirs": torch.no_grad()(lambda: sides.theirs.sample_marginal_action(sides.now))}
    calls |= {"full": asked(sides.query), "bare": asked(question)}
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    tokens = {}
    for name in ("full", "bare"):
        calls[name]()
        tokens[name] = lengths[-1]
    hook.remove()
    spent = turns(calls, rounds)
    pairs = {"full": ("theirs", "full"), "bare": ("theirs", "bare"), "saved": ("full", "bare")}
    found: dict[str, Any] = {name: compared(spent, *pair) for name, pair in pairs.items()}
    for name, (slow, fast) in pairs.items():
        show(f"{slow} / {fast}", found[name])
    print(f"  tokens of ours: {tokens}", flush=True)
    return found | {"tokens": tokens}


def train(sides: Sides, rounds: int) -> dict[str, Any]:
    """One step of either side, and the seconds of its parts."""
    steps = TrainingSteps(sides)
    calls = {"theirs": steps.theirs, "encoding": steps.ours_encoding, "ahead": steps.ours_ahead}
    spent = turns({name: steps.parts.whole(name, call) for name, call in calls.items()}, rounds)
    found: dict[str, Any] = {name: compared(spent, "theirs", name) for name in ("encoding", "ahead")}
    for name in found:
        show(f"train, {name}, batch {sides.many.batch}", found[name])
    found["parts"] = {name: steps.parts.seconds(name, rounds) for name in calls}
    for name, parts in found["parts"].items():
        print(f"  {name}: " + ", ".join(f"{part} {value:.3f} s" for part, value in parts.items()), flush=True)
    return found


class Parts:
    """Seconds by the wall of parts of a call: of functions that stand in for those that they time."""

    def __init__(self) -> None:
        self.spent: dict[str, list[dict[str, float]]] = {}
        self.now: dict[str, float] = {}

    def whole(self, name: str, call: Call) -> Call:
        """`call`, whose parts are noted under its name."""

        def noted() -> None:
            self.now = {}
            call()
            self.spent.setdefault(name, []).append(self.now)

        return noted

    def of(self, owner: Any, method: str, part: str) -> None:
        """Time a method of an object, without what is timed inside it."""
        real = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, before = time.perf_counter(), sum(self.now.values())
            out = real(*args, **kwargs)
            inside = sum(self.now.values()) - before
            self.now[part] = self.now.get(part, 0.0) + time.perf_counter() - began - inside
            return out

        setattr(owner, method, timed)

    def seconds(self, name: str, rounds: int) -> dict[str, float]:
        """The median over the last rounds of each part."""
        rows = self.spent[name][-rounds:]
        return {part: round(median(row.get(part, 0.0) for row in rows), 4) for part in rows[0]}


class TrainingSteps:
    """Their step, ours, and ours with the targets encoded ahead."""

    def __init__(self, sides: Sides) -> None:
        from polyclock.batch import Batch

        self.sides, sizes = sides, sides.many
        case = f"{sides.name}/benchmark/many"
        self.now = numbers.observation(case, sizes, "now")
        self.later = numbers.observation(case, sizes, "later")
        self.action = numbers.actions(case, sizes)
        everyone = torch.arange(sizes.batch)
        values = {c: self.now[v] for c, v in sides.cameras.items()} | {"action": self.action}
        pictures = dict(zip(sides.videos, (self.later[v] for v in sizes.views), strict=True))
        rows = dict.fromkeys((*values, *pictures), everyone)
        self.raw = Batch(index=everyone, values=values | pictures, rows=rows)
        # Mean and log variance of each latent, as the autoencoder says them of 8 looks.
        mean = sides.latents(5.0 * numbers.noise(f"{case}/latents", (sizes.batch, *sizes.latent)))
        said = {n: torch.cat([x, -5 + 0 * x], -1)[:, None].repeat(1, LOOKS, 1, 1, 1, 1) for n, x in mean.items()}
        self.ahead = Batch(index=everyone, values=values | said, rows=rows, ahead=frozenset(said))
        self.views = sides.ours.views, {n: replace(v, fixed=LOOKS) for n, v in sides.ours.views.items()}
        settings = {"lr": 1e-5, "weight_decay": 1e-6}
        self.optimizers = {
            "theirs": torch.optim.AdamW(sides.theirs.parameters(), **settings),
            "ours": torch.optim.AdamW([p for p in sides.ours.parameters() if p.requires_grad], fused=True, **settings),
        }
        self.step = 0
        self.parts = parts = Parts()
        eye, ours = sides.theirs.obs_encoder, sides.ours
        parts.of(eye, "apply_transform", "pictures")
        parts.of(eye, "apply_vae", "autoencoder")
        parts.of(eye.img_encoder, "forward", "observation")
        parts.of(sides.theirs.noise_pred_net, "forward", "network")
        parts.of(ours, "looked_at", "pictures")
        parts.of(ours, "encode", "autoencoder")
        parts.of(ours.conditioner, "forward", "observation")
        parts.of(ours, "forward", "network")
        for optimizer in self.optimizers.values():
            parts.of(optimizer, "step", "optimizer")
        parts.of(self, "backward", "backward")

    def theirs(self) -> None:
        model = self.sides.theirs.train()
        total, _ = model(self.now, self.later, self.action.clone(), None)
        self._update("theirs", total)

    def ours_ahead(self) -> None:
        self._ours(self.ahead, self.views[1])

    def ours_encoding(self) -> None:
        self._ours(self.raw, self.views[0])

    def _ours(self, batch: Any, views: dict[str, Any]) -> None:
        from polyclock.dice import Dice
        from polyclock.objective import loss

        model = self.sides.ours.train()
        model.views = views
        self.step += 1
        dice = Dice(0, self.step, range(batch.size))
        with torch.no_grad():
            latent = model.encode(batch, dice)
        total, _ = loss(model, latent, model.recipe.law, dice)
        self._update("ours", total)

    def _update(self, side: str, total: Tensor) -> None:
        self.backward(total)
        self.optimizers[side].step()
        self.optimizers[side].zero_grad(set_to_none=True)

    def backward(self, total: Tensor) -> None:
        total.backward()


def solvers(sides: Sides, rounds: int) -> dict[str, Any]:
    """Our policy call by other solvers, and theirs by ten steps of DDIM. Quality is not looked at."""
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    from polyclock import sample
    from polyclock.schedulers import Diffusers

    table = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}

    def by(steps: int, kind: Any = None, **settings: Any) -> Call:
        if kind is None:
            return lambda: sample(sides.ours, sides.query, decode=False, steps=steps, **sides.given)
        solver = Diffusers({"action": kind(**table, **settings)}, steps=steps)
        return lambda: sample(sides.ours, sides.query, decode=False, solver=solver, **sides.given)

    theirs = torch.no_grad()(lambda: sides.theirs.sample_marginal_action(sides.now))
    calls: dict[str, Call] = {"theirs, DDIM 10": theirs, "DDIM 10": by(STEPS)}
    for steps in FEWER:
        calls[f"DDIM {steps}"] = by(steps)
        calls[f"DPM-Solver++ {steps}"] = by(steps, DPMSolverMultistepScheduler, algorithm_type="dpmsolver++")
        calls[f"UniPC {steps}"] = by(steps, UniPCMultistepScheduler)
    sides.theirs.eval()
    sides.ours.eval()
    spent = turns(calls, rounds)
    found = {}
    for name in list(calls)[1:]:
        found[name] = compared(spent, "theirs, DDIM 10", name)
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
    cases = {"policy": policy, "bare": bare, "train": train, "solvers": solvers}
    results = {case: cases[case](sides, args.rounds) for case in CASES if case in chosen}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record(args, sides.sizes, results, load), indent=1) + "\n")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
