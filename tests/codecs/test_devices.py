"""Every codec works where its data lie: on torch's device "meta", tensors of another device are refused as on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyclock.codecs import (
    Chain,
    Codec,
    DepthColor,
    DepthPlane,
    FlowColor,
    FlowFrames,
    FlowPlanes,
    Identity,
    LabelPlanes,
    MeanStd,
    MinMax,
    Palette,
    Pixels,
    PointPlanes,
    Projection,
    Quantile,
    Relative,
    Resample,
    Rotation,
    SkeletonPicture,
    SurfaceColor,
    SurfacePlanes,
    coco_skeleton,
)

DICE = np.random.default_rng(0)
VECTORS = [DICE.normal(size=(50, 6)).astype("float32")]
FEATURES = [DICE.normal(size=(8, 4, 4, 12)).astype("float32")]
VECTOR, DEPTH, MASK, FLOW, SURFACE = (
    (2, 5, 6),
    (2, 3, 16, 16, 1),
    (2, 3, 16, 16, 2),
    (2, 3, 16, 16, 3),
    (2, 3, 16, 16, 3),
)
MAPS = (2, 5, 4, 4, 12)
CASES: list[tuple[Codec, tuple[int, ...]]] = [
    (Identity(), VECTOR),
    (Quantile(clip=1.5).fit(VECTORS), VECTOR),
    (MeanStd().fit(VECTORS), VECTOR),
    (MinMax().fit(VECTORS), VECTOR),
    (Relative(axes=(0, 3)), VECTOR),
    *(
        (Rotation(source=s, target=t, axes=(0, 3)), VECTOR)
        for s in ("euler", "axis_angle")
        for t in ("quaternion", "6d")
    ),
    *((DepthPlane(near=0.5, far=4, scale=s), DEPTH) for s in ("linear", "inverse")),
    *((DepthColor(map=m, near=0.5, far=4), DEPTH) for m in ("spectral", "grey")),
    *((DepthColor(range=r, scale="inverse"), DEPTH) for r in ("clip", "frame")),
    (PointPlanes(near=0.5, far=4, fovy=60.0), DEPTH),
    *((FlowColor(style=s, reach=5.0), FLOW) for s in ("wheel", "hsv")),
    *((FlowColor(range=r, reach=0.15 if r == "diagonal" else None), FLOW) for r in ("diagonal", "clip")),
    (FlowPlanes(reach=5.0, knee=1.0), FLOW),
    (FlowFrames(), FLOW),
    (Palette(cycle=True), MASK),
    (LabelPlanes(classes=5), MASK),
    *((SurfaceColor(style=s), SURFACE) for s in ("iuv", "viridis", "digits")),
    (SurfacePlanes(), SURFACE),
    (coco_skeleton((32, 32), figures=2), (2, 3, 34, 3)),
    (SkeletonPicture(size=(16, 16), joints=5, limbs=((0, 1), ((1, 2), 3))), (2, 3, 5, 3)),
    (Projection(components=3).fit(FEATURES), MAPS),
    (Chain(Projection(components=3, scale="channel"), Resample(size=(3, 3))).fit(FEATURES), MAPS),
    (Resample(size=(3, 3), space="area", time="adaptive", frames=5, grid=(4, 4)), MAPS),
    (Pixels(), FLOW),
]


@pytest.mark.parametrize("found", [True, False], ids=["found", "not found"])
@pytest.mark.parametrize(("codec", "shape"), CASES, ids=[type(c).__name__ for c, _ in CASES])
def test_a_codec_stays_on_the_device(
    codec: Codec, shape: tuple[int, ...], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is asked of the values, such as whether any pixel is unclear, is answered both ways.
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: found)
    monkeypatch.setattr(torch.Tensor, "__int__", lambda _: 0)
    raw = torch.zeros(shape, device="meta", dtype=torch.uint8 if isinstance(codec, Pixels) else torch.float32)
    x = codec.encode(raw)
    again = codec.decode(x)
    assert x.is_meta and again.is_meta


def test_the_device_tells_a_tensor_that_lies_elsewhere() -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(3, device="meta") + torch.zeros(3)
