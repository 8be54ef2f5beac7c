"""Points of a depth map are where the pinhole says, come back as depth, and stand on the grid of video latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import scene, worn

from polyclock.codecs import Chain, DepthPlane, LabelPlanes, PointPlanes, Resample
from polyclock.envs.truth import Camera

FOVY, NEAR, FAR = 45.0, 0.5, 12.0


def test_points_are_those_of_the_pinhole() -> None:
    """A pixel's point, seen by the worlds' own camera, falls on that pixel's centre."""
    depth = torch.rand(1, 1, 6, 10, 1) * 8 + 1
    codec = PointPlanes(near=NEAR, far=FAR, fovy=FOVY)
    points = codec.points(codec.encode(depth))[0, 0].reshape(-1, 3).double().numpy()
    focal = 6 / 2 / np.tan(np.deg2rad(FOVY) / 2)
    camera = Camera(np.array([[focal, 0, 5], [0, focal, 3], [0, 0, 1]]), np.eye(4), (6, 10))
    seen = points @ camera.intrinsics.T
    rows, columns = np.mgrid[:6, :10].reshape(2, -1) + 0.5
    np.testing.assert_allclose(seen[:, 0] / seen[:, 2], columns, atol=1e-3)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2], rows, atol=1e-3)


@pytest.mark.parametrize("scale", ["linear", "inverse"])
def test_depth_comes_back_as_from_its_plane(scale: str) -> None:
    depth = scene()["depth"]
    settings = {"near": NEAR, "far": FAR, "scale": scale}
    points, plane = PointPlanes(fovy=FOVY, **settings), DepthPlane(**settings)
    x = points.encode(depth)
    assert x.shape == (*depth.shape[:-1], 3) and float(x.abs().max()) <= 1
    for wear in ("clean", "8 bits", "blur"):
        assert torch.equal(points.decode(worn(x)[wear]), plane.decode(worn(plane.encode(depth))[wear])), wear
    lost = points.encode(torch.tensor([0.0, float("nan")]).reshape(1, 1, 1, 2, 1))
    assert lost.flatten().tolist() == [0, 0, -1] * 2 and not points.decode(lost).any()


def test_exact_maps_are_features_on_the_grid_of_latents() -> None:
    """The worlds' masks and depth as semantics and geometry: cells hold shares of classes, and mean points."""
    maps = {k: v[:, [0] * 9] for k, v in scene(1).items()}
    classes = int(maps["segmentation"][..., 1].max()) + 1
    semantics = Chain(LabelPlanes(classes=classes), Resample(size=(12, 12), space="area", grid=(96, 96)))
    x = semantics.encode(maps["segmentation"])
    assert x.shape == (2, 3, 12, 12, classes)
    torch.testing.assert_close(((x + 1) / 2).sum(-1), torch.ones(2, 3, 12, 12))
    shares = (maps["segmentation"][:, 0, :8, :8, 1] == 0).float().mean((1, 2))
    torch.testing.assert_close((x[:, 0, 0, 0, 0] + 1) / 2, shares)
    back = semantics.decode(x)[..., 1]
    assert back.shape == (2, 9, 96, 96) and float((back == maps["segmentation"][..., 1]).float().mean()) > 0.9
    geometry = Chain(PointPlanes(near=NEAR, far=FAR, fovy=FOVY), Resample(size=(12, 12), space="area", grid=(96, 96)))
    assert geometry.encode(maps["depth"]).shape == (2, 3, 12, 12, 3)
    assert geometry.raw_shape((3, 12, 12, 3)) == (9, 96, 96, 1)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="between 0 and 180 degrees"):
        PointPlanes(near=1, far=2, fovy=180)
    with pytest.raises(ValueError, match="near"):
        PointPlanes(near=2, far=1, fovy=40)
