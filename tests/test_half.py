"""Models whose weights are bfloat16 or float16 answer like those of float32, whatever they are made of."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from polyclock import Guide, sample
from polyclock.adapter import Adapter
from polyclock.backbones.dit import DiT
from polyclock.backbones.wan import Wan
from polyclock.encoders import Bytes, Numbers, Patches, ResNet, Vector
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition
from polyclock.model import WorldModel
from polyclock.nn.detail import Detail
from polyclock.nn.modulation import Joint, JointLocal, Local
from polyclock.path import Linear
from polyclock.timesteps import Independent
from worlds import BACKBONE, MODALITIES, awake, recipe

TEXT = Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", drop=0.2)
CAMERA = Condition(encoder=ResNet(size="mini", width=16, pool="tokens"), route="tokens", shape=(1, 16, 16, 3), drop=0.2)
STATE = Condition(encoder=Vector(width=16), shape=(1, 3), drop=0.2)
FUSED = Condition(
    encoder=Patches(patch=(2, 2)), route="fuse:video+depth", shape=(1, 4, 4, 3), adapter=Adapter(hidden=1)
)
BESIDE = Condition(encoder=Numbers(linear=8), route="beside", shape=(1, 3), drop=0.2)
SPREAD = Condition(encoder=Patches(patch=(2, 2)), route="tokens", shape=(1, 4, 4, 3), required=True)
FINE = Layout(Stream("video", "depth", detail=Detail(width=8), place=True), Stream("action"))
SEES = Layout(Stream("video", "depth"), Stream("action"), sees={"video+depth": (), "action": ("video+depth",)})
WAN = Wan(width=32, depth=2, heads=2, feedforward=64)
KINDS = {
    "dit": {"conditions": {"text": TEXT, "camera": CAMERA, "state": STATE, "fused": FUSED}, "layout": FINE},
    "joint": {"conditions": {"state": STATE, "beside": BESIDE}, "modulation": Joint(),
              "backbone": replace(BACKBONE, out=True)},
    "joint-local": {"modulation": JointLocal(), "backbone": DiT(width=32, depth=2, heads=2, qk_norm=False, rope=False)},
    "own": {"modulation": Local(label=True, table=True, last=True), "layout": SEES, "law": Independent()},
    "near": {"conditions": {"seen": SPREAD}, "registers": 0, "modalities": MODALITIES | {
        "video": replace(MODALITIES["video"], near="seen", path=Linear(predict="data", spread=0.3))}},
    "wan": {"conditions": {"text": TEXT, "camera": CAMERA, "beside": BESIDE}, "modulation": Local(shared=True),
            "backbone": replace(WAN, experts={"action": 24}), "layout": FINE},
}  # fmt: skip


def of(kind: str, dtype: torch.dtype) -> tuple[WorldModel, WorldModel]:
    """A model of float32 whose weights a narrow one holds, and that one."""
    torch.manual_seed(0)
    half = awake(recipe(**KINDS[kind]).build()).to(dtype)
    return copy.deepcopy(half).float(), half


def values(model: WorldModel, size: int = 2) -> dict:
    g = torch.Generator().manual_seed(1)
    of_kind = {"text": lambda s: ["open it", "no"][:size], "vector": lambda s: torch.randn(size, *s, generator=g)}
    of_kind["video"] = lambda s: torch.rand(size, *s, generator=g)
    return {n: of_kind[c.kind](c.shape) for n, c in model.conditions.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_model_answers_as_a_wide_one(kind: str, dtype: torch.dtype) -> None:
    wide, half = of(kind, dtype)
    told = values(half)
    free = [n for n, c in half.conditions.items() if not c.required]
    guides = [Guide(weight=1.0, drop=set(free[:2]))] if free else []
    for right, given, extra in (
        (list(told), told, {"guides": guides}),
        ([n for n in told if n not in free], {n: told[n] for n in told if n not in free}, {}),
        (["video", *told], {"video": torch.randn(2, 4, 4, 4, 3), **told}, {}),
    ):
        left = "action" if "video" in right else "video, depth, action"
        query = f"{left} | {', '.join(right)}"
        found = [
            sample(m, query, steps=2, size=2, decode=False, **given, **extra) for m in (wide, half)
        ]  # fmt: skip
        for name, value in found[0].items():
            other = found[1][name]
            assert other.dtype == torch.float32 and other.isfinite().all()
            assert (value - other).square().mean().sqrt() < 0.05 * value.std() + 0.02, (name, right)


def test_tokens_stand_where_they_stood() -> None:
    half = recipe(backbone=replace(BACKBONE, per_second=4.0)).build()
    before = {n: b.clone() for n, b in half.named_buffers() if "positions" in n}
    half.to(torch.bfloat16)
    after = dict(half.named_buffers())
    assert before and all(torch.equal(v, after[n]) for n, v in before.items())
    assert half.double().get_buffer(next(iter(before))).dtype == torch.float64
