"""Time of one policy call at batch 1, by precision, compilation and CUDA graphs, beside what memory alone would take.

    python benchmarks/latency.py --device cuda --out benchmarks/results/latency.json [--calls 200] [--steps 10]
    python benchmarks/latency.py --size small --calls 3

The model is what `polyclock.interop.uwm.load` makes of a file in the layout of the authors' LIBERO checkpoints (two
cameras, 8 registers, published size) with the random weights of tests/uwm_weights.py, as in benchmarks/uwm.py. A call
goes from uint8 pictures on the host to a chunk of actions on the host, both noises given, and is timed by the wall
between two synchronisations of the device.

fp32, bf16   `polyclock.sample` with weights of this dtype, matrix products in float32 without TF32
compiled     its backbone through torch.compile
graph        captured once as CUDA graphs, and replayed: all steps as one, and stem and stages of the network that reads
             the pictures. What lies between waits for the device (it looks whether pictures lie in [0, 1])

The bound is what it takes to read every weight of the call as often as it is used (those of the cameras' network and
of what stands beside the times once, those of the blocks in every step), at the speed at which a copy on the device
reads and writes. Activations are not counted. A variant that this machine cannot run says why in one sentence.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import uwm_weights as numbers  # noqa: E402
from polyclock import sample  # noqa: E402
from polyclock.dice import Dice  # noqa: E402
from polyclock.encoders.resnet import ResNetNet  # noqa: E402
from polyclock.intake import fill_given  # noqa: E402
from polyclock.interop import uwm  # noqa: E402
from polyclock.modality import spread  # noqa: E402
from polyclock.model import WorldModel  # noqa: E402
from polyclock.query import Query  # noqa: E402
from polyclock.schedule import Together  # noqa: E402

SIZES = {"full": "full", "small": "narrow"}  # as tests/uwm_weights.py calls them
VARIANTS = {  # dtype of the weights, compiled, captured
    "fp32": (torch.float32, False, False),
    "bf16": (torch.bfloat16, False, False),
    "bf16, compiled": (torch.bfloat16, True, False),
    "bf16, graph": (torch.bfloat16, False, True),
    "bf16, compiled, graph": (torch.bfloat16, True, True),
}
WARM = 5  # calls before those that are timed
Answer = Callable[[], Tensor]


class Question:
    """The policy's question of one model: pictures on the host by condition, noise by modality, and how it is asked."""

    def __init__(self, size: str, steps: int) -> None:
        self.sizes = sizes = replace(numbers.GOLDEN[SIZES[size]], batch=1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "models.pt"
            torch.save({"model": numbers.state(sizes), "step": 0}, path)
            known = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": sizes.heads}
            self.model: WorldModel = uwm.load(path, **known).eval()
        self.steps = steps
        videos = ["video", *(f"video.{view}" for view in sizes.views[1:])]
        seen = numbers.observation(f"{size}/latency", sizes, "now")
        self.pictures = {n.replace("video", "camera"): seen[v] for n, v in zip(videos, sizes.views, strict=True)}
        self.text = f"action | {', '.join(self.pictures)}"
        shapes = {n: self.model.modalities[n].shape for n in ("action", *videos)}
        self.noise = {n: numbers.noise(f"{size}/latency/{n}", (1, *map(int, s))) for n, s in shapes.items()}

    def plain(self, model: WorldModel) -> Answer:
        """As anyone asks it."""
        noise = {n: v.to(model.device) for n, v in self.noise.items()}
        how: dict[str, Any] = {"steps": self.steps, "noise": noise, "decode": False}
        return lambda: sample(model, self.text, **how, **self.pictures)["action"].cpu()


class Walk:
    """What `sample` computes of a question, in two parts. `steps`, from what stands beside the times to the actions,
    is arithmetic on the device alone: nothing is copied to it and nothing is waited for, as a CUDA graph needs."""

    def __init__(self, question: Question, model: WorldModel) -> None:
        self.model, self.query = model, Query.parse(question.text)
        self.roles = self.query.roles(model.modalities, model.conditions)
        self.noise = {n: v.to(model.device) for n, v in question.noise.items()}
        rows = Together(steps=question.steps).rows(self.roles, model.modalities)
        self.moves = [self._move(now, then) for now, then in pairwise(rows)]

    def _move(self, now: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> tuple[dict, dict]:
        """Times (1, F) of all names, and from and to which time (1, T, 1, ..) those go that move."""
        device, ways = self.model.device, {}
        for n in (n for n in now if not torch.equal(now[n], then[n])):
            m, x = self.model.modalities[n], self.noise[n]
            ways[n] = tuple(spread(row[n].to(device)[None], x.ndim, m.patch[0]) for row in (now, then))
        return {n: now[n].to(device)[None] for n in self.noise}, ways

    @torch.no_grad()
    def seen(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """uint8 pictures (1, T, H, W, 3) -> (1, W): what stands beside the times in every step."""
        dice = Dice(0, 0, range(1), self.model.device)
        self.given = fill_given(self.model, self.query, self.roles, pictures, 1, dice)[1]
        beside = self.model.conditioner.together(self.given)
        assert beside is not None
        return beside

    @torch.no_grad()
    def steps(self, beside: Tensor) -> Tensor:
        """(1, W) of the pictures seen before -> actions (1, horizon, A)."""
        given, x = replace(self.given, ahead=self.model.backbone.ahead(beside)), dict(self.noise)
        for times, ways in self.moves:
            out = self.model(x, times, given, wanted=set(ways))
            x |= {n: self.model.modalities[n].path.move(out[n], x[n], *way) for n, way in ways.items()}
        return x["action"]


class Replayed(nn.Module):
    """A function of one tensor as a CUDA graph, captured when it is first called. What it returns lasts until the next
    call. Errors: ValueError without a CUDA device."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.graph is None:
            self._capture(x)
        self.held.copy_(x)
        self.graph.replay()
        return self.answer

    def _capture(self, x: Tensor) -> None:
        if x.device.type != "cuda":
            raise ValueError(f"CUDA graphs need a CUDA device, and this is {x.device.type}")
        self.held = x.clone()
        # What is compiled, tuned or made once must be so before the capture, and not on the stream that is captured.
        beside, now = torch.cuda.Stream(x.device), torch.cuda.current_stream(x.device)
        beside.wait_stream(now)
        with torch.cuda.stream(beside):
            for _ in range(3):
                self.function(self.held)
        now.wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.answer = self.function(self.held)


def captured(question: Question, model: WorldModel) -> Answer:
    """The call with its steps, and the network that reads the pictures, as CUDA graphs."""
    for net in model.conditioner.encoder.values():
        if isinstance(net, ResNetNet):
            net.stem, net.stages = Replayed(net.stem), Replayed(net.stages)
    walk = Walk(question, model)
    steps = Replayed(walk.steps)

    @torch.no_grad()
    def call() -> Tensor:
        return steps(walk.seen(question.pictures)).cpu()

    return call


def prepared(question: Question, name: str, device: torch.device) -> tuple[Answer, int]:
    """A variant's call, and the bytes of weights that it reads."""
    dtype, compiled, graph = VARIANTS[name]
    model = copy.deepcopy(question.model).to(device, dtype)
    read = weights_read(model, question.plain(model))
    if compiled:
        model.backbone.compile(dynamic=False)
    return (captured(question, model) if graph else question.plain(model)), read


class Reads(TorchDispatchMode):
    """Counts the bytes of a model's weights that operations take, each as often as one does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.places = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        views = any(r.alias_info for r in func._schema.returns)
        # What only views a weight, or makes something like it, reads nothing of it.
        if not views and "new_" not in func.name() and "_like" not in func.name():
            taken = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
            self.total += sum(v.nbytes for v in taken if v.untyped_storage().data_ptr() in self.places)
        return out


def weights_read(model: nn.Module, call: Answer) -> int:
    """Bytes of all weights that a call uses, each as often as it is used."""
    with Reads(model) as reads:
        call()
    return reads.total


def waited(device: torch.device) -> float:
    """The wall's seconds, when all that the device was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def milliseconds(call: Answer, calls: int, device: torch.device) -> list[float]:
    for _ in range(WARM):
        call()
    spent = []
    for _ in range(calls):
        began = waited(device)
        call()
        spent.append(1e3 * (waited(device) - began))
    return sorted(spent)


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that copies of `size` bytes read and write: the median of ten times ten."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, speeds = torch.empty_like(source), []
    for _ in range(11):
        began = waited(device)
        for _ in range(10):
            target.copy_(source)
        speeds.append(20 * size / (waited(device) - began))
    return median(speeds[1:])


def measured(question: Question, names: list[str], calls: int, device: torch.device, speed: float) -> dict[str, Any]:
    """Every variant, or why it was not run."""
    exact = prepared(question, "fp32", device)[0]().float()
    found: dict[str, Any] = {}
    for name in names:
        try:
            call, read = prepared(question, name, device)
            apart, spent = float((call().float() - exact).abs().max()), milliseconds(call, calls, device)
        except Exception as problem:  # a variant that cannot be run must not take the others with it
            words = " ".join(str(problem).split()).partition(". ")[0][:200]
            kind = "" if isinstance(problem, ValueError) else f"{type(problem).__name__}: "
            found[name] = {"not run": kind + words}
            print(f"  {name:24s} not run: {found[name]['not run']}", flush=True)
            continue
        half, most = median(spent), spent[math.ceil(0.95 * len(spent)) - 1]
        found[name] = {
            "p50_ms": round(half, 3),
            "p95_ms": round(most, 3),
            "largest_difference": apart,
            "weights_read_bytes": read,
            "bound_ms": round(1e3 * read / speed, 4),
            "share_of_bound": round(1e3 * read / speed / half, 4),
        }
        print(f"  {name:24s} p50 {half:.2f} ms, p95 {most:.2f} ms, off by {apart:.1e}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument("--size", default="full", choices=SIZES, help="of the network [full]")
    parser.add_argument("--variants", default="; ".join(VARIANTS), help=f"of {'; '.join(VARIANTS)} [all]")
    parser.add_argument("--calls", type=int, default=200, help="that are timed of each variant [200]")
    parser.add_argument("--steps", type=int, default=10, help="of the solver [10]")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU [1]")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    names = [name.strip() for name in args.variants.split(";")]
    if set(names) - set(VARIANTS) or args.calls < 1:
        parser.error(f"--variants are of {'; '.join(VARIANTS)}, and --calls at least 1")
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device, load = torch.device(args.device), os.getloadavg()
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    question = Question(args.size, args.steps)
    speed = bandwidth(device, 2**30 if device.type == "cuda" else 2**26)
    print(f"{args.size} on {kind}: {speed / 1e9:.0f} GB/s, load {load[0]:.1f}", flush=True)
    document = {
        "command": " ".join(["python", "benchmarks/latency.py", *sys.argv[1:]]),
        "what": "one policy call at batch 1 from pictures on the host to actions on the host, random weights",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
        "machine": {"device": kind, "processors": os.cpu_count(), "threads": args.threads},
        "load_before": load,
        "size": {"width": question.sizes.embed, "depth": question.sizes.depth, "views": len(question.sizes.views)},
        "steps": args.steps,
        "calls": args.calls,
        "bandwidth_gb_s": round(speed / 1e9, 1),
        "variants": measured(question, names, args.calls, device, speed),
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document | {"load_after": os.getloadavg()}, indent=1) + "\n")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
