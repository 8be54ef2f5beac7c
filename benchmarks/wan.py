"""Wan in this package against diffusers' `WanTransformer3DModel`: time and peak memory, with the same random weights.

    python benchmarks/wan.py [--size 1.3B] [--depth 2] [--latents 5,30,52] [--rounds 7] [--threads 1] [--out FILE.json]
    python benchmarks/wan.py --cases load --size 5B --dtype bfloat16

one    one time for each sample: theirs is given times (B,), ours one for each frame, all equal
two    two streams side by side at different times, the first given at t = 0: theirs is given a time for each token,
       (B, L), and one stream twice as wide; ours two streams. Attention, matrices and tokens are the same.
load   a folder of random weights of a published size: seconds and peak memory of reading it and of one forward pass

Both sides take turns in one process, so that whatever else the machine does falls on both; a ratio is that of two
neighbouring calls, and says how many times as long theirs takes. What lies outside matrix products and attention is
told by torch's profiler. Peak memory is what torch's allocator hands out at most beyond what was there before the call.
On a GPU the sizes are those of 81 frames of 480 x 832, and with `--peak` (its TFLOP/s in this dtype) a step of low-rank
changes (LoRA) says how much of its arithmetic it uses.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from turns import Call, compared, show, turns  # noqa: E402

from polyclock import Condition, Layout, Local, Modality, Recipe, Shared, Stream, after  # noqa: E402
from polyclock.backbones.wan import SIZES, Wan  # noqa: E402
from polyclock.encoders import Numbers  # noqa: E402
from polyclock.interop import wan  # noqa: E402
from polyclock.interop.wan_folder import USUAL, write_folder  # noqa: E402
from polyclock.model import WorldModel  # noqa: E402

CASES = ("one", "two", "load")
WORDS, FEATURES = 512, 4096  # tokens of a text, numbers of each
PUBLISHED = (21, 60, 104)  # latents of 81 frames of 480 x 832
PRODUCTS = ("mm", "scaled_dot_product", "mkldnn_linear", "convolution", "flash", "attention", "gemm", "cutlass", "xmma")


class Sides:
    """Their network and ours with one set of weights, and what both are given."""

    def __init__(self, args: argparse.Namespace, channels: int) -> None:
        from diffusers import WanTransformer3DModel

        width, _, heads, feedforward = SIZES[args.size]
        self.device, self.dtype = torch.device(args.device), getattr(torch, args.dtype)
        self.grid, self.batch, self.channels = args.latents, args.batch, channels
        torch.manual_seed(0)
        with self.device:
            self.theirs = WanTransformer3DModel(
                num_attention_heads=heads, attention_head_dim=width // heads, in_channels=channels,
                out_channels=channels, text_dim=FEATURES, ffn_dim=feedforward, num_layers=args.depth,
            ).to(self.dtype)  # fmt: skip
        if self.dtype != torch.float32:  # as theirs are loaded
            for name, p in self.theirs.named_parameters():
                if any(word in name for word in self.theirs._keep_in_fp32_modules):
                    p.data = p.data.float()
        self.backbone = Wan(size=args.size, depth=args.depth)
        self.words = torch.randn(self.batch, WORDS, FEATURES, device=self.device, dtype=self.dtype)
        self.t = torch.linspace(0.3, 0.9, self.batch, device=self.device)

    def model(self, streams: int) -> WorldModel:
        """Ours with the weights of theirs, and with one stream or two that share the video's embedding and head."""
        video = Modality(shape=(self.grid[0], None, None, self.channels), patch=(1, 2, 2))
        places = [Stream("video"), Stream("depth", at=after("video", axis="W"))][:streams]
        words = Condition(encoder=Numbers(), route="context", adapter=wan.WORDS, shape=(WORDS, FEATURES), required=True)
        second = {"depth": Modality(shape=video.shape, patch=video.patch, embedding="video", head="video")}
        recipe = Recipe(
            name="benchmark", modalities={"video": video, **second} if streams > 1 else {"video": video},
            conditions={"text": words}, layout=Layout(*places), law=Shared(), modulation=Local(shared=True),
            backbone=self.backbone,
        )  # fmt: skip
        with self.device:
            model = recipe.build().to(self.dtype)
        state = self.theirs.state_dict()
        with torch.no_grad():
            for link in wan.table_of(model):
                model.get_parameter(link.ours).copy_(link.read([state[n] for n in link.theirs]))
        return model

    def noise(self, frames: int, height: int, width: int) -> Tensor:
        return torch.randn(self.batch, frames, height, width, self.channels, device=self.device)


def calls(sides: Sides, streams: int) -> tuple[WorldModel, dict[str, Call]]:
    """Our model, and one forward pass of either side; what the text becomes is a part of both."""
    model = sides.model(streams)
    frames, height, width = sides.grid
    values = {n: sides.noise(frames, height, width) for n in model.modalities}
    rows = torch.arange(sides.batch, device=sides.device)
    t = {n: sides.t[:, None].expand(-1, frames) for n in values}
    times = 1000 * sides.t
    if streams > 1:
        t["video"] = torch.zeros_like(t["video"])
        # Theirs is one video of twice the width, and is told the time of each token.
        parts = [t[n][:, :, None, None].expand(-1, -1, height // 2, width // 2) for n in values]
        times = 1000 * torch.cat(parts, 3).flatten(1)
    both = torch.cat(list(values.values()), 3).movedim(-1, 1).to(sides.dtype).contiguous()

    def theirs() -> Tensor:
        return sides.theirs(both, times, sides.words, return_dict=False)[0]

    def ours() -> Tensor:
        given = model.conditioner({"text": sides.words}, {"text": rows}, sides.batch)
        return torch.cat(list(model(values, t, given).values()), 3).movedim(-1, 1)

    return model, {"theirs": theirs, "ours": ours}


def backward(call: Call, weights: nn.Module, device: torch.device) -> Callable[[], None]:
    """A forward pass and a backward pass, after which no gradient is kept."""

    def act() -> None:
        call().float().square().mean().backward()
        weights.zero_grad(set_to_none=True)
        _wait(device)

    return act


def forward(call: Call, device: torch.device) -> Callable[[], None]:
    def act() -> None:
        with torch.no_grad():
            call()
        _wait(device)

    return act


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(act: Callable[[], None], device: torch.device) -> float:
    """MB of tensors at most at a time, beyond what was there before the call."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        act()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        act()
    events = (e for e in record.profiler.kineto_results.events() if e.name() == "[memory]")
    now = most = 0
    for _, size in sorted((e.start_ns(), e.nbytes()) for e in events):
        now += size
        most = max(most, now)
    return most / 1e6


def share(act: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """(The part of a call that is neither a matrix product nor attention, its milliseconds)."""
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=kinds) as record:
        act()
    rows = record.key_averages()
    spent = {r.key: (r.self_device_time_total if device.type == "cuda" else r.self_cpu_time_total) for r in rows}
    rest = {n: v for n, v in spent.items() if not any(w in n.lower() for w in PRODUCTS) or "Backward0" in n}
    return sum(rest.values()) / sum(spent.values()), sum(rest.values()) / 1e3


def beside(sides: Sides, streams: int, rounds: int) -> dict[str, Any]:
    """Time, memory and the share outside matrix products, forward and with a backward pass."""
    model, both = calls(sides, streams)
    weights = {"theirs": sides.theirs, "ours": model}
    with torch.no_grad():
        answers = {name: call().float() for name, call in both.items()}
    apart = float((answers["theirs"] - answers["ours"]).abs().max() / answers["theirs"].abs().max())
    found: dict[str, Any] = {"tokens": math.prod(sides.grid) // 4 * streams, "largest_difference": apart}
    passes = {
        "forward": {n: forward(call, sides.device) for n, call in both.items()},
        "forward and backward": {n: backward(call, weights[n], sides.device) for n, call in both.items()},
    }
    for name, acts in passes.items():
        one = compared(turns(acts, rounds), "theirs", "ours")
        one["peak_MB"] = {n: round(peak(act, sides.device), 1) for n, act in acts.items()}
        parts = [{n: share(act, sides.device) for n, act in acts.items()} for _ in range(3)]
        for what, i in (("outside_matrix_products", 0), ("outside_matrix_products_ms", 1)):
            one[what] = {n: round(median(part[n][i] for part in parts), 4) for n in acts}
        show(f"{streams} stream(s), {name}", one)
        print(f"    peak MB {one['peak_MB']}, outside matrix products {one['outside_matrix_products']}, "
              f"ms {one['outside_matrix_products_ms']}")  # fmt: skip
        found[name] = one
    print(f"    largest difference {apart:.1e} of the largest value", flush=True)
    return found


def utilisation(sides: Sides, rounds: int, most: float) -> dict[str, Any]:
    """A training step of low-rank changes on a GPU: the share of its `most` TFLOP/s. Blocks keep what they computed."""
    from polyclock.train.lora import add_lora

    model, both = calls(sides, 1)
    add_lora(model, 16, seed=0)
    act = backward(both["ours"], model, sides.device)
    spent = median(s["wall"] for s in turns({"ours": act}, rounds)["ours"])
    width, _, _, hidden = SIZES[sides.backbone.size]
    tokens = math.prod(sides.grid) // 4
    # Per token and block: self and cross attention's six square maps, the MLP, and the two products of attention.
    each = 2 * (6 * width**2 + 2 * width * hidden) + 4 * width * (tokens + WORDS)
    text = 2 * 2 * WORDS * width**2
    # Without gradients of the weights a backward pass costs as much as a forward pass, and attention's twice as much.
    again = each + 4 * width * (tokens + WORDS)
    work = sides.batch * sides.backbone.numbers[1] * (tokens * (each + again) + 2 * text)
    found = {"seconds": spent, "TFLOP/s": work / spent / 1e12, "of_peak": work / spent / 1e12 / most}
    print(f"  step of low-rank changes: {spent:.3f} s, {100 * found['of_peak']:.1f} % of {most} TFLOP/s", flush=True)
    return found


# ---------------------------------------------------------------- reading a folder


def load(args: argparse.Namespace) -> dict[str, Any]:
    """Random weights of a published size written as a folder of diffusers, read, and asked once with few tokens."""
    width, depth, heads, feedforward = SIZES[args.size]
    channels, dtype = {"5B": 48}.get(args.size, 16), getattr(torch, args.dtype)
    settings = {"num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": depth,
                "ffn_dim": feedforward, "in_channels": channels, "out_channels": channels}  # fmt: skip
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        (folder / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel", **settings}))
        recipe = wan.recipe_of(folder, frames=1)
        bare = wan.empty(recipe)
        table, shapes = wan.table_of(bare), {n: v.shape for n, v in bare.state_dict().items()}
        bits = torch.empty(0, dtype=dtype).element_size()

        def pieces() -> Iterator[dict[str, Tensor]]:
            for link in table:
                value = torch.empty(shapes[link.ours], dtype=dtype).uniform_(-0.02, 0.02)
                yield dict(zip(link.theirs, link.write(value, USUAL["patch_size"]), strict=True))

        sizes = {n: shapes[k.ours].numel() * bits // len(k.theirs) for k in table for n in k.theirs}
        write_folder(folder, USUAL | settings, sizes, pieces(), 10**9)
        began, before = time.perf_counter(), _resident()
        model = wan.load(folder, frames=1)
        read = time.perf_counter() - began
        x, words = torch.randn(1, 1, 4, 4, channels), torch.randn(1, 4, FEATURES)
        with torch.no_grad():
            given = model.conditioner({"text": words}, {"text": torch.arange(1)}, 1)
            began = time.perf_counter()
            out = model({"video": x}, {"video": torch.full((1, 1), 0.5)}, given)["video"]
        found = {
            "size": args.size, "dtype": args.dtype, "weights_GB": sum(sizes.values()) / 1e9,
            "read_seconds": round(read, 1), "forward_seconds": round(time.perf_counter() - began, 2),
            "resident_GB_before": round(before, 2), "peak_resident_GB": round(_resident(), 2),
            "finite": bool(out.isfinite().all()),
        }  # fmt: skip
    print(f"  {found}", flush=True)
    return found


def _resident() -> float:
    """GB of memory that this process has had at most. Pages of files that are mapped count while they are in use."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def record(args: argparse.Namespace, results: dict[str, Any], before: tuple) -> dict[str, Any]:
    """What was run, on what, and what came out."""
    import diffusers

    device = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.machine()
    return {
        "command": " ".join(["python", "benchmarks/wan.py", *sys.argv[1:]]),
        "what": "diffusers' WanTransformer3DModel and this package with the same random weights, taking turns; a "
        "ratio is how many times as long theirs takes",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__,
        },
        "machine": {"processors": os.cpu_count(), "kind": device, "threads": args.threads},
        "load_before": before,
        "load_after": os.getloadavg(),
        "network": {"size": args.size, "depth": args.depth, "latents": args.latents, "dtype": args.dtype},
        "rounds": args.rounds,
        "results": results,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="one,two", help=f"of {', '.join(CASES)}")
    parser.add_argument("--size", default="1.3B", choices=SIZES)
    parser.add_argument("--depth", type=int, help="blocks; on a CPU 2 by itself, on a GPU those of the size")
    parser.add_argument("--latents", help="frames,height,width; on a CPU 3,32,52, on a GPU those of 81 x 480 x 832")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="float32 on a CPU by itself, bfloat16 on a GPU")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the GPU in this dtype: also a step of low-rank changes")
    parser.add_argument("--scratch", help="folder for the weights of case load")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    chosen, gpu = args.cases.split(","), args.device.startswith("cuda")
    if not set(chosen) <= set(CASES):
        parser.error(f"--cases are of {', '.join(CASES)}")
    args.depth = args.depth or (SIZES[args.size][1] if gpu else 2)
    args.dtype = args.dtype or ("bfloat16" if gpu else "float32")
    args.latents = (
        [int(n) for n in args.latents.split(",")] if args.latents else list(PUBLISHED if gpu else (3, 32, 52))
    )
    torch.set_num_threads(args.threads)
    before, results = os.getloadavg(), {}
    print(f"{args.size}, {args.depth} blocks, latents {args.latents}, {args.dtype}, load {before[0]:.1f}", flush=True)
    if set(chosen) & {"one", "two"}:
        sides = Sides(args, {"5B": 48}.get(args.size, 16))
        results |= {c: beside(sides, i + 1, args.rounds) for i, c in enumerate(("one", "two")) if c in chosen}
        if args.peak:
            results["low-rank changes"] = utilisation(sides, args.rounds, args.peak)
    if "load" in chosen:
        results["load"] = load(args)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record(args, results, before), indent=1) + "\n")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
