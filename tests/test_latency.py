"""The benchmark of a call's latency: every variant answers as `sample` does, or says why it was not run."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from polyclock import sample

ROOT = Path(__file__).resolve().parents[1]
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "equal", "masked_select")


@pytest.fixture(scope="module")
def latency():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("latency")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def question(latency):
    return latency.Question("small", 3)


class Waited(TorchDispatchMode):
    """Operations whose answer Python waits for, and copies between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").partition(".")[0]
        devices = {v.device.type for v in (*args, out) if isinstance(v, torch.Tensor)}
        if name in WAITS or (name in ("_to_copy", "copy_") and len(devices) > 1):
            self.ops.append(name)
        return out


class Brought(TorchFunctionMode):
    """Tensors made of Python's numbers: on a device that is a copy from the host, which the other mode is not shown."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("tensor", "as_tensor", "new_tensor"):
            self.ops.append(name)
        return func(*args, **(kwargs or {}))


def test_what_a_graph_holds_is_the_call(latency, question) -> None:
    model = question.model
    walk = latency.Walk(question, model)
    mine, whole = walk.steps(walk.seen(question.pictures)), question.plain(model)()
    assert mine.shape == (1, 16, 7) and torch.equal(mine, whole)
    # Other pictures reach the steps through that one tensor alone, as they do in a graph that was captured before.
    given, other = walk.given, {n: 255 - v for n, v in question.pictures.items()}
    beside, walk.given = walk.seen(other), given
    how = {"steps": 3, "noise": question.noise, "decode": False}
    assert torch.equal(walk.steps(beside), sample(model, question.text, **how, **other)["action"])
    assert not torch.equal(walk.steps(beside), mine)


def test_what_a_graph_holds_waits_for_nothing_and_copies_nothing_from_the_host(latency, question) -> None:
    """On a device without numbers: whoever asks one for its value fails."""
    walk = latency.Walk(question, question.model)
    beside, given = walk.seen(question.pictures), walk.given
    walk = latency.Walk(question, copy.deepcopy(question.model).to("meta"))
    walk.given = replace(given, features={n: v.to("meta") for n, v in given.features.items()})
    beside = beside.to("meta")
    walk.steps(beside)  # what is made once for a device
    with Waited() as waited, Brought() as brought:
        answer = walk.steps(beside)
    assert answer.shape == (1, 16, 7) and not waited.ops and not brought.ops
    with Waited() as waited, Brought() as brought:
        beside[:, :2] + beside.new_tensor([1.0, 2.0]) + torch.zeros(2).to("meta")
    assert waited.ops == ["_to_copy"] and brought.ops == ["new_tensor"], "where there are such, they are seen"


def test_weights_are_counted_as_often_as_they_are_used(latency, question) -> None:
    model = question.model
    read = {}
    for steps in (1, 2):
        question.steps = steps
        read[steps] = latency.weights_read(model, question.plain(model))
    question.steps = 3
    once = {n for n, _ in model.named_parameters() if n.startswith("conditioner.") or ".beside." in n}
    idle = {n for n, _ in model.named_parameters() if n.startswith("head.video")}
    sizes = {n: p.nbytes for n, p in model.named_parameters()}
    each = sum(size for n, size in sizes.items() if n not in once | idle)
    each += sum(size for n, size in sizes.items() if n.startswith("embed.video"))  # of either view
    assert once and idle and read[2] - read[1] == each
    assert read[1] - each == sum(sizes[n] for n in once)


def test_every_variant_is_measured_or_says_why_not(latency, tmp_path: Path) -> None:
    out = tmp_path / "latency.json"
    words = ["--size", "small", "--calls", "2", "--steps", "1", "--variants", "fp32; bf16; bf16, graph"]
    script = [sys.executable, str(ROOT / "benchmarks" / "latency.py"), *words, "--out", str(out)]
    subprocess.run(script, check=True, timeout=300)
    document = json.loads(out.read_text())
    exact, half, graph = (document["variants"][n] for n in ("fp32", "bf16", "bf16, graph"))
    assert exact["largest_difference"] == 0 < half["largest_difference"] < 1
    assert exact["weights_read_bytes"] == 2 * half["weights_read_bytes"] > 0
    for one in (exact, half):
        assert 0 < one["p50_ms"] <= one["p95_ms"] and one["bound_ms"] > 0
        assert one["share_of_bound"] == pytest.approx(one["bound_ms"] / one["p50_ms"], rel=0.01)
    assert graph == {"not run": "CUDA graphs need a CUDA device, and this is cpu"}
    assert document["bandwidth_gb_s"] > 0 and document["machine"]["device"]
