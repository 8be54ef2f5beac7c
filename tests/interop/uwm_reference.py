"""The authors' Unified World Model written out as formulas on a dict of weights: what the golden numbers mean.

Shapes: B samples, V views, T frames, A action dimensions, h action steps, E numbers of a picture's feature. Weights go
by their names. Nothing here is fast or general; it says in the fewest lines what ours must compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from polyclock.path import Discrete
from uwm_weights import Sizes

Weights = Mapping[str, Tensor]
Draw = Callable[..., Tensor]  # (kind, shape, low, high) -> the next random draw

PATH = Discrete(steps=100, spacing="leading", predict="noise", clip=1.0)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# ---------------------------------------------------------------- pictures


def resized(raw: Tensor, sizes: Sizes) -> Tensor:
    """uint8 (n, H, W, 3) -> (n, 3, *resize) in [0, 1]."""
    images = raw.movedim(-1, 1).float() / 255
    if tuple(images.shape[-2:]) == sizes.resize:
        return images
    return F.interpolate(images, sizes.resize, mode="bilinear", align_corners=False, antialias=True)


def blend(a: Tensor, b: Tensor | float, share: float) -> Tensor:
    return (share * a + (1 - share) * b).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W)."""
    return (images * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def turned(images: Tensor, by: float) -> Tensor:
    """Hue moved by `by` of a turn: to hue, saturation, value and back.

    In the order of operations of the textbook, so that pictures agree to the bit: the eye's gradients jump where they
    do not, at every kink that a rounding crosses.
    """
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    flat = value == low
    chroma = torch.where(flat, 1.0, value - low)
    saturation = (value - low) / torch.where(flat, 1.0, value)
    far = [(value - c) / chroma for c in (red, green, blue)]  # how far each colour is below the greatest
    sixth = torch.where(value == green, 2.0 + far[0] - far[2], 4.0 + far[1] - far[0])
    sixth = torch.where(value == red, far[2] - far[1], sixth)
    hue = (torch.fmod(sixth / 6.0 + 1.0, 1.0) + by) % 1.0
    sector = torch.floor(6.0 * hue)
    rest = 6.0 * hue - sector
    down, falling, rising = (
        (value * (1.0 - part)).clamp(0, 1) for part in (saturation, saturation * rest, saturation * (1.0 - rest))
    )
    out = []
    for ways in (
        (value, falling, down, down, rising, value),
        (rising, value, value, falling, down, down),
        (down, down, rising, value, value, falling),
    ):
        out.append(torch.stack(ways, 1).gather(1, (sector.long() % 6)[:, None])[:, 0])
    return torch.stack(out, 1)


def jittered(images: Tensor, draw: Draw) -> Tensor:
    """Brightness, contrast, saturation and hue, in a drawn order; contrast is around each picture's own mean grey."""
    order = draw("randperm", (1,), 0, 4).tolist()
    bright, contrast, colour = (float(draw("uniform_", (1,), 0.8, 1.2)) for _ in range(3))
    hue = float(draw("uniform_", (1,), -0.2, 0.2))
    steps: list[Callable[[Tensor], Tensor]] = [
        lambda x: blend(x, 0.0, bright),
        lambda x: blend(x, grey(x).mean((1, 2, 3), keepdim=True), contrast),
        lambda x: blend(x, grey(x), colour),
        lambda x: turned(x, hue),
    ]
    for i in order:
        images = steps[i](images)
    return images


def transformed(raw: list[Mapping[str, Tensor]], sizes: Sizes, draw: Draw | None) -> list[Tensor]:
    """Observations, each view -> uint8 (B, T, H, W, 3), to (B, V, T, 3, *crop) each; one draw a view for all of them.

    draw None: evaluation, the centre and no jitter.
    """
    height, width = sizes.crop
    free = (sizes.resize[0] - height, sizes.resize[1] - width)
    views = []
    for view in sizes.views:
        pictures = torch.cat([one[view] for one in raw])
        images = resized(pictures.flatten(0, 1), sizes)
        i, j = (round(n / 2) for n in free)
        if draw is not None and any(free):
            i, j = (int(draw("randint", (1,), 0, n + 1)) for n in free)
        images = images[..., i : i + height, j : j + width]
        if draw is not None:
            images = jittered(images, draw)
        views.append(images.unflatten(0, pictures.shape[:2]))
    return list(torch.stack(views, 1).chunk(len(raw)))


# ---------------------------------------------------------------- the eye


def eye(weights: Weights, images: Tensor) -> Tensor:
    """(B, V, T, 3, H, W) in [0, 1] -> (B, V T E): ResNet-18 whose group norms have 16 channels a group."""
    at = "obs_encoder.img_encoder.model."

    def norm(x: Tensor, name: str) -> Tensor:
        return F.group_norm(x, x.shape[1] // 16, weights[f"{at}{name}.weight"], weights[f"{at}{name}.bias"], 1e-5)

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, weights[f"{at}{name}.weight"], None, stride, padding)

    x = images.flatten(0, 2)
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]
    x = F.max_pool2d(norm(conv(x, "conv1", 2, 3), "bn1").relu(), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            y = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").relu()
            y = norm(conv(y, f"{name}.conv2"), f"{name}.bn2")
            if stride > 1:
                x = norm(conv(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            x = (x + y).relu()
    x = linear(weights, f"{at}fc", x.mean((2, 3)))
    return x.unflatten(0, images.shape[:3]).flatten(1)


def features(
    weights: Weights, images: Tensor, now: Mapping[str, Tensor], sizes: Sizes, sentence: Tensor | None
) -> Tensor:
    """(B, V T E | state T D | sentence E): what the observation becomes."""
    parts = [eye(weights, images)]
    if sizes.low_dim:
        parts.append(torch.cat([now[n] for n in sorted(sizes.low_dim)], -1).flatten(1))
    if sentence is not None:
        parts.append(linear(weights, "obs_encoder.text_encoder.head", sentence))
    return torch.cat(parts, -1)


# ---------------------------------------------------------------- the network


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def mlp(weights: Weights, name: str, x: Tensor) -> Tensor:
    return linear(weights, f"{name}.2", F.mish(linear(weights, f"{name}.0", x)))


def sinusoid(t: Tensor, size: int) -> Tensor:
    """(B,) whole numbers -> (B, size): sines, then cosines, of size / 2 frequencies from 1 to 1 / 10000 inclusive."""
    frequency = torch.exp(torch.arange(size // 2) * (-math.log(10000) / (size // 2 - 1)))
    angle = t[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def network(
    weights: Weights, sizes: Sizes, seen: Tensor, action: Tensor, t_action: Tensor, video: Tensor, t_video: Tensor
) -> tuple[Tensor, Tensor]:
    """seen (B, condition), action (B, h, A), video (B, V, 4, T, h, w), times (B,) -> the two noise estimates."""
    at = "noise_pred_net."
    batch, views = video.shape[:2]
    patch = weights[f"{at}obs_patchifier.patch_encoder.weight"]
    tokens = F.conv3d(video.flatten(0, 1), patch, weights[f"{at}obs_patchifier.patch_encoder.bias"], sizes.patch)
    grid = tokens.shape[2:]
    tokens = tokens.flatten(2).movedim(1, 2).unflatten(0, (batch, views)).flatten(1, 2)
    h = torch.cat(
        [mlp(weights, f"{at}action_encoder", action), tokens, weights[f"{at}registers"].expand(batch, -1, -1)], 1
    )
    h = h + weights[f"{at}pos_embed"]
    times = torch.cat([sinusoid(t_action, sizes.time), sinusoid(t_video, sizes.time)], -1)
    c = F.silu(torch.cat([seen, mlp(weights, f"{at}timestep_embedding.proj", times)], -1))

    def norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift

    for i in range(sizes.depth):
        name = f"{at}blocks.{i}"
        six = linear(weights, f"{name}.adaLN_modulation.1", c)[:, None].chunk(6, -1)
        q, k, v = (
            linear(weights, f"{name}.attn.qkv", norm(h, six[0], six[1])).unflatten(-1, (3, sizes.heads, -1)).unbind(2)
        )
        seen_by = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        h = h + six[2] * linear(weights, f"{name}.attn.proj", seen_by.transpose(1, 2).flatten(2))
        y = F.gelu(linear(weights, f"{name}.mlp.fc1", norm(h, six[3], six[4])))
        h = h + six[5] * linear(weights, f"{name}.mlp.fc2", y)
    two = linear(weights, f"{at}head.adaLN_modulation.1", c)[:, None].chunk(2, -1)
    h = linear(weights, f"{at}head.linear", norm(h, *two))

    count = math.prod(grid)
    noise_action = mlp(weights, f"{at}action_decoder", h[:, : sizes.horizon])
    tokens = h[:, sizes.horizon : sizes.horizon + views * count]
    out = linear(weights, f"{at}obs_patchifier.patch_decoder", tokens).unflatten(1, (views, *grid))
    out = out.unflatten(-1, (4, *sizes.patch))  # (B, V, gt, gh, gw, 4, pt, ph, pw)
    out = out.permute(0, 1, 5, 2, 6, 3, 7, 4, 8).reshape(video.shape)
    return noise_action, out


# ---------------------------------------------------------------- learning and sampling


def time_of(place: Tensor) -> Tensor:
    """Place of the table, 0 .. 99 -> our time."""
    return (place + 1) / PATH.steps


def losses(
    weights: Weights, sizes: Sizes, seen: Tensor, latents: Tensor, action: Tensor, has: Tensor | None, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Action's and video's, each the mean over everything; an absent action is learnt at the table's last place."""
    noise_action = draw("randn_like", tuple(action.shape))
    t_action = draw("randint", (sizes.batch,), 0, PATH.steps)
    if has is not None:
        t_action = torch.where(has, t_action, PATH.steps - 1)
    noise_video = draw("randn_like", tuple(latents.shape))
    t_video = draw("randint", (sizes.batch,), 0, PATH.steps)
    out = network(
        weights,
        sizes,
        seen,
        PATH.noise(action, noise_action, time_of(t_action)[:, None, None]),
        t_action,
        PATH.noise(latents, noise_video, time_of(t_video).view(-1, 1, 1, 1, 1, 1)),
        t_video,
    )
    return F.mse_loss(out[0], noise_action), F.mse_loss(out[1], noise_video)


def sampled(
    weights: Weights, sizes: Sizes, seen: Tensor, action: Tensor, video: Tensor, moving: str, still: int
) -> tuple[Tensor, Tensor]:
    """Ten DDIM steps of "action", "video" or both; what does not move is told to stand at place `still`."""
    rows = PATH.rows(10)
    for t, u in zip(rows[:-1], rows[1:], strict=True):
        place = (PATH.stamp(t) * PATH.steps).round().long()
        told = {n: (place if n in moving else torch.tensor(still)).expand(sizes.batch) for n in ("action", "video")}
        out = network(weights, sizes, seen, action, told["action"], video, told["video"])
        if "action" in moving:
            action = PATH.move(out[0], action, t, u)
        if "video" in moving:
            video = PATH.move(out[1], video, t, u)
    return action, video
