"""What the user gives, brought into the shape that the model works on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .conditioning import Given
from .dice import Dice
from .modality import Modality
from .model import WorldModel, encode_signal
from .query import Query, Role, Roles


def fill_given(
    model: WorldModel,
    query: Query,
    roles: Roles,
    values: Mapping[str, Tensor | list[str]],
    size: int,
    dice: Dice,
    *,
    latent: bool = False,
) -> tuple[dict[str, Tensor], Given]:
    """Raw given values -> (latents x[name] (B, T, *S, C) for every name that has tokens, encoded conditions).

    Frames that are not given hold zeros. A given value has full length or exactly its span's; `latent` values are
    latents already. Errors: any other shape, saying what it is and what it must be.
    """
    x = {}
    for name, frames in roles.items():
        if frames[0] is Role.ABSENT:
            continue
        m = model.modalities[name]
        x[name] = torch.zeros(size, *(int(n or 0) for n in m.shape), device=model.device)
        if Role.GIVEN in frames:
            value = values[name]
            if not isinstance(value, Tensor):
                raise ValueError(f"the value for {name!r} must be a tensor, not {type(value).__name__}")
            x[name] = _latent(model, name, m, frames, value.to(model.device), dice, latent)
    named = query.given_conditions(model.conditions)
    features: dict[str, Tensor | list[str]] = {}
    for name in named:
        value = values[name]
        if isinstance(value, Tensor):
            features[name] = _condition(model, name, value.to(model.device), dice)
        else:
            features[name] = [value] if isinstance(value, str) else value
    rows = {n: torch.arange(size, device=model.device) for n in named}
    return x, model.conditioner(features, rows, size)


def _condition(model: WorldModel, name: str, value: Tensor, dice: Dice) -> Tensor:
    want = model.conditions[name].shape
    if len(value.shape) != len(want) + 1 or any(w not in (None, s) for w, s in zip(want, value.shape[1:], strict=True)):
        raise ValueError(f"the value for {name!r} has shape {tuple(value.shape)}; it must be (B, {_numbers(want)})")
    return encode_signal(model.codec(name), value, name, dice)


def _latent(
    model: WorldModel, name: str, m: Modality, roles: tuple[Role, ...], value: Tensor, dice: Dice, latent: bool
) -> Tensor:
    """A given value of full length, or of its span's, as a latent of full length."""
    codec = model.codec(name)
    full = m.shape if latent else codec.raw_shape(m.shape)
    given = [f for f, r in enumerate(roles) if r is Role.GIVEN]
    if latent:
        span = range(given[0] * m.patch[0], (given[-1] + 1) * m.patch[0])
    else:
        span = range(m.covers(given[0]).start, m.covers(given[-1]).stop)
    rest = tuple(value.shape[2:])
    fits = value.ndim == len(full) + 1 and all(w in (None, s) for w, s in zip(full[1:], rest, strict=True))
    contiguous = given == list(range(given[0], given[-1] + 1))
    lengths = {int(full[0] or 0)} | ({len(span)} if contiguous else set())
    if not fits or value.shape[1] not in lengths:
        frames = " or ".join(str(n) for n in sorted(lengths))
        raise ValueError(
            f"the value for {name!r} has shape {tuple(value.shape)}; "
            f"it must be (B, {frames} frames, {_numbers(full[1:])})"
        )
    if value.shape[1] != full[0]:
        # Frames outside the span are never read; repeating the edges keeps an encoder on familiar ground.
        index = torch.arange(int(full[0] or 0), device=value.device).clamp(span.start, span.stop - 1) - span.start
        value = value[:, index]
    return value.float() if latent else encode_signal(codec, value, name, dice)


def _numbers(shape: tuple[int | None, ...]) -> str:
    return ", ".join("any" if n is None else str(n) for n in shape)
