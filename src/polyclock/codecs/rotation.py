"""Rotations as Euler angles, quaternions, axis-angle vectors, matrices and 6D vectors, and a codec between them.

Conventions. A matrix R (..., 3, 3) turns column vectors: v' = R v. Quaternions are (w, x, y, z), given back with
norm 1 and w >= 0. Axis-angle is the axis times the angle in radians, given back with an angle in [0, pi]. 6D is the
first two ROWS of R, one after the other (Zhou et al. 2019; rows as in PyTorch3D). Euler angles are radians in the
order of the letters: "xyz" turns about the fixed x, then the fixed y, then the fixed z axis (R = Rz Ry Rx, roll
pitch yaw); "XYZ" about the moving axes (R = Rx Ry Rz). All twelve orders of either kind are possible.

A round trip between any two of them, in float32, gives a rotation within 3e-6 rad of the one that went in, also near
no turn, near half a turn and at gimbal lock; the numbers are other ones where several stand for one rotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import unknown
from .codec import FrameByFrame, Shape

WIDTHS = {"euler": 3, "quaternion": 4, "axis_angle": 3, "matrix": 9, "6d": 6}
ORDERS = tuple("".join(o) for o in product("xyz", repeat=3) if o[0] != o[1] != o[2])
ORDERS += tuple(order.upper() for order in ORDERS)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """(..., 4) of any norm but 0 -> (..., 3, 3)."""
    w, x, y, z = _unit(quaternion).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 4)."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # Each row is 4 q_k q; the one with the largest 4 q_k^2 loses no digits.
    candidates = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
        ],
        -2,
    )
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    return _canonical(torch.take_along_dim(candidates, best[..., None, None], -2).squeeze(-2))


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """(..., 3) radians -> (..., 4)."""
    angle = axis_angle.norm(dim=-1, keepdim=True)
    # sin(angle / 2) / angle; torch.sinc is sin(pi u) / (pi u), and 1 at 0.
    vector = axis_angle * torch.sinc(angle / (2 * math.pi)) / 2
    return _canonical(torch.cat([torch.cos(angle / 2), vector], -1))


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """(..., 4) -> (..., 3) radians, of length at most pi."""
    q = _canonical(quaternion)
    w, vector = q[..., :1], q[..., 1:]
    sine = vector.norm(dim=-1, keepdim=True)
    small = sine < 1e-6
    return vector * torch.where(small, 2 / w.clamp_min(0.5), 2 * torch.atan2(sine, w) / sine.masked_fill(small, 1))


def euler_to_matrix(euler: Tensor, order: str = "xyz") -> Tensor:
    """(..., 3) radians -> (..., 3, 3). Errors: ValueError for an unknown order."""
    _check_order(order)
    turns = [_about(axis, euler[..., k]) for k, axis in enumerate(order.lower())]
    first, second, third = turns if order.isupper() else turns[::-1]
    return first @ second @ third


def matrix_to_euler(matrix: Tensor, order: str = "xyz") -> Tensor:
    """(..., 3, 3) -> (..., 3) radians in [-pi, pi]; at gimbal lock one of the many answers.

    Through the quaternion (Bernardes and Viollet 2022), which has no arc sine to lose digits. The second angle is in
    [-pi / 2, pi / 2], or [0, pi] where the first letter is also the last. Errors: ValueError for an unknown order.
    """
    _check_order(order)
    moving = order.isupper()
    i, j, k = ("xyz".index(axis) for axis in (order.lower()[::-1] if moving else order))
    symmetric = i == k
    if symmetric:
        k = 3 - i - j
    sign = (i - j) * (j - k) * (k - i) // 2
    q = matrix_to_quaternion(matrix)
    w, p, r, s = q[..., 0], q[..., 1 + i], q[..., 1 + j], q[..., 1 + k] * sign
    if symmetric:
        a, b, c, d = w, p, r, s
    else:
        a, b, c, d = w - r, p + s, r + w, s - p
    half_sum, half_difference = torch.atan2(b, a), torch.atan2(d, c)
    middle = 2 * torch.atan2(torch.hypot(c, d), torch.hypot(a, b))
    first, last = half_sum - half_difference, half_sum + half_difference
    if not symmetric:
        last, middle = last * sign, middle - math.pi / 2
    angles = torch.stack([last, middle, first] if moving else [first, middle, last], -1)
    return torch.atan2(angles.sin(), angles.cos())


def matrix_to_6d(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 6): the first two rows."""
    return matrix[..., :2, :].flatten(-2)


def matrix_from_6d(vector: Tensor) -> Tensor:
    """(..., 6), any numbers -> (..., 3, 3) by Gram-Schmidt; where the two rows are 0 or parallel, some rotation."""
    a, b = vector[..., :3], vector[..., 3:]
    axes = torch.eye(3, dtype=vector.dtype, device=vector.device)
    length = a.norm(dim=-1, keepdim=True)
    first = torch.where(length <= 1e-8, axes[0], F.normalize(a, dim=-1))  # so written, NaN stays NaN
    # The axis farthest from the first row stands in where the second says nothing new.
    spare = axes[first.abs().argmin(-1)]
    rest = _rejected(b, first)
    lost = rest.norm(dim=-1, keepdim=True) <= 1e-6 * b.norm(dim=-1, keepdim=True).clamp_min(1e-2)
    rest = F.normalize(torch.where(lost, _rejected(spare, first), rest), dim=-1)
    second = F.normalize(_rejected(rest, first), dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -2)


def convert(values: Tensor, source: str, target: str, order: str = "xyz") -> Tensor:
    """(..., width of source) -> (..., width of target); matrices are nine numbers, row by row.

    Errors: ValueError for an unknown name or order, or another width.
    """
    for name in (source, target):
        if name not in WIDTHS:
            raise unknown("rotation", name, WIDTHS)
    if values.shape[-1] != WIDTHS[source]:
        raise ValueError(f"a rotation as {source} has {WIDTHS[source]} numbers, got {values.shape[-1]}")
    if source == "euler":
        matrix = euler_to_matrix(values, order)
    elif source == "quaternion":
        matrix = quaternion_to_matrix(values)
    elif source == "axis_angle":
        matrix = quaternion_to_matrix(axis_angle_to_quaternion(values))
    else:
        # A network's nine numbers are no rotation: their first two rows say which one is meant.
        matrix = matrix_from_6d(values[..., :6])
    if target == "euler":
        return matrix_to_euler(matrix, order)
    if target == "quaternion":
        return matrix_to_quaternion(matrix)
    if target == "axis_angle":
        return quaternion_to_axis_angle(matrix_to_quaternion(matrix))
    return matrix_to_6d(matrix) if target == "6d" else matrix.flatten(-2)


@dataclass(frozen=True, kw_only=True)
class Rotation(FrameByFrame):
    """Some dimensions of a vector from one description of a rotation to another: (B, T, C') <-> (B, T, C).

    source  "euler", "quaternion", "axis_angle", "matrix" or "6d": what the data hold
    target  likewise: what the network sees
    axes    (start, stop) within C', or several of them in rising order (two arms, say), each as wide as the source;
            the other dimensions stay as they are
    order   of Euler angles, "xyz" or another; module docstring

    The inverse gives the same rotation within 3e-6 rad, in the module's standard form: a quaternion that came with
    w < 0 comes back with the opposite sign, angles come back within [-pi, pi].
    """

    source: str = "euler"
    target: str = "6d"
    axes: tuple[int, int] | tuple[tuple[int, int], ...] = (3, 6)
    order: str = "xyz"

    def __post_init__(self) -> None:
        for name in (self.source, self.target):
            if name not in WIDTHS:
                raise unknown("rotation", name, WIDTHS)
        _check_order(self.order)
        object.__setattr__(self, "axes", spans(self.axes))
        for start, stop in self._spans():
            if stop - start != WIDTHS[self.source]:
                raise ValueError(
                    f"axes {start}:{stop} hold {stop - start} numbers; {self.source} has {WIDTHS[self.source]}"
                )

    def _spans(self) -> tuple[tuple[int, int], ...]:
        return self.axes  # type: ignore[return-value]

    def _moved(self) -> list[tuple[int, int]]:
        """Where the target's numbers lie in the latent."""
        grown = WIDTHS[self.target] - WIDTHS[self.source]
        starts = [start + k * grown for k, (start, _) in enumerate(self._spans())]
        return [(start, start + WIDTHS[self.target]) for start in starts]

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, C) -> raw (T, C')."""
        if shape[-1] is None:
            return shape
        if shape[-1] < self._moved()[-1][1]:
            raise ValueError(f"{self} makes at least {self._moved()[-1][1]} dimensions, the shape is {shape}")
        return *shape[:-1], shape[-1] - len(self._spans()) * (WIDTHS[self.target] - WIDTHS[self.source])

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, C') -> (B, T, C) float32. Errors: ValueError where C' is too small for `axes`."""
        return _replaced(raw.float(), list(self._spans()), self.source, self.target, self.order)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C') float32."""
        return _replaced(x.float(), self._moved(), self.target, self.source, self.order)


def spans(axes: Sequence[int] | Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """(start, stop), or a sequence of them -> a tuple of pairs. Errors: ValueError where they do not rise."""
    pairs = [axes] if len(axes) == 2 and all(isinstance(n, int) for n in axes) else list(axes)
    out = tuple((int(p[0]), int(p[1])) for p in pairs if isinstance(p, Sequence) and len(p) == 2)
    flat = [n for pair in out for n in pair]
    rising = all(a < b for a, b in out) and flat == sorted(flat)
    if not out or len(out) != len(pairs) or flat[0] < 0 or not rising:
        raise ValueError(f"axes {axes} must be (start, stop), or several of them in rising order, counted from 0")
    return out


def _replaced(values: Tensor, pairs: list[tuple[int, int]], source: str, target: str, order: str) -> Tensor:
    if values.shape[-1] < pairs[-1][1]:
        raise ValueError(f"axes {pairs} do not fit in values with {values.shape[-1]} dimensions")
    parts, at = [], 0
    for start, stop in pairs:
        parts += [values[..., at:start], convert(values[..., start:stop], source, target, order)]
        at = stop
    return torch.cat([*parts, values[..., at:]], -1)


def _check_order(order: str) -> None:
    if order not in ORDERS:
        raise unknown("order of Euler angles", order, ORDERS)


def _unit(quaternion: Tensor) -> Tensor:
    """Norm 1; the zero quaternion, which a network may give, becomes no turn."""
    norm = quaternion.norm(dim=-1, keepdim=True)
    none = torch.eye(4, dtype=quaternion.dtype, device=quaternion.device)[0]
    return torch.where(norm <= 1e-12, none, quaternion / norm.clamp_min(1e-12))  # so written, NaN stays NaN


def _canonical(quaternion: Tensor) -> Tensor:
    """Norm 1 and w >= 0."""
    q = _unit(quaternion)
    return torch.where(q[..., :1] < 0, -q, q)


def _rejected(vector: Tensor, axis: Tensor) -> Tensor:
    """`vector` (..., 3) less its part along the unit vector `axis`."""
    return vector - (vector * axis).sum(-1, keepdim=True) * axis


def _about(axis: str, angle: Tensor) -> Tensor:
    """(...) radians about x, y or z -> (..., 3, 3)."""
    c, s, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    rows = {
        "x": ((one, zero, zero), (zero, c, -s), (zero, s, c)),
        "y": ((c, zero, s), (zero, one, zero), (-s, zero, c)),
        "z": ((c, -s, zero), (s, c, zero), (zero, zero, one)),
    }[axis]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
