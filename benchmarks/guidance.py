"""What guidance by several sources costs: a step with 1 to 5 branches, and clips with branches that look anew only now
and then.

    python benchmarks/guidance.py [--run RUN] [--rounds 15] [--steps 50] [--threads 1] [--out FILE.json]
    python benchmarks/guidance.py --cases clip [--size 1.3B] [--latents 21,60,104] [--device cuda]

step   one guided evaluation with 1, 2, .. branches, one after another and stacked, as multiples of one branch
plans  whole clips: `every` (see `Guide`) of all guides, of the features alone, and guidance in a part of the times;
       the cost as a multiple of the clip without guidance, and the PSNR to the clip under the exact guidance
clip   seconds of one clip: ours with five branches and 48 channels, and diffusers' WanPipeline with its two branches
       and 16 channels, both with random weights of one size, without autoencoder and text encoder

Calls take turns in one process (benchmarks/turns.py), so that whatever else the machine does falls on all; a ratio is
that of two neighbouring calls. RUN is a trained run of `polyclock train dreamworld`; without one the network is random,
and its PSNR says nothing of a trained one. PSNR is that of raw pictures, 255 at most, over all clips of the case; null
where no pixel differs.
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
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "benchmarks", ROOT / "src"):
    sys.path.insert(0, str(folder))

from turns import compared, show, turns  # noqa: E402

from polyclock import Guide, from_pretrained, sample  # noqa: E402
from polyclock.dice import Dice  # noqa: E402
from polyclock.guidance import Guided  # noqa: E402
from polyclock.model import WorldModel  # noqa: E402
from polyclock.recipes import dreamworld  # noqa: E402
from polyclock.recipes.dreamworld import FEATURES, guides  # noqa: E402

CASES = ("step", "plans", "clip")
PROMPTS = ("open the drawer", "press the button")


def model_of(run: str | None) -> WorldModel:
    """A trained network, or a random one in which nothing is silent."""
    if run is not None:
        folder = Path(run)
        return from_pretrained(folder / "model" if (folder / "model").is_dir() else folder)
    model = dreamworld(annealed=0).build().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.05)
    return model


def branches(model: WorldModel, count: int) -> tuple[Guide, ...]:
    """The first `count` - 1 guides of those that the model has a source for."""
    return guides(features=[n for n in FEATURES if n in model.modalities])[: count - 1]


def step(model: WorldModel, rounds: int) -> dict[str, Any]:
    """One evaluation of one clip under 0 to 4 guides."""
    dice = Dice(0, 0, range(1), model.device)
    x = {n: dice.normal(n, *(int(s or 0) for s in m.shape)) for n, m in model.modalities.items()}
    t = {n: torch.full((1, m.frames), 0.7) for n, m in model.modalities.items()}
    given = model.prepared(model.conditioner({"text": [PROMPTS[0]]}, {"text": torch.arange(1)}, 1))
    most = 2 + sum(n in model.modalities for n in FEATURES)

    def call(count: int, together: int) -> Callable[[], object]:
        chosen = branches(model, count)

        def once() -> dict[str, Tensor]:
            with torch.no_grad():
                return Guided(model, given, chosen, x, together)(x, t, 0.7)

        return once

    calls = {f"{k} x {j}": call(k, j) for k in range(1, most + 1) for j in {1, k}}
    spent, found = turns(calls, rounds), {}
    for name in [n for n in calls if n != "1 x 1"]:
        found[name] = compared(spent, name, "1 x 1")
        show(f"branches x stacked: {name}", found[name])
    return found


def plans(model: WorldModel) -> dict[str, tuple[Guide, ...]]:
    """name -> guides, the exact ones first; the text is branch 0."""
    exact = branches(model, 5)
    text, features = exact[:1], exact[1:]

    def every(some: tuple[Guide, ...], n: int) -> tuple[Guide, ...]:
        return tuple(replace(g, every=n) for g in some)

    out = {"exact": exact}
    out |= {f"all, every {n}": every(exact, n) for n in (2, 3, 4, 5, 6, 8)}
    out |= {f"text {a}, features {b}": every(text, a) + every(features, b) for a, b in ((2, 6), (2, 8), (3, 8), (4, 6))}
    out["features at t > 0.5"] = text + tuple(replace(g, interval=(0.5, 1.0)) for g in features)
    out["all, every 4, at t > 0.2"] = tuple(replace(g, every=4, interval=(0.2, 1.0)) for g in exact)
    return out


def evaluations(chosen: tuple[Guide, ...], steps: int) -> float:
    """Branches that are evaluated in a step, in the mean."""
    times = [1 - k / steps for k in range(steps)]
    total = float(steps)
    for g in chosen:
        total += -(-sum(g.acts(t) for t in times) // g.every)
    return total / steps


def psnr(a: Tensor, b: Tensor) -> float:
    """Of pictures (..., 3) in 0 .. 255."""
    error = float(((a.double() - b.double()) ** 2).mean())
    return math.inf if not error else 10 * math.log10(255**2 / error)


def whole(model: WorldModel, steps: int, rounds: int) -> dict[str, Any]:
    """Clips under every plan."""
    wanted = ", ".join(model.modalities)

    def clip(chosen: tuple[Guide, ...]) -> Tensor:
        return sample(model, f"{wanted} | text", text=list(PROMPTS), steps=steps, guides=chosen)["video"]

    every = plans(model)
    exact = clip(every["exact"])
    calls = {"no guidance": lambda: clip(())} | {n: lambda g=g: clip(g) for n, g in every.items()}
    spent, found = turns(calls, rounds), {}
    for name, chosen in every.items():
        one = compared(spent, name, "no guidance")
        near = psnr(clip(chosen), exact)
        one |= {
            "psnr": None if math.isinf(near) else round(near, 2),
            "evaluations": round(evaluations(chosen, steps), 3),
        }
        show(f"{name}, {near:.1f} dB", one)
        found[name] = one
    return found


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds."""
    if device != "cpu":
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def published(theirs: Any, words: Tensor, latents: tuple[int, ...], steps: int, device: str) -> float:
    """Seconds of diffusers' pipeline; its scheduler is the published one for 480 pixels."""
    import diffusers

    usual = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = diffusers.UniPCMultistepScheduler(**usual)
    pipe = diffusers.WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, transformer=theirs)
    pipe.set_progress_bar_config(disable=True)
    frames, height, width = latents

    def call(n: int) -> object:
        return pipe(
            prompt_embeds=words[:1], negative_prompt_embeds=words[1:], guidance_scale=6.0, num_inference_steps=n,
            height=8 * height, width=8 * width, num_frames=4 * frames - 3, output_type="latent",
        )  # fmt: skip

    timed(lambda: call(2), device)
    return timed(lambda: call(steps), device)


def clip(size: str, latents: tuple[int, ...], steps: int, device: str, together: int) -> dict[str, Any]:
    """Seconds of one clip on either side, weights random in bfloat16 (float32 on a CPU)."""
    import diffusers

    from polyclock.backbones.wan import SIZES
    from polyclock.interop import expanded, wan

    width, depth, heads, hidden = SIZES[size]
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    settings = {"num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": depth}
    torch.manual_seed(0)
    with torch.device(device):
        theirs = diffusers.WanTransformer3DModel(**settings, ffn_dim=hidden).to(dtype).eval()
    words = torch.randn(2, 512, 4096, device=device, dtype=dtype)
    found: dict[str, Any] = {"size": size, "latents": list(latents), "steps": steps, "dtype": str(dtype)}
    found["diffusers, 2 branches"] = round(published(theirs, words, latents, steps, device), 3)
    print(f"  diffusers, 2 branches, 16 channels: {found['diffusers, 2 branches']} s", flush=True)
    sources = {"video": 16, "flow": 16, "semantics": 8, "geometry": 8}
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        del theirs
        model = wan.empty(expanded.recipe_of(folder, sources))
        wan.load_weights(model, folder, device=device)
    model.eval()
    shapes = {n: (*latents, c) for n, c in sources.items()}
    query = f"{', '.join(sources)} | text"

    def ours(n: int, chosen: tuple[Guide, ...]) -> object:
        return sample(
            model, query, text=words[:1], steps=n, shapes=shapes, guides=chosen, guide_batch=together, decode=False
        )

    # The pipeline's second branch has another prompt's features; so has ours.
    five = tuple(replace(g, instead={"text": words[1:]}) if "text" in g.drop else g for g in guides())
    rarely = tuple(replace(g, every=5) for g in five)
    cases = {"1 branch": (), "2 branches": five[:1], "5 branches": five, "5 branches, every 5": rarely}
    for name, chosen in cases.items():
        timed(lambda chosen=chosen: ours(2, chosen), device)
        found[f"ours, {name}"] = round(timed(lambda chosen=chosen: ours(steps, chosen), device), 3)
        print(f"  ours, {name}, 48 channels: {found[f'ours, {name}']} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="step,plans", help=f"of {', '.join(CASES)} [step,plans]")
    parser.add_argument("--run", help="a trained run or model folder [a random network]")
    parser.add_argument("--rounds", type=int, default=15, help="of the turns of a step; clips take a third [15]")
    parser.add_argument("--steps", type=int, default=50, help="of the solver [50]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", default="1.3B", help="of clip [1.3B]")
    parser.add_argument("--latents", default="21,60,104", help="of clip: frames,height,width [21,60,104]")
    parser.add_argument("--together", type=int, default=1, help="of clip: branches that are stacked [1]")
    parser.add_argument("--device", default="cpu", help="of clip [cpu]")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "guidance.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = args.cases.split(",")
    if set(cases) - set(CASES):
        parser.error(f"--cases {args.cases}; possible: {', '.join(CASES)}")
    out = Path(args.out)
    found: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    found["command"] = " ".join(["python", "benchmarks/guidance.py", *sys.argv[1:]])
    found["machine"] = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                        "torch": torch.__version__, "threads": args.threads}  # fmt: skip
    if args.device != "cpu":
        found["machine"]["gpu"] = torch.cuda.get_device_name()
    if "clip" in cases:
        latents = tuple(int(n) for n in args.latents.split(","))
        found["clip"] = clip(args.size, latents, args.steps, args.device, args.together)
    if set(cases) & {"step", "plans"}:
        model = model_of(args.run)
        found["network"] = "a random network" if args.run is None else Path(args.run).name
        if "step" in cases:
            found["step"] = step(model, args.rounds)
        if "plans" in cases:
            found["plans"] = whole(model, args.steps, max(2, args.rounds // 3))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
