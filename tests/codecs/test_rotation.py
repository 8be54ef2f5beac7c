"""Rotations: known turns fix every convention, round trips in float32 keep the stated bound wherever they start."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from polyclock.codecs import Rotation
from polyclock.codecs.codec import Codec
from polyclock.codecs.rotation import (
    ORDERS,
    WIDTHS,
    axis_angle_to_quaternion,
    convert,
    euler_to_matrix,
    matrix_from_6d,
    matrix_to_euler,
    quaternion_to_matrix,
)

BOUND = 3e-6  # rad, as the module states


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """(..., 9) and (..., 9) -> the angle of the turn from one to the other, exact for small ones."""
    apart = (a.double() - b.double()).norm(dim=-1) / math.sqrt(2)
    return 2 * torch.asin((apart / 2).clamp(max=1))


def turns(where: str, n: int = 2000) -> Tensor:
    """(n, 9) float64 rotations about random axes."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)
    u = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    angle = {
        "anywhere": u * math.pi,
        "near half a turn": math.pi - u * 1e-4,
        "half a turn": torch.full_like(u, math.pi),
        "near none": u * 1e-5,
        "far below float32": torch.full_like(u, 1e-25),
        "none": torch.zeros_like(u),
    }[where]
    return quaternion_to_matrix(axis_angle_to_quaternion(axis * angle)).flatten(-2)


@pytest.mark.parametrize(
    "where", ["anywhere", "near half a turn", "half a turn", "near none", "far below float32", "none"]
)
def test_round_trips_in_float32(where: str) -> None:
    start = turns(where)
    for source, target in product(WIDTHS, WIDTHS):
        for order in ("xyz", "ZYX", "zxz") if "euler" in (source, target) else ("xyz",):
            values = convert(start, "matrix", source, order).float()
            back = convert(convert(values, source, target, order), target, source, order)
            assert back.dtype == torch.float32 and back.isfinite().all()
            apart = angle_between(
                convert(values.double(), source, "matrix", order), convert(back.double(), source, "matrix", order)
            )
            assert apart.max() < BOUND, (source, target, order, float(apart.max()))


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_euler_angles(order: str) -> None:
    generator = torch.Generator().manual_seed(0)
    angles = (torch.rand(500, 3, generator=generator) - 0.5) * 2 * math.pi
    middle_low, middle_high = (0, math.pi) if order[0] == order[2] else (-math.pi / 2, math.pi / 2)
    angles[:, 1] = middle_low + 1e-2 + torch.rand(500, generator=generator) * (middle_high - middle_low - 2e-2)
    back = matrix_to_euler(euler_to_matrix(angles.double(), order), order)
    torch.testing.assert_close(back, angles.double(), atol=1e-9, rtol=0)
    locked = angles.clone()
    locked[::2, 1], locked[1::2, 1] = middle_low, middle_high
    again = euler_to_matrix(matrix_to_euler(euler_to_matrix(locked, order), order), order)
    assert angle_between(euler_to_matrix(locked.double(), order).flatten(-2), again.flatten(-2)).max() < BOUND


def test_conventions_by_known_turns() -> None:
    quarter, s = math.pi / 2, math.sqrt(0.5)
    # A quarter turn about z takes x to y.
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for name, values in {
        "axis_angle": [0, 0, quarter],
        "quaternion": [s, 0, 0, s],
        "euler": [0, 0, quarter],
        "6d": [0, -1, 0, 1, 0, 0],
        "matrix": about_z.flatten().tolist(),
    }.items():
        given = torch.tensor(values, dtype=torch.float32)
        torch.testing.assert_close(convert(given, name, "matrix"), about_z.flatten(), atol=1e-6, rtol=0)
        torch.testing.assert_close(convert(about_z.flatten(), "matrix", name), given, atol=1e-6, rtol=0)
    torch.testing.assert_close(about_z @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    # First x, then z: about fixed axes z stays where it was; about moving ones it was tipped over to -y.
    both = torch.tensor([quarter, 0.0, quarter])
    down = torch.tensor([0.0, 0, 1])
    torch.testing.assert_close(euler_to_matrix(both, "xyz") @ down, torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(euler_to_matrix(both, "XYZ") @ down, torch.tensor([0.0, -1, 0]), atol=1e-6, rtol=0)


def test_standard_forms() -> None:
    q = torch.nn.functional.normalize(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    back = convert(convert(q, "quaternion", "6d"), "6d", "quaternion")
    assert (back[:, 0] >= 0).all()
    torch.testing.assert_close(back, torch.where(q[:, :1] < 0, -q, q), atol=1e-6, rtol=0)
    long = torch.tensor([0.0, 0.0, 1.5 * math.pi])
    short = convert(long, "axis_angle", "quaternion")
    torch.testing.assert_close(convert(short, "quaternion", "axis_angle"), torch.tensor([0, 0, -math.pi / 2]))


def test_whatever_a_network_says_is_a_rotation() -> None:
    cases = torch.tensor(
        [
            [0.0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 2, 0],
            [1, 2, 3, 2, 4, 6],
            [1, 0, 0, 1, 1e-9, 0],
            [3, 1, 0, 3, 1.001, 0],
            [1e-6, 0, 0, 0, 1e6, 1],
        ]
    )
    generator = torch.Generator().manual_seed(0)
    matrix = matrix_from_6d(torch.cat([cases, torch.randn(100, 6, generator=generator)]))
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(107, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix.det(), torch.ones(107), atol=1e-5, rtol=0)
    assert torch.equal(convert(torch.zeros(4), "quaternion", "matrix"), torch.eye(3).flatten())


def test_nan_is_not_hidden() -> None:
    for source, target in product(WIDTHS, WIDTHS):
        values = convert(torch.eye(3).flatten(), "matrix", source)
        values[0] = torch.nan
        assert convert(values, source, target).isnan().any(), (source, target)


@pytest.mark.parametrize("target", list(WIDTHS))
def test_codec_converts_the_named_dimensions(target: str) -> None:
    codec = Rotation(source="euler", target=target, axes=((3, 6), (10, 13)))
    raw = torch.randn(2, 5, 14, generator=torch.Generator().manual_seed(0)).clamp(-1.5, 1.5)
    x = codec.encode(raw)
    width = WIDTHS[target]
    assert isinstance(codec, Codec) and x.shape == (2, 5, 14 + 2 * (width - 3))
    assert codec.raw_shape((5, x.shape[-1])) == (5, 14) and codec.raw_shape((5, None)) == (5, None)
    assert torch.equal(x[..., :3], raw[..., :3]) and torch.equal(x[..., -1], raw[..., -1])
    assert torch.equal(x[..., 3 + width : 7 + width], raw[..., 6:10])
    torch.testing.assert_close(x[..., 3 : 3 + width], convert(raw[..., 3:6], "euler", target))
    torch.testing.assert_close(codec.decode(x), raw, atol=2e-5, rtol=0)


def test_codec_is_a_value_also_from_plain_data() -> None:
    assert Rotation(axes=[3, 6]) == Rotation() and hash(Rotation(axes=[[0, 3], [3, 6]]))
    assert Rotation().encode(torch.zeros(0, 4, 7)).shape == (0, 4, 10)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown rotation 'quaternions'. Did you mean 'quaternion'"):
        Rotation(source="quaternions", axes=(0, 4))
    with pytest.raises(ValueError, match="unknown order of Euler angles"):
        Rotation(order="xYz")
    with pytest.raises(ValueError, match="hold 3 numbers; quaternion has 4"):
        Rotation(source="quaternion", axes=(0, 3))
    for axes in ((6, 3), ((3, 6), (0, 3)), (), ((3, 6), (5, 8)), (-3, 0)):
        with pytest.raises(ValueError, match="rising order"):
            Rotation(axes=axes)
    with pytest.raises(ValueError, match="do not fit in values with 5"):
        Rotation().encode(torch.zeros(1, 1, 5))
    with pytest.raises(ValueError, match="at least 9 dimensions"):
        Rotation().raw_shape((4, 7))
    with pytest.raises(ValueError, match="has 6 numbers, got 5"):
        convert(torch.zeros(5), "6d", "matrix")
