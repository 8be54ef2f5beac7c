"""What the codecs of dense maps share: how many channels stand on either side, and what is said when they do not."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .codec import FrameByFrame, Shape


class Dense(FrameByFrame):
    """A codec from maps (B, T, H, W, raw) to maps of the same size (B, T, H, W, latent)."""

    kind: ClassVar[str]  # what a message calls it
    parts: ClassVar[tuple[str, ...]]  # what the raw channels hold

    @property
    def channels(self) -> int:
        """C of the latents."""
        return 3

    @property
    def loses(self) -> tuple[str, ...]:
        """What decoding does not bring back, so that measures of it say nothing: "scale", "class" or "uv"."""
        return ()

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, H, W, C) -> raw (T, H, W, parts). Errors: ValueError for another number of channels."""
        if len(shape) != 4 or shape[-1] not in (None, self.channels):
            raise ValueError(f"{self!r} makes latents (T, H, W, {self.channels}); the modality has shape {shape}")
        return (*shape[:-1], len(self.parts))

    def values(self, raw: Tensor) -> Tensor:
        """Raw (B, T, H, W, parts), any dtype -> float32. Errors: ValueError for another shape."""
        if raw.ndim != 5 or raw.shape[-1] != len(self.parts):
            needed = f"(B, T, H, W, {len(self.parts)}) = {', '.join(self.parts)}"
            raise ValueError(f"{self.kind} of shape {tuple(raw.shape)}; needed: {needed}")
        return raw.float()

    def picture(self, x: Tensor) -> Tensor:
        """Latent (B, T, H, W, C) -> float32. Errors: ValueError for another shape."""
        if x.ndim != 5 or x.shape[-1] != self.channels:
            raise ValueError(f"a {self.kind} picture of shape {tuple(x.shape)}; needed: (B, T, H, W, {self.channels})")
        return x.float()
