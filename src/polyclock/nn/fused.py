"""Norms with what follows them in one go: fewer passes over the tokens, and less kept for the backward pass.

What torch does apart (norm, scale, shift; norm, gain, rotation) is here one function of the same numbers. Statistics
and rotations are float32 at least, whatever the tokens are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..modality import widened


class _Modulated(Function):
    @staticmethod
    def forward(h: Tensor, shift: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        norm, mean, rstd = torch.native_layer_norm(h, (h.shape[-1],), None, None, eps)
        if norm.dtype == scale.dtype:
            return torch.addcmul(shift, norm, scale, out=norm), mean, rstd
        return torch.addcmul(shift, norm, scale).to(h.dtype), mean, rstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        h, _, scale, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(h, scale, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, scale, mean, rstd = ctx.saved_tensors
        g, shape = grads[0], (h.shape[-1],)
        norm = (h - mean).mul_(rstd) if mean.dtype == h.dtype else (widened(h) - mean) * rstd
        to_scale = norm.mul_(g).sum(2, keepdim=True)
        back = torch.ops.aten.native_layer_norm_backward
        to_h = back((g * scale).to(h.dtype), h, shape, mean, rstd, None, None, [True, False, False])[0]
        return to_h, g.sum(2, keepdim=True).to(scale.dtype), to_scale.to(scale.dtype), None


def modulated(h: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """h (B, F, N, D) layer-normed, times scale, plus shift, both (B, F, 1, D)."""
    out, _, _ = _Modulated.apply(h, shift, scale, eps)
    return out


class _Turned(Function):
    @staticmethod
    def forward(x: Tensor, gain: Tensor, turn: Tensor | None, heads: int, eps: float) -> tuple[Tensor, Tensor]:
        value = widened(x)
        norm = torch.linalg.vector_norm(value, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        out = value * widened(gain)
        if turn is None:
            return out.mul_(inverse).to(x.dtype).unflatten(-1, (heads, -1)), inverse
        pairs = torch.view_as_complex(out.unflatten(-1, (heads, -1, 2)))
        pairs.mul_(turn * inverse[..., None])
        return torch.view_as_real(pairs).flatten(-2).to(x.dtype), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gain, turn, _, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, gain, turn, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, turn, inverse = ctx.saved_tensors
        g = widened(grads[0])
        if turn is None:
            g = g.flatten(-2) * inverse
        else:
            pairs = torch.view_as_complex(g.contiguous().unflatten(-1, (-1, 2)))
            g = torch.view_as_real(pairs * (turn.conj() * inverse[..., None])).flatten(-3)
        value, wide_gain = widened(x), widened(gain)
        along = g * value
        to_gain = along.flatten(0, -2).sum(0).to(gain.dtype)
        common = (along @ wide_gain)[..., None] * inverse.square() / -x.shape[-1]
        return g.mul_(wide_gain).addcmul_(value, common).to(x.dtype), to_gain, None, None, None


def turned(x: Tensor, gain: Tensor, turn: Tensor | None, heads: int, eps: float) -> Tensor:
    """x (B, L, D) RMS-normed over D, times gain (D,) -> (B, L, heads, head), then turned pairwise.

    turn (L, 1, head / 2) complex, of length 1; None: not turned.
    """
    out, _ = _Turned.apply(x, gain, turn, heads, eps)
    return out
