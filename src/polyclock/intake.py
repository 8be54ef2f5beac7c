"""What the user gives, brought into the shape that the model works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from .codecs.codec import encode_signal
from .conditioning import Given
from .dice import Dice
from .modality import Modality, widened
from .model import WorldModel
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
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, Tensor], Given]:
    """Raw given values -> (latents x[name] (B, T, *S, C) for every name that has tokens, encoded conditions).

    Frames that are not given hold zeros. Latents are float32, or float64 where the weights are. A given value has full
    length or exactly its span's; `latent` values are latents already. `shapes` are latent shapes of modalities whose
    size is open and not seen in a given value of the same stream. Errors: any other shape, saying what it is and what
    it must be.
    """
    x = {}
    names = [n for n, frames in roles.items() if frames[0] is not Role.ABSENT]
    for name in (n for n in names if Role.GIVEN in roles[n]):
        value = _tensor(model, name, values[name])
        x[name] = latent_of(model, name, model.modalities[name], roles[name], value, dice, latent)
    for name in (n for n in names if n not in x):
        x[name] = torch.zeros(size, *_open_shape(model, name, x, shapes or {}), device=model.device)
    x = {n: widened(v, model.dtype) for n, v in x.items()}
    named = query.given_conditions(model.conditions)
    features = {n: condition_of(model, n, values[n], dice) for n in named if n in values}
    rows = {n: torch.arange(size, device=model.device) for n in (*features, *x)}
    return x, model.conditioner(features, rows, size)


def in_frames(model: WorldModel, shapes: Mapping[str, Sequence[int]]) -> WorldModel:
    """The model for a call in which modalities whose number of frames is open have those of latent `shapes` (T, *S, C).

    It shares its weights. A modality that `shapes` lacks has the frames of its stream. Errors: ValueError where neither
    says how many.
    """
    modalities = dict(model.modalities)
    for name, m in model.modalities.items():
        if m.shape[0] is not None:
            continue
        said = next((shapes[n] for n in (name, *model.layout.stream_of(name).of) if n in shapes), None)
        if said is None:
            raise ValueError(f"the number of frames of {name!r} is open: say it with shapes={{{name!r}: (T, ..., C)}}")
        modalities[name] = replace(m, shape=(said[0], *m.shape[1:]))
    if modalities == model.modalities:
        return model
    model = copy(model)
    model.modalities = modalities
    if model.patterns is not None:
        model.patterns = model.recipe.law.patterns(modalities, model.conditions)  # type: ignore[union-attr,operator]
    return model


def _open_shape(
    model: WorldModel, name: str, x: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]
) -> tuple[int, ...]:
    """The latent shape of a modality that is not given; an open size is that of its stream. Errors: it is unknown."""
    m = model.modalities[name]
    if name in shapes:
        try:
            m = m.sized(shapes[name])
        except ValueError as problem:
            raise ValueError(f"the shape for {name!r}: {problem}") from None
    for mate in model.layout.stream_of(name).of:
        if None in m.shape and mate in x:
            grid = model.modalities[mate].sized(x[mate].shape[1:]).grid
            m = m.sized((*(g * p for g, p in zip(grid, m.patch, strict=True)), m.shape[-1] or 0))
    if None in m.shape:
        raise ValueError(f"the size of {name!r} is open, {m.shape}: say it with shapes={{{name!r}: (T, ..., C)}}")
    return tuple(int(n or 0) for n in m.shape)


def _tensor(model: WorldModel, name: str, value: Tensor | list[str]) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"the value for {name!r} must be a tensor, not {type(value).__name__}")
    return value.to(model.device)


def condition_of(model: WorldModel, name: str, value: Tensor | list[str], dice: Dice) -> Tensor | list[str]:
    """A given condition as its encoder takes it. Errors: a value of another kind or shape."""
    if model.conditions[name].kind == "text":
        if isinstance(value, Tensor) or not all(isinstance(text, str) for text in value):
            raise ValueError(f"the value for {name!r} must be a text, or a list of one for each sample")
        return list(value)
    value, want = _tensor(model, name, value), model.raw_shape(name)
    if len(value.shape) != len(want) + 1 or any(w not in (None, s) for w, s in zip(want, value.shape[1:], strict=True)):
        raise ValueError(f"the value for {name!r} has shape {tuple(value.shape)}; it must be (B, {_numbers(want)})")
    return encode_signal(model.codec(name), _looked_at(model, name, value), name, dice)


def _looked_at(model: WorldModel, name: str, value: Tensor) -> Tensor:
    """Pictures as the model looks at them."""
    view = model.views.get(name)
    return value if view is None else view(value, view.draw(None, value))


def latent_of(
    model: WorldModel, name: str, m: Modality, roles: tuple[Role, ...], value: Tensor, dice: Dice, latent: bool
) -> Tensor:
    """A given value of full length, or of its span's, as a latent of full length."""
    codec = model.codec(name)
    full = m.shape if latent else model.raw_shape(name)
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
    return widened(value) if latent else encode_signal(codec, _looked_at(model, name, value), name, dice)


def _numbers(shape: tuple[int | None, ...]) -> str:
    return ", ".join("any" if n is None else str(n) for n in shape)
