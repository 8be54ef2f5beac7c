"""The numbers that the golden run of the Unified World Models code was fed with: functions of a name and a shape.

Weights, pictures and noise come from a hash of their name and place (splitmix64), so none of them is stored and they
are the same to the bit on any machine and with any version of torch or numpy. `tools/make_uwm_golden.py` feeds them to
the authors' code; the tests feed them to ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One model of theirs: what its config says. `low_dim` maps a name to a width; `vae` are its block widths."""

    views: tuple[str, ...]
    action: int
    registers: int
    raw: tuple[int, int]
    resize: tuple[int, int]
    crop: tuple[int, int]
    batch: int
    embed: int = 768
    depth: int = 12
    heads: int = 12
    time: int = 512
    horizon: int = 16
    frames: int = 2
    patch: tuple[int, int, int] = (2, 4, 4)
    vae: tuple[int, ...] = (128, 256, 512, 512)
    low_dim: Mapping[str, int] = field(default_factory=dict)
    language: bool = False

    @property
    def latent(self) -> tuple[int, int, int, int, int]:
        """(V, C, T, h, w) of the future pictures' latents."""
        shrink = 2 ** (len(self.vae) - 1)
        return (len(self.views), 4, self.frames, self.crop[0] // shrink, self.crop[1] // shrink)

    @property
    def features(self) -> int:
        """Numbers that the current observation becomes."""
        low = self.frames * sum(self.low_dim.values())
        return len(self.views) * self.frames * self.embed + low + self.language * self.embed

    @property
    def image_tokens(self) -> int:
        views, _, *volume = self.latent
        return views * math.prod(n // p for n, p in zip(volume, self.patch, strict=True))


# "narrow" and "three" run in seconds; "three" has what the first lacks: a third view, low-dim state, language, and
# pictures that are shrunk along one axis and grown along the other. "full" is the published size.
GOLDEN = {
    "narrow": Sizes(
        views=("agentview_rgb", "eye_in_hand_rgb"),
        action=7,
        registers=24,
        raw=(40, 40),
        resize=(72, 72),
        crop=(64, 64),
        batch=2,
        embed=48,
        depth=2,
        heads=4,
        time=32,
        vae=(32, 64, 128, 128),
    ),
    "three": Sizes(
        views=("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"),
        action=10,
        registers=8,
        raw=(60, 128),
        resize=(80, 96),
        crop=(64, 64),
        batch=2,
        embed=48,
        depth=2,
        heads=4,
        time=32,
        vae=(32, 64, 128, 128),
        low_dim={"cartesian_position": 6, "gripper_position": 1},
        language=True,
    ),
    "full": Sizes(
        views=("agentview_rgb", "eye_in_hand_rgb"),
        action=7,
        registers=8,
        raw=(128, 128),
        resize=(240, 240),
        crop=(224, 224),
        batch=1,
    ),
}


# ---------------------------------------------------------------- numbers from names


def uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """Float32 numbers of `shape` in [-1, 1), 2^24 possible values, from splitmix64 of the name and the place."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    out = np.empty(math.prod(shape), np.float32)
    for start in range(0, len(out), CHUNK):
        part = out[start : start + CHUNK]
        place = np.arange(start + 1, start + len(part) + 1, dtype=np.uint64)
        z = place * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        part[:] = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return torch.from_numpy(out).reshape(shape)


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Float32 of `shape`, mean 0, variance 1 (uniform, not normal: parity does not mind)."""
    return uniform(name, shape) * math.sqrt(3)


def whole(name: str, shape: tuple[int, ...], low: int, high: int) -> Tensor:
    """Whole numbers of `shape` in [low, high)."""
    return ((uniform(name, shape).double() + 1) / 2 * (high - low)).floor().long() + low


def order(name: str, count: int) -> Tensor:
    """(count,) the numbers 0 .. count - 1 in some order."""
    return uniform(name, (count,)).argsort()


def draw(case: str, number: int, kind: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Random draw `number` of a case, counted from 0: what torch's function `kind` would have drawn.

    randn, randn_like: `noise`; randint: whole numbers in [low, high); uniform_: in [low, high); randperm: an order of
    `high` numbers.
    """
    name = f"{case}/{number}"
    if kind in ("randn", "randn_like"):
        return noise(name, shape)
    if kind == "randint":
        return whole(name, shape, int(low), int(high))
    if kind == "randperm":
        return order(name, int(high))
    return low + (high - low) * (uniform(name, shape) + 1) / 2


def pictures(name: str, shape: tuple[int, ...]) -> Tensor:
    """uint8 (..., H, W, 3): patches of colour with grain, so that neither a mean nor a filter flattens them."""
    height, width = shape[-3:-1]
    coarse = uniform(f"{name}/coarse", (*shape[:-3], -(-height // 8), -(-width // 8), 3))
    coarse = coarse.repeat_interleave(8, -3).repeat_interleave(8, -2)[..., :height, :width, :]
    return ((0.75 * coarse + 0.25 * uniform(f"{name}/grain", shape) + 1) * 127.5).to(torch.uint8)


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of this name: no layer silent, none so loud that depth explodes.

    Matrices and filters have variance 1 / fan-in, scales lie around 1, biases around 0; the two constants of the
    latents' scaling are the real ones.
    """
    if name.endswith("vae.shift"):
        return torch.zeros(shape)
    if name.endswith("vae.scale"):
        return torch.full(shape, 3.0)
    if name.endswith(("registers", "pos_embed")):
        return 0.5 * noise(name, shape)
    if len(shape) < 2:
        return (1.0 if name.endswith("weight") else 0.0) + 0.2 * uniform(name, shape)
    value = noise(name, shape) * (1 / math.sqrt(math.prod(shape[1:])))
    if name.endswith("vae.vae.quant_conv.weight"):
        value[: shape[0] // 2] *= 8.0  # the posterior's mean: latents as large as those of a trained autoencoder
    return value


def sketch(value: Tensor, count: int = 256) -> Tensor:
    """(2 + count,) of a large tensor: its mean, its mean size, and `count` numbers spread evenly over it."""
    flat = value.detach().reshape(-1)
    place = torch.arange(count) * len(flat) // count
    whole_of_it = torch.stack([flat.double().mean(), flat.double().abs().mean()])
    return torch.cat([whole_of_it.to(flat), flat[place]])


def projection(name: str, value: Tensor) -> Tensor:
    """() float64 to which every number of a tensor adds, each with a weight of its own that comes from the name."""
    share = noise(f"projection/{name}", tuple(value.shape))
    return (value.detach().double() * share).sum() / math.sqrt(value.numel())


# ---------------------------------------------------------------- what the golden runs were asked


def observation(case: str, sizes: Sizes, when: str) -> dict[str, Tensor]:
    """What the cameras see "now" or "later": view -> uint8 (B, T, H, W, 3), and the state float32 (B, T, D)."""
    shape = (sizes.batch, sizes.frames)
    out = {v: pictures(f"{case}/{when}/{v}", (*shape, *sizes.raw, 3)) for v in sizes.views}
    return out | {n: noise(f"{case}/{when}/{n}", (*shape, width)) for n, width in sizes.low_dim.items()}


def looked(case: str, sizes: Sizes) -> dict[str, Tensor]:
    """What the cameras see now, as a network is shown it: view -> float32 (B, T, *crop, 3) in [0, 1)."""
    shape = (sizes.batch, sizes.frames, *sizes.crop, 3)
    return {v: (uniform(f"{case}/looked/{v}", shape) + 1) / 2 for v in sizes.views}


def future(case: str, sizes: Sizes) -> Tensor:
    """(B, V, 4, T, h, w) float32: latents of the future pictures."""
    return noise(f"{case}/future", (sizes.batch, *sizes.latent))


def sentence(case: str, sizes: Sizes) -> Tensor:
    """(B, 512) the features that the frozen text model gives of the task."""
    return noise(f"{case}/text", (sizes.batch, 512))


def actions(case: str, sizes: Sizes) -> Tensor:
    """(B, horizon, A) float32 in [-1, 1)."""
    return uniform(f"{case}/action", (sizes.batch, sizes.horizon, sizes.action))


def present(sizes: Sizes) -> Tensor:
    """(B,) bool, True where the sample has actions: all but the last."""
    return torch.arange(sizes.batch) < max(1, sizes.batch - 1)


# Places of the table (action, future pictures) at which the network alone was asked, the same for a whole batch.
PLACES = ((0, 0), (90, 90), (90, 0), (0, 90), (37, 61), (99, 5))


# ---------------------------------------------------------------- the names of their weights


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything in their state dict, text model left out."""
    out = _eye("obs_encoder.img_encoder.model.", sizes.embed)
    if sizes.language:
        out |= _linear("obs_encoder.text_encoder.head", 512, sizes.embed)
    out |= {f"obs_encoder.vae.{n}": (1, 4, 1, 1) for n in ("shift", "scale")}
    out |= {f"obs_encoder.vae.vae.{n}": s for n, s in _autoencoder(sizes.vae).items()}
    return out | {f"noise_pred_net.{n}": s for n, s in _network(sizes).items()}


def state(sizes: Sizes, prefix: str = "") -> dict[str, Tensor]:
    """Name -> weight, for the names that begin with `prefix`."""
    return {n: weight(n, s) for n, s in shapes(sizes).items() if n.startswith(prefix)}


def fingerprint(named: Mapping[str, tuple[int, ...]]) -> str:
    """A hash of names and shapes, whatever their order."""
    text = "\n".join(f"{n} {tuple(s)}" for n, s in sorted(named.items()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _conv(name: str, inputs: int, outputs: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _eye(prefix: str, embed: int) -> dict[str, tuple[int, ...]]:
    """ResNet-18 whose norms have no running statistics."""
    out = {f"{prefix}conv1.weight": (64, 3, 7, 7)} | _norm(f"{prefix}bn1", 64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            at = f"{prefix}layer{stage}.{block}"
            out |= {f"{at}.conv1.weight": (width, before, 3, 3)} | _norm(f"{at}.bn1", width)
            out |= {f"{at}.conv2.weight": (width, width, 3, 3)} | _norm(f"{at}.bn2", width)
            if before != width:
                out |= {f"{at}.downsample.0.weight": (width, before, 1, 1)} | _norm(f"{at}.downsample.1", width)
            before = width
    return out | _linear(f"{prefix}fc", 512, embed)


def _autoencoder(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """diffusers' AutoencoderKL as SDXL has it: two residual blocks a level going down, three going up."""
    top = widths[-1]
    out = _conv("encoder.conv_in", 3, widths[0], 3)
    before = widths[0]
    for level, width in enumerate(widths):
        for i in range(2):
            out |= _residual(f"encoder.down_blocks.{level}.resnets.{i}", before, width)
            before = width
        if level < len(widths) - 1:
            out |= _conv(f"encoder.down_blocks.{level}.downsamplers.0.conv", width, width, 3)
    out |= _middle("encoder", top) | _norm("encoder.conv_norm_out", top) | _conv("encoder.conv_out", top, 8, 3)
    out |= _conv("decoder.conv_in", 4, top, 3) | _middle("decoder", top)
    before = top
    for level, width in enumerate(reversed(widths)):
        for i in range(3):
            out |= _residual(f"decoder.up_blocks.{level}.resnets.{i}", before, width)
            before = width
        if level < len(widths) - 1:
            out |= _conv(f"decoder.up_blocks.{level}.upsamplers.0.conv", width, width, 3)
    out |= _norm("decoder.conv_norm_out", widths[0]) | _conv("decoder.conv_out", widths[0], 3, 3)
    return out | _conv("quant_conv", 8, 8, 1) | _conv("post_quant_conv", 4, 4, 1)


def _residual(at: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    out = _norm(f"{at}.norm1", before) | _conv(f"{at}.conv1", before, after, 3)
    out |= _norm(f"{at}.norm2", after) | _conv(f"{at}.conv2", after, after, 3)
    return out | (_conv(f"{at}.conv_shortcut", before, after, 1) if before != after else {})


def _middle(half: str, width: int) -> dict[str, tuple[int, ...]]:
    at = f"{half}.mid_block"
    out = _norm(f"{at}.attentions.0.group_norm", width)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        out |= _linear(f"{at}.attentions.0.{name}", width, width)
    return out | _residual(f"{at}.resnets.0", width, width) | _residual(f"{at}.resnets.1", width, width)


def _network(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    width, cond = sizes.embed, sizes.features + sizes.time
    hidden = 4 * max(sizes.action, width)
    length = sizes.horizon + sizes.image_tokens + sizes.registers
    out: dict[str, tuple[int, ...]] = {"registers": (1, sizes.registers, width), "pos_embed": (1, length, width)}
    out |= {"obs_patchifier.patch_encoder.weight": (width, 4, *sizes.patch)}
    out |= {"obs_patchifier.patch_encoder.bias": (width,)}
    out |= _linear("obs_patchifier.patch_decoder", width, 4 * math.prod(sizes.patch))
    out |= _linear("action_encoder.0", sizes.action, hidden) | _linear("action_encoder.2", hidden, width)
    out |= _linear("action_decoder.0", width, hidden) | _linear("action_decoder.2", hidden, sizes.action)
    out |= _linear("timestep_embedding.proj.0", 2 * sizes.time, 4 * sizes.time)
    out |= _linear("timestep_embedding.proj.2", 4 * sizes.time, sizes.time)
    for i in range(sizes.depth):
        out |= _linear(f"blocks.{i}.attn.qkv", width, 3 * width) | _linear(f"blocks.{i}.attn.proj", width, width)
        out |= _linear(f"blocks.{i}.mlp.fc1", width, 4 * width) | _linear(f"blocks.{i}.mlp.fc2", 4 * width, width)
        out |= _linear(f"blocks.{i}.adaLN_modulation.1", cond, 6 * width)
    return out | _linear("head.linear", width, width) | _linear("head.adaLN_modulation.1", cond, 2 * width)
