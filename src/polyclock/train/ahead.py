"""What frozen networks say of a recipe's targets, computed before training and read in its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..codecs.codec import Frozen
from ..data import Dataset, Latents
from ..data.latents import Precision
from ..data.window import offsets
from ..modality import Modality, Signal
from ..nn.modulation import root
from ..recipe import Recipe
from ..views import View
from .parallel import own_device

FRAMES = 32  # raw frames that are held at once


def encoded_ahead(
    recipe: Recipe,
    dataset: Dataset,
    episodes: Iterable[int],
    folder: str | Path,
    *,
    training: bool,
    stride: int = 1,
    precision: Precision = "float32",
    device: str | torch.device | None = None,
    tell: Callable[[str], object] | None = None,
) -> dict[str, Latents]:
    """name -> what `Windows(..., ahead=)` reads, for each modality whose codec is a frozen network, all in `folder`.

    Encoded is what windows of `episodes` ask for and is not there yet: as a model in training may look at it, or in the
    middle of its views. `dataset` is all that the numbers belong to: its other parts may be encoded another time.
    Errors: ValueError where no codec is frozen, or where a view's looks change so freely that they cannot be kept.
    """
    views = {name: view for view in recipe.views for name in view.of}
    names = kept_names(recipe)
    if not names:
        raise ValueError(
            f"no codec of the recipe {recipe.name!r} is a frozen network: there is nothing to encode ahead"
        )
    device = torch.device(device) if device else own_device()
    lengths = {e.index: e.length for e in dataset.episodes}
    found = {}
    for name in names:
        signal, codec, view = recipe.signals()[name], _codec(recipe, name), views.get(name)
        if signal.key not in dataset.facts.columns:
            continue
        check(name, recipe.modalities[name], view, training)
        steps = offsets(signal, dataset.facts.fps)
        about = {
            "column": signal.key,
            "codec": codec.digest,
            "size": _size(signal),
            "view": None if view is None else view.about(name, training),
            "frames": None if codec.framewise else steps,
        }
        latents = Latents(dataset, folder, about, framewise=codec.framewise, precision=precision)
        wanted = {
            e: _rows(lengths[e], stride, (0,) if not codec.framewise else steps)
            for e in episodes
            if dataset.has(e, signal.key)
        }
        piece = max(1, FRAMES // (1 if codec.framewise else len(steps)))
        told = None if tell is None else (lambda text, name=name: tell(f"{name}: {text}"))
        latents.fill(wanted, _encoder(name, signal, codec, view, dataset, training, device), piece=piece, tell=told)
        found[name] = latents
    return found


def kept_names(recipe: Recipe) -> list[str]:
    """The modalities whose codec is a frozen network: what can be encoded ahead."""
    return [n for n in recipe.modalities if getattr(_codec(recipe, n), "frozen", False)]


def check(name: str, modality: Modality, view: View | None, training: bool) -> None:
    """Errors: ValueError where training looks at the pictures of a name in more ways than can be kept."""
    if view is None or view.way(name, training) != "whole" or view.crop is None:
        return
    cells = [n for n in modality.shape[1:3] if n]
    cell = view.crop[0] // cells[0] if cells else 1
    room = view.resize or view.size
    if view.grid % cell and room != view.crop:
        raise ValueError(
            f"View(grid={view.grid}) crops {name!r} between the cells of its latents, which are {cell} pixels wide: "
            f"nothing can be kept of it; possible: grid={cell}, or fixed=K looks"
        )


def _codec(recipe: Recipe, name: str) -> Frozen:
    return cast(Frozen, recipe.modalities[root(name, recipe.modalities)].codec)


def _size(signal: Signal) -> tuple[int, int] | None:
    """(H, W) that the data are read at; None: as they are stored."""
    if signal.kind != "video" or signal.shape[1] is None or signal.shape[2] is None:
        return None
    return signal.shape[1], signal.shape[2]


def _rows(length: int, stride: int, steps: Sequence[int]) -> np.ndarray:
    """The frames of an episode that its windows have at `steps` from their anchors, rising."""
    anchors = np.arange(0, length, stride)
    return np.unique(np.clip(anchors[:, None] + np.asarray(steps), 0, max(0, length - 1)))


def _encoder(
    name: str,
    signal: Signal,
    codec: Frozen,
    view: View | None,
    dataset: Dataset,
    training: bool,
    device: torch.device,
) -> Callable[[int, Sequence[int]], np.ndarray]:
    """(episode, rows) -> (n, V, T, *S, K): the frames of each row, looked at in V ways, through the network."""
    steps = np.zeros(1, np.int64) if codec.framewise else np.asarray(offsets(signal, dataset.facts.fps))
    lengths = {e.index: e.length for e in dataset.episodes}

    def encode(episode: int, rows: Sequence[int]) -> np.ndarray:
        frames = np.clip(np.asarray(rows)[:, None] + steps, 0, lengths[episode] - 1)
        once, places = np.unique(frames, return_inverse=True)
        read = dataset.read(episode, signal.key, once.tolist(), _size(signal))
        values = np.asarray(read)[places.reshape(frames.shape)]
        raw = torch.from_numpy(values.astype(np.int32) if values.dtype == np.uint16 else values).to(device)
        looks: list[Tensor] = [raw] if view is None else view.kept(name, raw, training)
        return torch.stack([codec.ahead(look) for look in looks], 1).cpu().numpy()

    return encode
