"""Pretrained autoencoders as codecs: an image VAE frame by frame, and the causal video VAE of Wan, through diffusers.

Weights are read from a local folder in diffusers' format (config.json and safetensors); nothing is downloaded. What
needs only shapes reads config.json alone.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import missing, unknown
from ..plain import PATH
from .codec import Codec, Shape
from .pixels import to_float, to_uint8

# What latents are multiplied by, so that their standard deviation is about 1, where a config does not say it.
SCALES = {"sd": 0.18215, "sdxl": 0.13025}
RAW = ("uint8", "float")


@lru_cache(maxsize=64)
def read_config(folder: str, kind: str) -> dict[str, Any]:
    """config.json of a VAE folder. Errors: ValueError where there is none or it describes something else."""
    file = Path(folder).expanduser() / "config.json"
    if not file.is_file():
        inside = file.parent / "vae" / "config.json"
        hint = f"; did you mean {inside.parent}?" if inside.is_file() else ""
        raise ValueError(f"{file} does not exist; folder must hold a {kind} in diffusers' format{hint}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    found = config.get("_class_name") if isinstance(config, dict) else None
    if found != kind:
        raise ValueError(f"{file} describes {found!r}; possible here: {kind!r}")
    return config


@lru_cache(maxsize=4)
def load(folder: str, kind: str, device: str) -> Any:
    """The frozen module of a VAE folder on a device, in float32. Errors: ValueError for missing or unsafe weights."""
    read_config(folder, kind)
    try:
        import diffusers
    except ImportError as error:
        raise missing("diffusers", "hf") from error
    path = str(Path(folder).expanduser())
    try:
        module, info = getattr(diffusers, kind).from_pretrained(
            path, use_safetensors=True, local_files_only=True, output_loading_info=True, torch_dtype=torch.float32
        )
    except OSError as error:
        raise ValueError(f"{path} holds no readable safetensors weights of a {kind}: {error}") from error
    if info["missing_keys"] or info["unexpected_keys"]:
        lacking, extra = sorted(info["missing_keys"])[:3], sorted(info["unexpected_keys"])[:3]
        raise ValueError(f"weights in {path} do not fit its config.json; missing: {lacking}, unexpected: {extra}")
    return module.requires_grad_(False).eval().to(device)


def weights_digest(folder: str) -> str:
    """sha256 over config.json and the safetensors of a folder. Errors: ValueError where there is no such file."""
    files = sorted(Path(folder).expanduser().glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no safetensors")
    files.insert(0, files[0].with_name("config.json"))
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _digest_of(stamps)


@lru_cache(maxsize=16)
def _digest_of(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Of the bytes of files; their sizes and times are there so that a changed file is read anew."""
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        digest.update(f"{Path(name).name} {size};".encode())
        with open(name, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:32]


def _channels_first(part: Tensor) -> Tensor:
    """(n, ..., C) -> (n, C, ...) in one layout: how a convolution rounds depends on it."""
    return part.movedim(-1, 1).contiguous()


def _in_parts(run: Callable[[Tensor], Tensor], values: Tensor, size: int) -> Tensor:
    """`run` on `size` rows at a time; there is at least one row."""
    return torch.cat([run(part) for part in values.split(size)])


@dataclass(frozen=True, kw_only=True)
class _Autoencoder(ABC):
    """What the two have in common: latent = (z - offset) / scale, with z the posterior's mode or a sample of it.

    What is said ahead is the posterior: its mean, and behind it, where samples are drawn, its log variance.
    """

    frozen: ClassVar[bool] = True
    folder: str = field(metadata=PATH)
    sample: bool = False
    microbatch: int = 1
    raw: Literal["uint8", "float"] = "uint8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", str(self.folder))
        if self.raw not in RAW:
            raise unknown("raw values", self.raw, RAW)
        if self.microbatch < 1:
            raise ValueError(f"microbatch={self.microbatch} must be at least 1")

    @property
    def digest(self) -> str:
        """Of the weights, the config and what pictures are taken for; the same wherever the folder lies."""
        return "/".join((type(self).__name__, weights_digest(self.folder), self.raw, str(self.sample)))

    @abstractmethod
    def _offset_scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Latent = (z - offset) / scale, each () or (C,)."""

    def finish(self, ahead: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The posterior (B, T, H, W, C or 2 C) -> latent (B, T, H, W, C) float32."""
        offset, scale = self._offset_scale(ahead.device)
        return (self._draw(ahead, generator) - offset) / scale

    def _posterior(self, latents: Any) -> Tensor:
        """(n, C, ...) mean and log variance of diffusers' posterior -> (n, ..., C or 2 C)."""
        parts = [latents.mean, latents.logvar] if self.sample else [latents.mean]
        return torch.cat(parts, 1).movedim(1, -1).float()

    def _draw(self, moments: Tensor, generator: torch.Generator | None) -> Tensor:
        """The posterior (n, ..., C or 2 C) -> mode or sample (n, ..., C); noise does not depend on `microbatch`."""
        if not self.sample:
            return moments
        mean, logvar = moments.chunk(2, -1)
        if generator is None:
            raise ValueError(f"{type(self).__name__}(sample=True) needs a generator to encode")
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        return mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise

    def _to_float(self, raw: Tensor) -> Tensor:
        if self.raw == "uint8":
            return to_float(raw)
        if not raw.is_floating_point():
            raise ValueError(f"{type(self).__name__}(raw='float') expects floats in [-1, 1], got {raw.dtype}")
        return raw.float()

    def _from_float(self, x: Tensor) -> Tensor:
        return to_uint8(x) if self.raw == "uint8" else x.float()


@dataclass(frozen=True, kw_only=True)
class VAE(_Autoencoder):
    """Image VAE (diffusers' AutoencoderKL), frame by frame: (B, T, H, W, 3) <-> (B, T, H / f, W / f, C) float32.

    folder      holds config.json and safetensors; f and C are read from the config
    scale       latent = (z - shift) * scale; a number, "sd" or "sdxl" for theirs, or None for the config's
    shift       None: the config's, 0 where it has none
    sample      draw from the posterior with the generator given to `encode`; False: its mode
    microbatch  frames that run at once
    raw         "uint8", or "float" in [-1, 1] (behind another codec in a `Chain`)

    The inverse is the decoder: close to the input for images like those the VAE was trained on, never exact.
    """

    framewise: ClassVar[bool] = True
    scale: float | str | None = None
    shift: float | None = None
    microbatch: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.scale, str) and self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)

    @property
    def config(self) -> dict[str, Any]:
        """config.json; the weights are not touched."""
        return read_config(self.folder, "AutoencoderKL")

    @property
    def factor(self) -> int:
        """f, pixels to a side of one latent cell."""
        return 2 ** (len(self.config["block_out_channels"]) - 1)

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, H, W, C) -> raw (T, f H, f W, 3). Errors: ValueError where C is not the VAE's."""
        frames, height, width = _checked(shape, self.config["latent_channels"], self)
        return frames, _times(height, self.factor), _times(width, self.factor), self.config.get("in_channels", 3)

    def covers(self, frame: int) -> range:
        return range(frame, frame + 1)

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        return self

    def _offset_scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Latent = (z - offset) / scale, each () or (C,)."""
        config = self.config
        scale = SCALES[self.scale] if isinstance(self.scale, str) else self.scale
        by = config.get("scaling_factor", SCALES["sd"]) if scale is None else scale
        mean, std = config.get("latents_mean"), config.get("latents_std")
        offset = torch.tensor(mean or config.get("shift_factor") or 0.0 if self.shift is None else self.shift)
        return offset.to(device), (torch.tensor(std if std and scale is None else 1.0) / by).to(device)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H / f, W / f, C) float32. Errors: ValueError where f does not divide H or W."""
        return self.finish(self.ahead(raw), generator)

    @torch.no_grad()
    def ahead(self, raw: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> the posterior (B, T, H / f, W / f, C or 2 C) float32. Errors: those of `encode`."""
        b, frames, height, width = raw.shape[:4]
        f, channels = self.factor, self.config["latent_channels"]
        _divides(f, height, width, self)
        x = self._to_float(raw)
        if not b * frames:
            return x.new_zeros(b, frames, height // f, width // f, (1 + self.sample) * channels)
        module = load(self.folder, "AutoencoderKL", str(raw.device))

        def posterior(part: Tensor) -> Tensor:
            return self._posterior(module.encode(_channels_first(part), return_dict=False)[0])

        return _in_parts(posterior, x.flatten(0, 1), self.microbatch).unflatten(0, (b, frames))

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, T, f H, f W, 3)."""
        _checked(x.shape[1:], self.config["latent_channels"], self)
        b, frames = x.shape[:2]
        if not b * frames:
            height, width, channels = self.raw_shape(x.shape[1:])[1:]
            return self._from_float(x.new_zeros(b, frames, height, width, channels))  # type: ignore[arg-type]
        module = load(self.folder, "AutoencoderKL", str(x.device))
        offset, scale = self._offset_scale(x.device)

        def pictures(part: Tensor) -> Tensor:
            picture = module.decode(part.movedim(-1, 1), return_dict=False)[0].movedim(1, -1)
            return self._from_float(picture)

        z = x.float().flatten(0, 1) * scale + offset
        return _in_parts(pictures, z, self.microbatch).unflatten(0, (b, frames))


@dataclass(frozen=True, kw_only=True)
class WanVAE(_Autoencoder):
    """Causal video VAE of Wan (diffusers' AutoencoderKLWan): (B, 4 T - 3, H, W, 3) <-> (B, T, H / f, W / f, C) float32.

    Latent frame 0 stands for data frame 0 alone, latent frame n for data frames 4 n - 3 .. 4 n; it sees no later one.
    Latents are normalised by the config's latents_mean and latents_std. f and C are read from the config.

    folder      holds config.json and safetensors
    sample      draw from the posterior with the generator given to `encode`; False: its mode
    microbatch  videos that run at once
    raw         "uint8", or "float" in [-1, 1] (behind another codec in a `Chain`)

    The inverse is the decoder: close to the input for videos like those the VAE was trained on, never exact.
    """

    framewise: ClassVar[bool] = False

    @property
    def config(self) -> dict[str, Any]:
        """config.json; the weights are not touched. Errors: ValueError where time is not shrunk by 4."""
        config = read_config(self.folder, "AutoencoderKLWan")
        shrunk = 2 ** sum(config["temperal_downsample"])
        if shrunk != 4:  # diffusers encodes and decodes in groups of 4 frames, whatever the config says
            raise ValueError(f"{self.folder}/config.json shrinks time by {shrunk}; possible: 4")
        if not config.get("latents_mean") or not config.get("latents_std"):
            raise ValueError(f"{self.folder}/config.json has no latents_mean and latents_std")
        return config

    @property
    def factor(self) -> int:
        """f, pixels to a side of one latent cell."""
        return 2 ** len(self.config["temperal_downsample"]) * (self.config.get("patch_size") or 1)

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, H, W, C) -> raw (4 T - 3, f H, f W, 3). Errors: ValueError where C is not the VAE's."""
        frames, height, width = _checked(shape, self.config["z_dim"], self)
        channels = self.config.get("in_channels", 3) // (self.config.get("patch_size") or 1) ** 2
        times = None if frames is None else 4 * frames - 3
        return times, _times(height, self.factor), _times(width, self.factor), channels

    def covers(self, frame: int) -> range:
        return range(max(0, 4 * frame - 3), 4 * frame + 1)

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        return self

    def windows(self, array: np.ndarray) -> np.ndarray:
        """An episode (n, H, W, 3) -> (1, 4 k + 1, H, W, 3), as much of it as `encode` takes."""
        return array[None, : len(array) - (len(array) - 1) % 4]

    def _offset_scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.config
        return torch.tensor(config["latents_mean"], device=device), torch.tensor(config["latents_std"], device=device)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 4 T - 3, H, W, 3) -> (B, T, H / f, W / f, C) float32.

        Errors: ValueError for another number of frames, or where f does not divide H or W.
        """
        return self.finish(self.ahead(raw), generator)

    @torch.no_grad()
    def ahead(self, raw: Tensor) -> Tensor:
        """(B, 4 T - 3, H, W, 3) -> the posterior (B, T, H / f, W / f, C or 2 C) float32. Errors: those of `encode`."""
        b, frames, height, width = raw.shape[:4]
        f = self.factor
        if frames % 4 != 1:
            near = max(1, frames - (frames - 1) % 4)
            raise ValueError(f"WanVAE encodes 1 + 4 k frames, got {frames}; nearest: {near} or {near + 4}")
        _divides(f, height, width, self)
        x = self._to_float(raw)
        if not b:
            channels = (1 + self.sample) * self.config["z_dim"]
            return x.new_zeros(0, 1 + frames // 4, height // f, width // f, channels)
        module = load(self.folder, "AutoencoderKLWan", str(raw.device))

        def posterior(part: Tensor) -> Tensor:
            return self._posterior(module.encode(_channels_first(part), return_dict=False)[0])

        return _in_parts(posterior, x, self.microbatch)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, 4 T - 3, f H, f W, 3)."""
        shape = self.raw_shape(tuple(x.shape[1:]))
        if not len(x):
            return self._from_float(x.new_zeros(0, *shape))  # type: ignore[arg-type]
        module = load(self.folder, "AutoencoderKLWan", str(x.device))
        mean, std = self._offset_scale(x.device)

        def videos(part: Tensor) -> Tensor:
            return self._from_float(module.decode(part.movedim(-1, 1), return_dict=False)[0].movedim(1, -1))

        return _in_parts(videos, x.float() * std + mean, self.microbatch)


def _times(n: int | None, factor: int) -> int | None:
    return None if n is None else n * factor


def _checked(shape: Shape, channels: int, codec: _Autoencoder) -> tuple[int | None, int | None, int | None]:
    """T, H, W of a latent shape (T, H, W, C)."""
    if len(shape) != 4 or shape[3] not in (None, channels):
        raise ValueError(f"{codec.folder} has {channels} latent channels: expected (T, H, W, {channels}), got {shape}")
    return shape[0], shape[1], shape[2]


def _divides(factor: int, height: int, width: int, codec: _Autoencoder) -> None:
    if height % factor or width % factor:
        raise ValueError(f"{codec.folder} needs height and width to be multiples of {factor}, got {height} x {width}")
