"""Features of experts as latents: few principal components of standardised channels, on the grid of video latents.

`Chain(Projection(components=8), Resample(size=(60, 104)))` and the two in the other order are the same, up to rounding:
a projection acts on channels and is affine, resampling acts on places and its weights sum to one. In this order what is
kept of a clip is about a hundred times smaller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import unknown
from .codec import Codec, FrameByFrame, Shape
from .scale import RELATIVE, check_finite

SCALES = ("none", "global", "channel")
PER = ("dataset", "video")
SPACES = ("bilinear", "nearest", "area")
TIMES = ("causal", "adaptive", "pick")
TENSORS = ("mean", "std", "basis", "variance")


@dataclass(frozen=True, kw_only=True, repr=False)
class Projection(FrameByFrame):
    """Features (B, T, h, w, D) <-> the `components` directions of standardised features that vary most, (..., K).

    components  K
    scale       of the components: "none" leaves their variances, which are far above 1 for the first ones; "global"
                divides all by one number, so that their mean variance is 1; "channel" each by its own
    per         "dataset": fitted once; "video": each clip by itself, so that signs and order change from clip to clip
                and nothing can be decoded
    rows        vectors of each array that a fit looks at, drawn with a fixed seed
    stored      the data hold components already, made by this projection before they were stored: encoding and decoding
                leave them, `project` and `back` change between them and whole features
    mean, std   (D,) of the features; basis (D, K), orthonormal columns, of each the largest number is positive;
    variance    (D,) along all directions of the standardised features, falling

    Decoding gives the nearest features in the space that the components span: what the other directions held is their
    mean. The share of the variance that is kept is `explained`. float32.
    """

    fits: ClassVar[bool] = True
    components: int = 8
    scale: Literal["none", "global", "channel"] = "none"
    per: Literal["dataset", "video"] = "dataset"
    rows: int = 4096
    stored: bool = False
    mean: Tensor | None = field(default=None, compare=False)
    std: Tensor | None = field(default=None, compare=False)
    basis: Tensor | None = field(default=None, compare=False)
    variance: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for what, word, options in (("scale", self.scale, SCALES), ("per", self.per, PER)):
            if word not in options:
                raise unknown(f"{what} of a projection", word, options)
        if self.components < 1 or self.rows < 2:
            raise ValueError(f"components={self.components}, rows={self.rows}; at least 1 and 2 are needed")
        given = [getattr(self, name) for name in TENSORS]
        if any(t is None for t in given) != all(t is None for t in given):
            raise ValueError(f"a fitted projection has all of {', '.join(TENSORS)}; some are missing")
        if self.basis is not None:
            for name, tensor in zip(TENSORS, given, strict=True):
                object.__setattr__(self, name, torch.as_tensor(tensor, dtype=torch.float32))
            self._check()

    def _check(self) -> None:
        """Errors: ValueError for tensors that do not belong together, or a basis that is none."""
        mean, std, basis, variance = (getattr(self, name) for name in TENSORS)
        width = len(mean)
        shapes = {name: tuple(getattr(self, name).shape) for name in TENSORS}
        if shapes != {"mean": (width,), "std": (width,), "basis": (width, self.components), "variance": (width,)}:
            raise ValueError(f"a projection to {self.components} components cannot have tensors of shapes {shapes}")
        if not all(bool(t.isfinite().all()) for t in (mean, std, basis, variance)) or bool((std <= 0).any()):
            raise ValueError("a projection holds numbers that are not finite, or a deviation that is not above 0")
        off = float((basis.T @ basis - torch.eye(self.components)).abs().max())
        if off > 1e-3:
            raise ValueError(f"the basis of a projection is not orthonormal: off by {off:.2g}")

    def __repr__(self) -> str:
        about = f"components={self.components}, scale={self.scale!r}, per={self.per!r}, stored={self.stored}"
        return f"Projection({about}, {'not fitted' if self.basis is None else f'from {len(self.basis)}'})"

    # ------------------------------------------------------------ what it keeps

    @property
    def frozen(self) -> bool:
        """Whether what it says can be kept in place of features."""
        return not self.stored

    @property
    def framewise(self) -> bool:  # type: ignore[override]
        return self.per == "dataset"

    @property
    def digest(self) -> str:
        """Of all that the components depend on. Errors: ValueError where it is not fitted."""
        if self.per == "video":
            return f"Projection/{self.components}/{self.scale}/video/{self.rows}"
        whole = hashlib.sha256(f"{self.components} {self.scale}".encode())
        for tensor in self._fitted():
            whole.update(tensor.numpy().tobytes())
        return f"Projection/{whole.hexdigest()[:32]}"

    @property
    def made(self) -> str | None:
        """The digest of what must have made the data; None where they are whole features."""
        return self.digest if self.stored else None

    @property
    def explained(self) -> Tensor:
        """(K,) the share of the variance of the standardised features along each component."""
        variance = self._fitted()[3]
        return variance[: self.components] / variance.sum().clamp_min(1e-12)

    def _fitted(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.mean is None or self.std is None or self.basis is None or self.variance is None:
            raise ValueError(f"{self!r}: fit(arrays), or recipe.fit(dataset), comes first")
        return self.mean, self.std, self.basis, self.variance

    def _spread(self) -> Tensor:
        """(K,) what the components are divided by."""
        variance = self._fitted()[3][: self.components]
        if self.scale == "none":
            return torch.ones_like(variance)
        spread = (variance.mean() if self.scale == "global" else variance).sqrt().expand_as(variance)
        return torch.where(spread > RELATIVE, spread, torch.ones_like(spread))

    # ------------------------------------------------------------ as a codec

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, h, w, K) -> raw (T, h, w, D), or K where components are stored. Errors: another K."""
        if shape[-1] not in (None, self.components):
            raise ValueError(f"{self!r} makes {self.components} channels; the modality has shape {shape}")
        width = None if self.basis is None else len(self.basis)
        return (*shape[:-1], self.components if self.stored else width)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, h, w, D) -> (B, T, h, w, K); as they are where components are stored."""
        if not self.stored:
            return self.ahead(raw)
        if len(raw) and raw.shape[-1] != self.components:
            raise ValueError(f"{self!r}: the data hold {raw.shape[-1]} channels in place of {self.components}")
        return raw.float() if len(raw) else raw.new_zeros(*raw.shape[:-1], self.components, dtype=torch.float32)

    def ahead(self, raw: Tensor) -> Tensor:
        """(B, T, h, w, D) -> (B, T, h, w, K)."""
        return self.project(raw)

    def finish(self, ahead: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, h, w, K) -> the same."""
        return ahead.float()

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, h, w, K) -> (B, T, h, w, D), or as they are where components are stored."""
        return x.float() if self.stored else self.back(x)

    def project(self, features: Tensor) -> Tensor:
        """(B, ..., D) -> (B, ..., K). Errors: ValueError for another D."""
        if not len(features):
            return features.new_zeros(*features.shape[:-1], self.components, dtype=torch.float32)
        if self.per == "video":
            return torch.stack([self._of_one(one) for one in features])
        mean, std, basis, _ = (t.to(features.device) for t in self._fitted())
        if features.shape[-1] != len(mean):
            raise ValueError(f"{self!r} got features of width {features.shape[-1]}")
        return ((features.float() - mean) / std) @ (basis / self._spread().to(basis.device))

    def _of_one(self, features: Tensor) -> Tensor:
        """One clip (T, h, w, D) by its own components."""
        own = replace(self, per="dataset", stored=False).fit([features.cpu().numpy()])
        return own.project(features[None])[0]

    def back(self, x: Tensor) -> Tensor:
        """(B, ..., K) -> features (B, ..., D). Errors: ValueError where each clip has components of its own."""
        if self.per == "video":
            raise ValueError("components that each clip has of its own cannot be decoded; possible: per='dataset'")
        mean, std, basis, _ = (t.to(x.device) for t in self._fitted())
        return (x.float() * self._spread().to(x.device)) @ basis.T * std + mean

    def fit(self, arrays: Iterable[np.ndarray]) -> Projection:
        """Fitted to features (n, h, w, D) of episodes, one after the other: no more than one is held.

        Where the column was projected before it was stored it is that projection. Errors: ValueError where it is
        another kind of projection, for NaN or Inf, and for fewer channels than components.
        """
        by = getattr(arrays, "by", None)
        if by is not None:
            return self._taken_from(by)
        if self.per == "video":
            return replace(self, stored=False)
        seen = Covariance()
        for number, array in enumerate(arrays):
            check_finite(array, number)
            vectors = array.reshape(-1, array.shape[-1])
            if len(vectors) > self.rows:
                chosen = np.random.default_rng([0, number]).choice(len(vectors), self.rows, replace=False)
                vectors = vectors[np.sort(chosen)]
            seen.add(vectors)
        if seen.count < 2 or len(seen.mean) < self.components:
            raise ValueError(
                f"{seen.count} vectors of {len(seen.mean)} channels cannot be projected to {self.components} components"
            )
        mean, std, basis, variance = seen.directions(self.components)
        return replace(self, stored=False, mean=mean, std=std, basis=basis, variance=variance)

    def _taken_from(self, by: Codec) -> Projection:
        ours = (self.components, self.scale, self.per)
        if not isinstance(by, Projection) or (by.components, by.scale, by.per) != ours:
            raise ValueError(f"the column was made by {by!r}; the model asks for {self!r}")
        return replace(by, stored=True)


class Covariance:
    """Means and covariances of vectors that come in pieces (Chan et al. 1983), in float64: (D, D) whatever their
    number."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def add(self, vectors: np.ndarray) -> None:
        """Vectors (n, D). Errors: ValueError for another D."""
        x = vectors.astype(np.float64)
        n, mean = len(x), x.mean(0) if len(x) else self.mean
        if not n:
            return
        apart = x - mean
        if not self.count:
            self.count, self.mean, self._scatter = n, mean, apart.T @ apart
            return
        if len(mean) != len(self.mean):
            raise ValueError(f"features of width {len(mean)}, those before them {len(self.mean)}")
        total, step = self.count + n, mean - self.mean
        self._scatter += apart.T @ apart
        self._scatter += np.outer(step, step) * (self.count * n / total)
        self.mean = self.mean + step * (n / total)
        self.count = total

    def directions(self, components: int) -> tuple[Tensor, ...]:
        """mean (D,), std (D,), basis (D, K), variance (D,) of the standardised vectors; a channel that is constant has
        deviation 1."""
        covariance = self._scatter / self.count
        std = np.sqrt(np.diag(covariance))
        std = np.where(std > RELATIVE * np.abs(self.mean) + np.finfo(np.float32).tiny, std, 1.0)
        variance, vectors = np.linalg.eigh(covariance / np.outer(std, std))
        variance, basis = variance[::-1].clip(0), vectors[:, ::-1][:, :components]
        largest = np.abs(basis).argmax(0)
        basis = basis * np.sign(basis[largest, np.arange(components)])
        found = (self.mean, std, basis, variance)
        return tuple(torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in found)


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Maps (B, T', h', w', C) of each data frame -> (B, T, h, w, C) on the grid of a video's latents.

    size    (h, w)
    space   "bilinear" and "nearest" between cells' centres, without averaging; "area": the mean of what a cell covers
    time    T' = 1 + group (T - 1) frames become T. "causal": frame 0 alone, then means of `group` frames, as a causal
            autoencoder has them; "pick": frames 0, group, 2 group, ...; "adaptive": means of equal parts of the clip,
            which overlap by up to a frame
    group   data frames to a latent frame; 1 leaves time as it is
    frames  T', with time="adaptive", where it decides which frames a latent frame covers
    grid    (h', w') that the data must have, and that decoding gives; None: any, and decoding leaves (h, w)

    Decoding repeats each latent frame for the data frames that it stands for: near the input where it changes slowly,
    never exact.
    """

    size: tuple[int, int]
    space: Literal["bilinear", "nearest", "area"] = "bilinear"
    time: Literal["causal", "adaptive", "pick"] = "causal"
    group: int = 4
    frames: int | None = None
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for what, word, options in (("space", self.space, SPACES), ("time", self.time, TIMES)):
            if word not in options:
                raise unknown(f"{what} of resampling", word, options)
        sizes = [n for pair in (self.size, self.grid or ()) for n in pair]
        if self.group < 1 or min(sizes) < 1 or (self.frames is not None and self.frames < 1):
            raise ValueError(f"{self!r}: sizes, frames and group are at least 1")
        if (self.time == "adaptive") != (self.frames is not None):
            raise ValueError(
                f"time={self.time!r} with frames={self.frames}; frames is the length with 'adaptive' alone"
            )

    @property
    def framewise(self) -> bool:
        return self.group == 1 and self.frames is None

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, h, w, C) -> raw (T', h', w', C); None where any size will do. Errors: another size."""
        if len(shape) != 4 or any(a not in (None, b) for a, b in zip(shape[1:3], self.size, strict=True)):
            raise ValueError(f"{self!r} makes maps of {self.size[0]} x {self.size[1]}; the modality has shape {shape}")
        times = self.frames if shape[0] is None or self.frames else 1 + (shape[0] - 1) * self.group
        return times, *(self.grid or (None, None)), shape[3]

    def covers(self, frame: int) -> range:
        """The data frames that latent frame `frame` stands for."""
        if self.frames is None:
            return range(max(0, (frame - 1) * self.group + 1), frame * self.group + 1)
        count = self._latent(self.frames)
        return range(frame * self.frames // count, -(-(frame + 1) * self.frames // count))

    def _latent(self, frames: int) -> int:
        """T of T'. Errors: ValueError where the groups do not come out even."""
        if (frames - 1) % self.group or (self.frames is not None and frames != self.frames):
            wanted = f"1 + {self.group} k" if self.frames is None else str(self.frames)
            raise ValueError(f"{self!r} takes {wanted} frames, got {frames}")
        return 1 + (frames - 1) // self.group

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        return self

    def windows(self, array: np.ndarray) -> np.ndarray:
        """An episode (n, h', w', C) -> (1, T', h', w', C), as much of it as `encode` takes."""
        return array[None, : self.frames or len(array) - (len(array) - 1) % self.group]

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T', h', w', C) -> (B, T, h, w, C) float32. Errors: ValueError for another number of frames or grid."""
        b, frames, channels, count = raw.shape[0], raw.shape[1], raw.shape[4], self._latent(raw.shape[1])
        if not b:
            return raw.new_zeros(0, count, *self.size, channels, dtype=torch.float32)
        if self.grid is not None and tuple(raw.shape[2:4]) != tuple(self.grid):
            raise ValueError(f"{self!r} takes maps of {self.grid}, got {tuple(raw.shape[2:4])}")
        x = raw.float()
        if self.time == "causal":
            x = torch.cat([x[:, :1], x[:, 1:].unflatten(1, (count - 1, self.group)).mean(2)], 1) if frames > 1 else x
        elif self.time == "pick":
            x = x[:, :: self.group]
        else:
            spans = [self.covers(f) for f in range(count)]
            x = torch.stack([x[:, s.start : s.stop].mean(1) for s in spans], 1)
        return self._resized(x, self.size)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T', h', w', C)."""
        frames = 1 + (x.shape[1] - 1) * self.group if self.frames is None else self.frames
        times = torch.arange(frames, device=x.device)
        at = (times + self.group - 1) // self.group if self.frames is None else times * x.shape[1] // frames
        x = x.float()[:, at]
        return x if self.grid is None or not len(x) else self._resized(x, self.grid)

    def _resized(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(x.shape[2:4]) == tuple(size):
            return x
        b, frames = x.shape[:2]
        flat = x.flatten(0, 1).movedim(-1, 1)
        mode = "nearest-exact" if self.space == "nearest" else self.space
        flat = F.interpolate(flat, size, mode=mode, align_corners=False if mode == "bilinear" else None)
        return flat.movedim(1, -1).unflatten(0, (b, frames))
