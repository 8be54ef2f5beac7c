"""Do the signals of one film agree: flow with the change of its pictures, depth with their edges and with the flow?

Every function takes raw values (B, T, H, W, C) and returns (B,) float64, or sums (B, k) to be pooled over windows; NaN
stands for a window in which nothing counts. None asks whether the film is the one that happened: a film agrees with
itself or does not. What the same function says of the recording is what can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

EDGES = 0.05  # share of the pixels, those where depth changes most, that count as its edges


@dataclass(frozen=True)
class Step:
    """A flow frame and the frames that it leads from and to, in the clip of another signal."""

    flow: int
    start: int
    end: int


def steps(flow: Sequence[int], spans: int, other: Sequence[int]) -> list[Step]:
    """Data frames of a flow clip (K,), the frames that its flow spans, data frames of another clip (T,) -> its steps.

    A flow frame of which the other clip lacks either end has none.
    """
    places = {due: i for i, due in enumerate(other)}
    return [Step(k, places[a], places[a + spans]) for k, a in enumerate(flow) if a in places and a + spans in places]


def warped(values: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W, C) float at p + flow(p), flow (N, H, W, 2) px -> (N, H, W, C) bilinear, and where that lies inside.

    A pixel's centre is its place; up to half a pixel beyond the outermost centres the edge goes on.
    """
    height, width = values.shape[1:3]
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    x, y = torch.arange(width, dtype=flow.dtype, device=flow.device) + flow[..., 0], rows + flow[..., 1]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    found = grid_sample(values.movedim(-1, 1), grid, padding_mode="border", align_corners=True)
    return found.movedim(1, -1), inside


def flow_and_pictures(
    video: Tensor, flow: Tensor, of: Sequence[Step], counts: Tensor | None = None
) -> dict[str, Tensor]:
    """uint8 (B, T, H, W, 3), flow (B, K, H, W, 2 or 3) px -> {"warp_error": (B,), "warp_explained": (B, 2)}.

    At pixel p of frame t, with flow f: warp_error = mean |x[t + 1](p + f) - x[t](p)| in [0, 1]; warp_explained pools to
    1 - sum (x[t + 1](p + f) - x[t](p))^2 / sum (x[t + 1](p) - x[t](p))^2: 1 where the flow explains all that changes
    from frame to frame, 0 where it explains as much as no flow. Pixels whose flow leaves the picture do not count, nor
    those that `counts` (B, K, H, W) bool leaves out: what is hidden later has no counterpart. What the flow itself
    says of occlusion does not matter, or it could excuse itself.
    """
    if not of:
        return {}
    x = video.double() / 255
    off, changed, n = (torch.zeros(len(x), dtype=torch.float64) for _ in range(3))
    plain = torch.zeros_like(off)
    for step in of:
        now, then = x[:, step.start], x[:, step.end]
        back, inside = warped(then, flow[:, step.flow, ..., :2].double())
        used = (inside if counts is None else inside & counts[:, step.flow])[..., None]
        difference = torch.where(used, back - now, 0.0)
        plain += difference.abs().sum((1, 2, 3))
        off += difference.square().sum((1, 2, 3))
        changed += torch.where(used, then - now, 0.0).square().sum((1, 2, 3))
        n += used.sum((1, 2, 3)) * x.shape[-1]
    sums = torch.stack([off, changed], 1)
    return {"warp_error": plain / n, "warp_explained": torch.where(n[:, None] > 0, sums, torch.nan)}


def flow_and_depth(depth: Tensor, flow: Tensor, of: Sequence[Step], counts: Tensor | None = None) -> Tensor:
    """depth (B, T, H, W, 1) m, 0 unknown; flow (B, K, H, W, 2 or 3) px -> (B,).

    The mean |log d[t + 1](p + f) - log d[t](p)|. A point keeps its depth but for what it moves along the optical axis:
    0.01 is a change by 1 %. Neighbouring pixels of either depth are not mixed: the nearest one is taken. `counts` as in
    `flow_and_pictures`.
    """
    total, n = torch.zeros(len(depth), dtype=torch.float64), torch.zeros(len(depth), dtype=torch.float64)
    for step in of:
        now, then = depth[:, step.start].double(), depth[:, step.end].double()
        whole = _nearest(then, flow[:, step.flow, ..., :2].double())
        used = whole[1] & (now[..., 0] > 0) & (whole[0][..., 0] > 0)
        used = used if counts is None else used & counts[:, step.flow]
        ratio = (whole[0].clamp_min(1e-6).log() - now.clamp_min(1e-6).log())[..., 0].abs()
        total += torch.where(used, ratio, 0.0).sum((1, 2))
        n += used.sum((1, 2))
    return total / n


def _nearest(values: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W, C) at the pixel nearest to p + flow(p), and where that lies inside."""
    _, height, width, channels = values.shape
    x = (torch.arange(width, device=flow.device) + flow[..., 0]).round().long()
    y = (torch.arange(height, device=flow.device)[:, None] + flow[..., 1]).round().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    found = values.flatten(1, 2).gather(1, place.flatten(1)[..., None].expand(-1, -1, channels))
    return found.view_as(values), inside


def depth_and_pictures(depth: Tensor, video: Tensor, counts: Tensor | None = None) -> Tensor:
    """depth (B, T, H, W, 1), 0 unknown, and uint8 (B, T, H, W, 3) of the same frames -> (B,) edge agreement.

    How likely it is that the picture changes more at an edge of the depth than elsewhere: the area under the ROC curve
    of the picture's gradient (of the colour that changes most, the largest within one pixel) for telling the 5 % of
    pixels where log depth changes most from all others; the mean over frames. 1 = every edge of the depth is one of the
    picture, 0.5 = depth and picture have nothing to do with each other, also where depth is flat. It depends on the
    order of depth's changes alone: neither scale nor a blur of the depth moves it much.

    counts (B, T, H, W) bool: only there, and within two pixels of it; frames without any do not count. Where the camera
    stands still the depth of any other moment agrees with most of the picture, and what moves alone tells them apart.
    """
    known = depth[..., 0] > 0
    jumps = _gradient(depth[..., 0].double().clamp_min(1e-6).log(), known)
    colours = video.double().unbind(-1)
    changes = torch.stack([_gradient(colour, torch.ones_like(known)) for colour in colours]).amax(0)
    changes = max_pool2d(changes, 3, stride=1, padding=1)
    near = torch.ones_like(known) if counts is None else max_pool2d(counts.double(), 5, stride=1, padding=2) > 0
    frames = zip(jumps.flatten(0, 1), changes.flatten(0, 1), near.flatten(0, 1), strict=True)
    each = torch.tensor([_area(j[n], c[n]) for j, c, n in frames], dtype=torch.float64)
    return each.view(near.shape[:2]).nanmean(1)


def _gradient(values: Tensor, known: Tensor) -> Tensor:
    """(B, T, H, W), known (B, T, H, W) -> (B, T, H, W): how far neighbours differ, 0 beside what is unknown."""
    v, out = values, torch.zeros_like(values)
    across = (v[..., 1:] - v[..., :-1]).abs() * (known[..., 1:] & known[..., :-1])
    down = (v[..., 1:, :] - v[..., :-1, :]).abs() * (known[..., 1:, :] & known[..., :-1, :])
    for side, part in ((_but(0, 1), across), (_but(1, 0), across)):
        out[..., side] = torch.maximum(out[..., side], part)
    for side, part in ((_but(0, 1), down), (_but(1, 0), down)):
        out[..., side, :] = torch.maximum(out[..., side, :], part)
    return out


def _but(first: int, last: int) -> slice:
    """All but `first` at the beginning and `last` at the end."""
    return slice(first, -last if last else None)


def _area(jumps: Tensor, changes: Tensor) -> float:
    """(n,) twice -> the area under the ROC curve; half where there is no edge at all; NaN of nothing."""
    if not len(jumps):
        return float("nan")
    least = torch.quantile(jumps, 1 - EDGES)
    edges = jumps >= least.clamp_min(1e-9)
    at, elsewhere = changes[edges], changes[~edges].sort().values
    if not len(at) or not len(elsewhere):
        return 0.5
    below = torch.searchsorted(elsewhere, at) + torch.searchsorted(elsewhere, at, right=True)
    return float(below.double().mean()) / (2 * len(elsewhere))


def flicker(video: Tensor, still: Tensor | None = None) -> Tensor:
    """uint8 (B, T, H, W, 3), still (B, T, H, W) bool -> (B,) mean |x[t + 1] - x[t]| in [0, 1] of still pixels.

    still: pixels that truly do not move from frame t to the next; None: all count, and what moves counts as flicker.
    """
    x = video.double() / 255
    change = (x[:, 1:] - x[:, :-1]).abs().mean(-1)
    counts = torch.ones_like(change, dtype=torch.bool) if still is None else still[:, :-1]
    return torch.where(counts, change, 0.0).sum((1, 2, 3)) / counts.sum((1, 2, 3))
