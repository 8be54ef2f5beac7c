"""What a state dict of the authors' Unified World Models code says of itself, and what has to be asked.

`inspect` reads off the state dict whatever its shapes say and refuses what they contradict. The names of the cameras,
their order and the size of the pictures are in no such file: `Facts.settle` asks for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import uwm_names as names
from .uwm_names import AUTOENCODER, EYE, LATENTS, NETWORK, TEXT, Shapes

SENTENCE = 512  # numbers that their frozen text model gives
HEAD = 64  # numbers of an attention head in all published models; shapes do not say it
FACTOR = 0.13025  # what SDXL's autoencoder multiplies its latents by; it stands in its config, not in the weights


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the shapes of their state dict say, and nothing else.

    pictures   camera pictures of the current observation: views times frames
    feature    numbers that each picture becomes
    state      numbers of low-dimensional state, all frames together, fewer than `feature`; 0: it is not used
    language   whether a sentence is read
    tokens     action steps and tokens of the future pictures, together; registers come on top
    patch      of the latents: frames, rows, columns; latent: their channels
    time       numbers of the embedded times
    shift, scale   of the latents, by channel: latent = (FACTOR * z - shift) / scale
    widths, layers   of the autoencoder: channels of its levels, residual blocks in each
    """

    pictures: int
    feature: int
    state: int
    language: bool
    action: int
    tokens: int
    registers: int
    embed: int
    depth: int
    time: int
    patch: tuple[int, int, int]
    latent: int
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    widths: tuple[int, ...]
    layers: int

    @property
    def condition(self) -> int:
        """Numbers of the vector that modulates every block: pictures, state, sentence, times."""
        return self.pictures * self.feature + self.state + self.language * self.feature + self.time

    def autoencoder(self) -> dict[str, Any]:
        """The config.json, in diffusers' format, of the autoencoder in the file.

        Its group norms have 32 groups and its factor is SDXL's: shapes do not say either.
        """
        levels = len(self.widths)
        return {
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": list(self.widths),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "in_channels": 3,
            "latent_channels": self.latent,
            "layers_per_block": self.layers,
            "norm_num_groups": 32,
            "out_channels": 3,
            "scaling_factor": FACTOR,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
        }

    def settle(
        self,
        *,
        views: Sequence[str] | None = None,
        resize: tuple[int, int] | None = None,
        crop: tuple[int, int] = (224, 224),
        heads: int | None = None,
        state: Mapping[str, int] | None = None,
    ) -> Settled:
        """The whole configuration, with what only the user knows.

        views   cameras in the file's order, which is that of their sorted names
        resize  (height, width) of the pictures before they are cropped to `crop` (224 x 224 in all published models)
        heads   of the attention; None: heads of 64 numbers, as in all published models
        state   width of each low-dimensional observation, in the file's order (sorted names)

        Errors: ValueError that asks for what is missing or says what does not fit.
        """
        if not views:
            raise ValueError(
                f"the file does not say which cameras its {self.pictures} pictures come from: "
                "give views=(...), the cameras' names in the order in which the model had them (sorted by name)"
            )
        if resize is None:
            raise ValueError(
                "the file does not say to which size pictures were resized before they were cropped to "
                f"{crop[0]} x {crop[1]}: give resize=(height, width); its authors used (240, 240) for LIBERO and "
                "robomimic and (240, 320) for DROID"
            )
        if len(set(views)) != len(views) or self.pictures % len(views):
            raise ValueError(f"{self.pictures} pictures cannot come from the {len(views)} cameras {', '.join(views)}")
        if resize[0] < crop[0] or resize[1] < crop[1]:
            raise ValueError(f"pictures of {resize[0]} x {resize[1]} cannot be cropped to {crop[0]} x {crop[1]}")
        frames = self.pictures // len(views)
        heads = self._heads(heads)
        self._check_state(dict(state or {}), frames)
        shrink = 2 ** (len(self.widths) - 1)
        volume = (frames, crop[0] // shrink, crop[1] // shrink)
        if any(n % p for n, p in zip((frames, *crop), (1, shrink, shrink), strict=True)) or any(
            n % p for n, p in zip(volume, self.patch, strict=True)
        ):
            raise ValueError(
                f"latents of {volume} (frames, rows, columns), from crops of {crop}, are not cut by {self.patch}"
            )
        grid = tuple(n // p for n, p in zip(volume, self.patch, strict=True))
        horizon = self.tokens - len(views) * math.prod(grid)
        if horizon < 1:
            raise ValueError(
                f"{NETWORK}pos_embed has {self.tokens} places for actions and pictures, but {len(views)} cameras with "
                f"crops of {crop[0]} x {crop[1]} take {len(views) * math.prod(grid)}: give the crop it was made with"
            )
        return Settled(
            facts=self,
            views=tuple(views),
            frames=frames,
            horizon=horizon,
            heads=heads,
            resize=tuple(resize),
            crop=tuple(crop),
            volume=volume,
            state=dict(state or {}),
        )

    def _heads(self, heads: int | None) -> int:
        if heads is None and self.embed % HEAD:
            raise ValueError(f"the file does not say how many heads share its width {self.embed}: give heads=")
        heads = heads or self.embed // HEAD
        if self.embed % heads:
            raise ValueError(f"{heads} heads cannot share a width of {self.embed}")
        return heads

    def _check_state(self, state: dict[str, int], frames: int) -> None:
        if self.state and not state:
            raise ValueError(
                f"the file reads {self.state} numbers of low-dimensional state and does not say which: "
                "give state={name: width, ...} in the order of the sorted names"
            )
        if sum(state.values()) * frames != self.state:
            raise ValueError(
                f"the file reads {self.state} numbers of low-dimensional state; "
                f"{frames} frames of {state} are {sum(state.values()) * frames}"
            )


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A model of theirs in full: `facts` and what was asked for. `volume` is frames, rows, columns of a view's latents.

    The token sequence is action (horizon), then for each view its patches (frames, rows, columns), then registers.
    """

    facts: Facts
    views: tuple[str, ...]
    frames: int
    horizon: int
    heads: int
    resize: tuple[int, ...]
    crop: tuple[int, ...]
    volume: tuple[int, ...]
    state: Mapping[str, int]


def part_of(name: str) -> str:
    """ "network", "eye", "text", "scaling" or "autoencoder": where a name of their state dict belongs.

    Errors: ValueError for a name that belongs nowhere.
    """
    parts = {NETWORK: "network", EYE: "eye", TEXT: "text", AUTOENCODER: "autoencoder", LATENTS: "scaling"}
    for prefix, part in parts.items():
        if name.startswith(prefix):
            return part
    raise ValueError(f"the weight {name!r} is of no part of a unified world model; parts: {', '.join(parts)}")


def inspect(state: Mapping[str, Tensor]) -> Facts:
    """Their state dict -> what its shapes say. Errors: ValueError naming the key that is unknown, absent or odd."""
    parts = {name: part_of(name) for name in state}
    if f"{EYE}class_token" in state:
        raise ValueError(f"{EYE}class_token: a vision transformer reads the cameras; only ResNet-18 is known here")
    shape = _Shape(state)
    _, places, embed = shape(f"{NETWORK}pos_embed", 3)
    _, registers, _ = shape(f"{NETWORK}registers", 3)
    _, latent, *patch = shape(f"{NETWORK}obs_patchifier.patch_encoder.weight", 5)
    _, action = shape(f"{NETWORK}action_encoder.0.weight", 2)
    time, _ = shape(f"{NETWORK}timestep_embedding.proj.2.weight", 2)
    _, condition = shape(f"{NETWORK}blocks.0.adaLN_modulation.1.weight", 2)
    feature, _ = shape(f"{EYE}fc.weight", 2)
    language = "text" in parts.values()
    left = condition - time - language * feature
    if not all((embed, latent, action, time, *patch)):
        raise ValueError(f"weights of {NETWORK} have an axis of length 0")
    if not 0 < feature <= left:
        raise ValueError(
            f"{NETWORK}blocks.0.adaLN_modulation.1.weight reads {condition} numbers, of which {time} are times"
            f"{f' and {feature} the sentence' if language else ''}: not one picture of {feature} is left"
        )
    shift, scale = (_numbers(state, f"{LATENTS}{n}", latent) for n in ("shift", "scale"))
    widths, layers = _levels(shape)
    facts = Facts(
        pictures=left // feature,
        feature=feature,
        state=left % feature,
        language=language,
        action=action,
        tokens=places - registers,
        registers=registers,
        embed=embed,
        depth=_count(state, NETWORK + r"blocks\.(\d+)\.attn\.qkv\.weight"),
        time=time,
        patch=tuple(patch),  # type: ignore[arg-type]
        latent=latent,
        shift=shift,
        scale=scale,
        widths=widths,
        layers=layers,
    )
    _compare({n: tuple(v.shape) for n, v in state.items() if parts[n] != "text"}, _expected(facts))
    if language and shape(f"{TEXT}head.weight", 2) != (feature, SENTENCE):
        raise ValueError(f"{TEXT}head.weight has shape {shape(f'{TEXT}head.weight', 2)}, not {(feature, SENTENCE)}")
    return facts


class _Shape:
    """Shapes by name. Errors: ValueError for a name that is absent or has another number of axes."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def __call__(self, name: str, axes: int) -> tuple[int, ...]:
        if name not in self.state:
            raise ValueError(f"there is no weight {name!r}, so this is no unified world model (a baseline, perhaps)")
        if self.state[name].ndim != axes:
            raise ValueError(f"{name} has shape {tuple(self.state[name].shape)}; {axes} axes are expected")
        return tuple(self.state[name].shape)


def _numbers(state: Mapping[str, Tensor], name: str, count: int) -> tuple[float, ...]:
    """The numbers of a small tensor; NaN where the state dict has shapes alone."""
    if name not in state or state[name].numel() != count:
        raise ValueError(f"{name} must have {count} numbers, one for each channel of the latents")
    if state[name].is_meta:
        return (math.nan,) * count
    return tuple(state[name].detach().double().flatten().tolist())


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in names of this pattern, which must be 0, 1, 2, ..."""
    found = {int(m[1]) for name in state if (m := re.fullmatch(pattern, name))}
    if found != set(range(len(found))):
        raise ValueError(f"the blocks named {pattern} are numbered {sorted(found)}; one is missing")
    return len(found)


def _levels(shape: _Shape) -> tuple[tuple[int, ...], int]:
    """Channels of the autoencoder's levels, and how many residual blocks each has going down."""
    down = re.escape(f"{AUTOENCODER}encoder.down_blocks.")
    levels = _count(shape.state, down + r"(\d+)\.resnets\.0\.conv1\.weight")
    layers = _count(shape.state, down + r"0\.resnets\.(\d+)\.conv1\.weight")
    names = [f"{AUTOENCODER}encoder.down_blocks.{i}.resnets.0.conv1.weight" for i in range(max(1, levels))]
    return tuple(shape(name, 4)[0] for name in names), layers


def _expected(facts: Facts) -> Shapes:
    """Every name and shape that the facts ask for, the frozen text model's left out."""
    transformer = names.network(
        embed=facts.embed,
        depth=facts.depth,
        action=facts.action,
        registers=facts.registers,
        places=facts.tokens + facts.registers,
        latent=facts.latent,
        patch=facts.patch,
        time=facts.time,
        condition=facts.condition,
    )
    pictures = names.eye(facts.feature) | names.latents(facts.latent)
    return transformer | pictures | names.autoencoder(facts.widths, facts.layers, facts.latent)


def _compare(have: Shapes, want: Shapes) -> None:
    """Errors: ValueError naming the first key that is absent, superfluous or of another shape."""
    for name, shape in want.items():
        if name not in have:
            raise ValueError(f"there is no weight {name!r}, which the rest of the file asks for")
        if have[name] != shape:
            raise ValueError(f"{name} has shape {have[name]}; the rest of the file asks for {shape}")
    for name in have:
        if name not in want:
            raise ValueError(f"the weight {name!r} is not known here")
