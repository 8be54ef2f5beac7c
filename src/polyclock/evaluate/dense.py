"""Errors of dense predictions on raw values: depth, flow, segmentation, skeleton, surface; one number per sample.

Every function takes raw values as a data set gives them, (B, T, ...), prediction first. It returns (B,) float64 pooled
over the pixels or joints of a sample's whole clip; NaN stands for a sample in which nothing counts. All refuse
predictions that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import unknown

Alignment = Literal["none", "scale", "scale and shift", "inverse"]
ALIGNMENTS = ("none", "scale", "scale and shift", "inverse")
DELTA = 1.25
MOVING = 0.5  # px: what moves less counts as still
OUTLIER = (3.0, 0.05)  # px, and of the true length: flow that is off by more than both is wrong (KITTI 2015)
NEAR = 0.1  # of the larger side of a figure's box: within that a joint is found


def depth_errors(
    predicted: Tensor,
    true: Tensor,
    align: Alignment = "none",
    framewise: bool = False,
) -> dict[str, Tensor]:
    """Depth (B, T, H, W, 1), 0 = unknown, -> {"absrel", "rmse", "delta"}, each (B,) float64.

    Over all pixels whose true depth d is known, with prediction p: absrel = mean |p - d| / d; rmse = root of the mean
    (p - d)^2, in m; delta = share of pixels with max(p / d, d / p) < 1.25. A pixel that is known and predicted as
    unknown counts as p = 0: absrel 1 and outside delta.

    align      what is fitted by least squares, once for each sample's whole clip, before the errors are taken: "none";
               "scale" s p to d; "scale and shift" s p + o to d; "inverse" s / p + o to 1 / d, kept above half of the
               least true 1 / d, then inverted. Pixels predicted as unknown take no part in the fit. What a codec
               decodes from a per-clip range is relative: with "none" it has no meaning, and where the codec's scale is
               inverse it needs "inverse"
    framewise  fit each frame by itself, as a per-frame range needs it; the errors are still those of the whole clip
    """
    if align not in ALIGNMENTS:
        raise unknown("alignment", align, ALIGNMENTS)
    p, d = _pair("depth", predicted, true, 5, 1)
    p, d = p[..., 0].flatten(1), torch.nan_to_num(d[..., 0].flatten(1), posinf=0.0)
    known = d > 0
    told = known & (p > 0)
    rows = (p.shape[0] * predicted.shape[1], -1) if framewise and p.numel() else p.shape
    fitted = _aligned(p.reshape(rows), d.reshape(rows), told.reshape(rows), align).reshape(p.shape)
    p = torch.where(told, fitted, torch.zeros_like(p))
    off = (p - d).abs()
    ratio = torch.maximum(p / d, d / p.clamp_min(1e-12))
    return {
        "absrel": _mean(off / d, known),
        "rmse": _mean(off.square(), known).sqrt(),
        "delta": _mean((ratio < DELTA).double(), known),
    }


def flow_errors(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Flow (B, T, H, W, 3) = u, v px, occluded 0 / 1 -> {"epe", "epe_moving", "fl"}, each (B,) float64.

    epe = mean length of the difference in px; epe_moving = the same over pixels whose true flow is longer than
    0.5 px; fl = share of pixels whose error is above 3 px and above 5 % of the true length (KITTI 2015). Pixels that
    the truth calls occluded do not count; what the prediction says about occlusion does not matter.
    """
    p, d = _pair("flow", predicted, true, 5, 3)
    counts = d[..., 2] <= 0.5
    length = d[..., :2].norm(dim=-1)
    off = (p[..., :2] - d[..., :2]).norm(dim=-1)
    wrong = (off > OUTLIER[0]) & (off > OUTLIER[1] * length)
    return {
        "epe": _mean(off, counts),
        "epe_moving": _mean(off, counts & (length > MOVING)),
        "fl": _mean(wrong.double(), counts),
    }


def class_counts(predicted: Tensor, true: Tensor, classes: int | Sequence[int]) -> Tensor:
    """Segmentation (B, T, H, W, 2) = instance, class -> (B, 2 classes) float64: pixels of intersection, then of union.

    `classes` are the class ids that are asked about, or their number: 0 .. classes - 1. A pixel of any other id
    belongs to none of them. Of the sum over all samples `kinds.iou_of` makes the mean IoU.
    """
    p, d = (v[..., 1].flatten(1) for v in _pair("segmentation", predicted, true, 5, 2))
    numbers = range(classes) if isinstance(classes, int) else classes
    if not len(numbers):
        raise ValueError(f"classes={classes}: at least one class is needed")
    both = [((p == number) & (d == number)).sum(1) for number in numbers]
    either = [((p == number) | (d == number)).sum(1) for number in numbers]
    return torch.stack(both + either, 1).double()


def keypoint_errors(predicted: Tensor, true: Tensor, joints: int | None = None) -> dict[str, Tensor]:
    """Skeletons (B, T, K, 3) = x, y px, visibility -> {"pck", "joint_error"}, each (B,) float64.

    pck = share of the truly visible joints (visibility > 0) whose prediction is visible too and lies within 0.1 times
    the larger side of the bounding box of the figure's truly visible joints in that frame; a figure with fewer than two
    of them, or all in one place, is left out. joint_error = mean distance in px over truly visible joints that the
    prediction has.

    joints: of one figure, where K holds several figures one after the other; None: all K are one figure.
    """
    p, d = _pair("skeleton", predicted, true, 4, 3)
    figure = joints or d.shape[2]
    if d.shape[2] % figure:
        raise ValueError(f"joints={joints} does not divide the {d.shape[2]} points of the skeleton")
    p, d = (v.unflatten(2, (-1, figure)) for v in (p, d))
    seen, told = d[..., 2] > 0, p[..., 2] > 0
    off = (p[..., :2] - d[..., :2]).norm(dim=-1)
    far = torch.where(seen[..., None], d[..., :2], -torch.inf).amax(-2)
    near = torch.where(seen[..., None], d[..., :2], torch.inf).amin(-2)
    length = (far - near).amax(-1, keepdim=True).clamp_min(0)
    return {
        "pck": _mean((told & (off <= NEAR * length)).double(), seen & (length > 0)),
        "joint_error": _mean(off, seen & told),
    }


def surface_errors(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Surface maps (B, T, H, W, 3) = part, u, v -> {"part_accuracy", "part_agreement", "uv_error"}, each (B,) float64.

    part_accuracy = share right of the pixels that truly have a part (part > 0); part_agreement = share right of the
    pixels where truth or prediction has a part, so that painting beyond the figure costs too; uv_error = mean
    distance of (u, v) over the pixels whose part is right. u and v are taken as they are: 0 and 1 are far apart.
    """
    p, d = _pair("surface", predicted, true, 5, 3)
    right, real = p[..., 0].round() == d[..., 0].round(), d[..., 0] > 0.5
    off = (p[..., 1:] - d[..., 1:]).norm(dim=-1)
    return {
        "part_accuracy": _mean(right.double(), real),
        "part_agreement": _mean(right.double(), real | (p[..., 0] > 0.5)),
        "uv_error": _mean(off, real & right),
    }


def _aligned(p: Tensor, d: Tensor, told: Tensor, align: Alignment) -> Tensor:
    """(B, n) predictions with least squares scale, and shift, towards d over the pixels `told`."""
    if align == "none":
        return p
    p = torch.where(told, p, torch.zeros_like(p))
    if align == "inverse":
        p = torch.where(told, 1 / p, torch.zeros_like(p))
        goal = torch.where(told, 1 / d, torch.full_like(d, torch.inf))
        least = torch.where(told.any(1, keepdim=True), goal.amin(1, keepdim=True), torch.ones_like(goal[:, :1]))
        return 1 / torch.maximum(_line(p, goal, told), least / 2)
    if align == "scale":
        d = torch.where(told, d, torch.zeros_like(d))
        return p * ((p * d).sum(1) / p.square().sum(1).clamp_min(1e-30))[:, None]
    return _line(p, d, told)


def _line(p: Tensor, goal: Tensor, told: Tensor) -> Tensor:
    """(B, n) least squares s p + o towards `goal` over `told`; p is 0 elsewhere. What is flat is only shifted."""
    goal = torch.where(told, goal, torch.zeros_like(goal))
    n = told.sum(1, keepdim=True).clamp_min(1)
    middle, aim = p.sum(1, keepdim=True) / n, goal.sum(1, keepdim=True) / n
    away = torch.where(told, p - middle, torch.zeros_like(p))
    spread = away.square().sum(1, keepdim=True)
    flat = spread <= 1e-12 * n * middle.square()
    scale = torch.where(flat, torch.zeros_like(spread), (away * goal).sum(1, keepdim=True) / spread.clamp_min(1e-30))
    return (p - middle) * scale + aim


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """(B, ...) -> (B,) float64 mean of `values` where `counts`; NaN where nothing counts."""
    values, counts = values.flatten(1), counts.flatten(1)
    return torch.where(counts, values, torch.zeros_like(values)).sum(1) / counts.sum(1).double()


def _pair(kind: str, predicted: Tensor, true: Tensor, ndim: int, channels: int) -> tuple[Tensor, Tensor]:
    """Both as float64. Errors: ValueError for other shapes, or a prediction that is not finite."""
    for name, value in (("predicted", predicted), ("true", true)):
        if value.ndim != ndim or value.shape[-1] != channels:
            rest = "K" if ndim == 4 else "H, W"
            raise ValueError(f"{name} {kind} has shape {tuple(value.shape)}; needed: (B, T, {rest}, {channels})")
    if predicted.shape != true.shape:
        raise ValueError(f"predicted {kind} has shape {tuple(predicted.shape)}, the true one {tuple(true.shape)}")
    bad = (~torch.isfinite(predicted)).flatten(1).any(1).nonzero()
    if len(bad):
        raise ValueError(f"predicted {kind} of sample {int(bad[0])} holds a number that is not finite")
    return predicted.double(), true.double()
