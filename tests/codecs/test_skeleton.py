"""Drawn skeletons: keypoint errors of every round trip, clean and worn; what is absent comes back absent."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import pytest
import torch
from scenes import worn
from torch import Tensor

from polyclock.codecs import SkeletonPicture, coco_skeleton
from polyclock.codecs.colours import OPENPOSE
from polyclock.evaluate.dense import keypoint_errors

# A standing figure of height 1: x to the side, y up from the feet, in COCO's order; and how much each joint moves.
STANDING = [
    *((0, 0.88), (0.03, 0.91), (-0.03, 0.91), (0.06, 0.9), (-0.06, 0.9), (0.16, 0.73), (-0.16, 0.73)),
    *((0.22, 0.5), (-0.22, 0.5), (0.24, 0.28), (-0.24, 0.28), (0.09, 0.4), (-0.09, 0.4), (0.1, 0.2), (-0.1, 0.2)),
    *((0.1, 0), (-0.1, 0)),
]
MOVES = [0.01] * 5 + [0.02] * 2 + [0.1] * 4 + [0.02] * 2 + [0.06] * 4
BLURRED = ("blur", "both")
BODY = slice(5, 17)  # without the five points of the face, which lie 2 px apart at 64 px


def people(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 1, 17, 3): figures 70 % as high as the picture."""
    dice = torch.Generator().manual_seed(seed)
    height = 0.7 * side
    points = torch.tensor(STANDING) * torch.tensor([1.0, -1.0])
    points = points + torch.randn(count, 17, 2, generator=dice) * torch.tensor(MOVES)[:, None]
    feet = torch.rand(count, 1, 2, generator=dice) * torch.tensor([side - 0.5 * height, 0.1 * side])
    points = points * height + feet + torch.tensor([0.25 * height, 0.85 * side])
    return torch.cat([points, torch.ones(count, 17, 1)], -1)[:, None]


def arms(count: int, side: int) -> Tensor:
    """(count, 1, 11, 3): chains of joints about 4 px apart, a fifth of them hidden."""
    dice = torch.Generator().manual_seed(0)
    steps = torch.randn(count, 11, 2, generator=dice) * 4 + 2
    place = (torch.rand(count, 1, 2, generator=dice) * 10 + 4 + steps.cumsum(1)).clamp(1, side - 1)
    seen = (torch.rand(count, 11, 1, generator=dice) > 0.2).float()
    return torch.cat([place, seen], -1)[:, None]


def found(codec: SkeletonPicture, true: Tensor, joints: slice = slice(None)) -> dict[str, tuple[float, float]]:
    """PCK@0.1 of the figure's box and mean error in px, for each wear."""
    out = {}
    for wear, x in worn(codec.encode(true)).items():
        back = codec.decode(x)
        assert back.shape == true.shape and back.dtype == torch.float32
        errors = keypoint_errors(back[:, :, joints], true[:, :, joints])
        out[wear] = (float(errors["pck"].nanmean()), float(errors["joint_error"].nanmean()))
    return out


# Side of the map, joints, and (PCK, error in px): clean, in 8 bits, with noise of 0.05, blurred over 3 x 3, both.
BOUNDS = [
    (64, BODY, ((0.98, 0.25), (0.98, 0.25), (0.98, 0.25), (0.94, 0.45), (0.93, 0.45))),
    (64, slice(None), ((0.98, 0.3), (0.98, 0.3), (0.98, 0.3), (0.86, 0.6), (0.84, 0.6))),
    (128, slice(None), ((0.985, 0.2), (0.985, 0.2), (0.985, 0.2), (0.95, 0.4), (0.94, 0.4))),
]


@pytest.mark.parametrize(("side", "joints", "bounds"), BOUNDS)
def test_people(side: int, joints: slice, bounds) -> None:
    results = found(coco_skeleton((side, side)), people(12 if side > 64 else 24, side), joints)
    for (wear, (pck, error)), (least, most) in zip(results.items(), bounds, strict=True):
        assert pck >= least and error <= most, (wear, pck, error)


def test_two_people() -> None:
    codec = coco_skeleton((128, 128), figures=2)
    both = torch.cat([people(6, 128), people(6, 128, 1)], 2)
    results = found(codec, both)
    assert min(results[w][0] for w in ("clean", "8 bits", "noise")) >= 0.97
    assert min(results[w][0] for w in ("blur", "both")) >= 0.85
    assert max(error for _, error in results.values()) <= 0.6


def test_an_arm_with_hidden_joints() -> None:
    codec = SkeletonPicture(size=(64, 64), joints=11, limbs=tuple((i, i + 1) for i in range(10)))
    true = arms(60, 64)
    for wear, x in worn(codec.encode(true)).items():
        back = codec.decode(x)
        shown, told = true[..., 2] > 0, back[..., 2] > 0
        assert not back[~told].any()
        assert float(told[shown].float().mean()) >= (0.88 if wear in BLURRED else 0.97), wear
        assert float(told[~shown].float().mean()) <= (0.08 if wear in BLURRED else 0.01), wear
    for wear, (pck, error) in found(codec, true).items():
        assert pck >= (0.88 if wear in BLURRED else 0.97) and error <= 0.5, (wear, pck, error)


def test_a_lone_joint_is_exact() -> None:
    codec = SkeletonPicture(size=(32, 32), joints=1)
    place = torch.rand(200, 1, 1, 2, generator=torch.Generator().manual_seed(0)) * 22 + 5
    true = torch.cat([place, torch.ones(200, 1, 1, 1)], -1)
    off = (codec.decode(codec.encode(true)) - true)[..., :2].norm(dim=-1)
    assert float(off.mean()) < 0.1 and float(off.max()) < 0.25


def test_joints_at_the_border_and_beyond() -> None:
    codec = SkeletonPicture(size=(32, 32), joints=4)
    true = torch.tensor([[0.0, 16, 1], [16, 31.9, 1], [-9, 16, 1], [40, 40, 1]])[None, None]
    back = codec.decode(codec.encode(true))[0, 0]
    assert back[:, 2].tolist() == [1, 1, 0, 0] and not back[2:].any()
    assert float((back - true[0, 0])[:2, :2].norm(dim=-1).max()) < 1.2


def test_nobody() -> None:
    codec = coco_skeleton((48, 48))
    for points in (torch.zeros(1, 2, 17, 3), torch.full((1, 2, 17, 3), float("nan"))):
        picture = codec.encode(points)
        assert bool((picture == -1).all())
        for x in worn(picture).values():
            assert not codec.decode(x).any()


def test_coordinates_are_those_of_the_frame() -> None:
    codec = coco_skeleton((64, 64), frame=(480, 640))
    true = people(5, 64) * torch.tensor([10.0, 7.5, 1.0])
    errors = keypoint_errors(codec.decode(codec.encode(true))[:, :, BODY], true[:, :, BODY])
    assert (
        float(errors["joint_error"].max()) < 4 and float(errors["pck"].min()) > 0.9
    )  # px of a frame ten times as wide
    with pytest.raises(ValueError, match=r"not \(1, 1, 48, 64, 3\)"):
        codec.decode(torch.zeros(1, 1, 48, 64, 3))


def test_the_drawing_is_the_published_one() -> None:
    """Red nose, blue hips and knees, limbs of 60 %, the neck between the shoulders; nothing elsewhere."""
    codec = replace(coco_skeleton((128, 128)), width=1.5)
    true = people(1, 128)
    picture = (codec.encode(true)[0, 0] + 1) * 127.5
    at = lambda p: picture[int(p[1]), int(p[0])].round().int().tolist()  # noqa: E731
    wrist, ankle = true[0, 0, 9], true[0, 0, 16]
    assert at(wrist) == list(OPENPOSE[7]) and at(ankle) == list(OPENPOSE[10])
    elbow = true[0, 0, 7]
    assert at((elbow + wrist) / 2) == [round(0.6 * v) for v in OPENPOSE[5]]
    neck, hip = true[0, 0, 5:7].mean(0), true[0, 0, 11]
    assert at((neck + hip) / 2) == [round(0.6 * v) for v in OPENPOSE[9]]
    assert float((picture.sum(-1) > 0).float().mean()) < 0.2


def test_joints_that_touch_are_all_drawn() -> None:
    codec = SkeletonPicture(size=(32, 32), joints=3)
    for apart, most in ((2.0, 0.6), (1.0, 1.3), (0.0, 2.2)):
        true = torch.tensor([[16 - apart, 16, 1], [16, 16, 1], [16 + apart, 16, 1]])[None, None]
        back = codec.decode(codec.encode(true))
        assert bool((back[..., 2] == 1).all()), apart
        assert float((back - true)[..., :2].norm(dim=-1).max()) < most, apart


def test_decoding_is_fast() -> None:
    codec = coco_skeleton((128, 128))
    x = codec.encode(people(12, 128)).reshape(4, 3, 128, 128, 3)
    seconds = []
    for _ in range(3):
        start = process_time()
        codec.decode(x)
        seconds.append(process_time() - start)
    assert min(seconds) < 0.3


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="needed: at least 1 joint, a map of 8 px"):
        SkeletonPicture(size=(4, 4), joints=3)
    with pytest.raises(ValueError, match="37 joints have no automatic colours that differ; possible: up to 36"):
        SkeletonPicture(size=(32, 32), joints=37)
    with pytest.raises(ValueError, match="2 colours for 3 joints"):
        SkeletonPicture(size=(32, 32), joints=3, colours=((255, 0, 0), (0, 255, 0)))
    with pytest.raises(ValueError, match="two joints have the same colour"):
        SkeletonPicture(size=(32, 32), joints=2, colours=((255, 0, 0), (255, 0, 0)))
    with pytest.raises(ValueError, match=r"limb \(0, 3\) must join two ends with joints of 0 to 2"):
        SkeletonPicture(size=(32, 32), joints=3, limbs=((0, 3),))
    with pytest.raises(ValueError, match="1 colours for 2 limbs"):
        SkeletonPicture(size=(32, 32), joints=3, limbs=((0, 1), (1, 2)), limb_colours=((9, 9, 9),))
    with pytest.raises(ValueError, match=r"needed: \(B, T, 3, 3\)"):
        SkeletonPicture(size=(32, 32), joints=3).encode(torch.zeros(1, 1, 4, 3))
    with pytest.raises(ValueError, match=r"drawn as \(T, 32, 32, 3\)"):
        SkeletonPicture(size=(32, 32), joints=3).raw_shape((1, 16, 16, 3))
    with pytest.raises(ValueError, match="figures=3; possible: 1 or 2"):
        coco_skeleton((32, 32), figures=3)
