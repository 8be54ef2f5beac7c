"""Several sources as channels of one Wan transformer: a fused stream of ours and the expanded checkpoint that diffusers
loads, both ways.

`cat([x, d], channels)` through one convolution is `embed_x(x) + embed_d(d)`, so the expanded `patch_embedding` holds
our embeddings side by side, its bias is the sum of theirs, and `proj_out` holds our heads. The rows of `proj_out` list
(patch, channel) with the channel fastest: sources lie side by side within each place of a patch, not one after another.
The order of the sources and their channels stand in the header of the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..codecs.vae import weights_digest
from ..layout import Layout, Stream
from ..modality import Modality
from ..model import WorldModel
from ..nn.modulation import LocalModulation, key
from ..recipe import Recipe
from . import wan
from .wan_folder import notes_of, open_weights, read_config, transformer_folder
from .wan_names import Link

NOTE = "sources"  # in the header: {"video": 16, "flow": 16, ...}, in order
ENDS = ("patch_embedding.weight", "patch_embedding.bias", "proj_out.weight", "proj_out.bias")


def save(
    model: WorldModel,
    folder: str | Path,
    *,
    text: str = "text",
    dtype: torch.dtype | None = None,
    shard_size: str | int = "5GB",
) -> None:
    """Write a folder that `diffusers.WanTransformer3DModel.from_pretrained` loads, with all channels of the model's
    stream in and out; `dtype` None: as the weights are.

    Errors: ValueError for another architecture, several streams, what is beside them, by name, or a folder that holds
    something already.
    """
    names = fused(model)
    inner = inner_of(model, names[0], text)
    if beside := wan.beside_of(model, {link.ours for link in inner} | _end_names(names)):
        raise ValueError(beside)
    said = channels(model, names)
    total = sum(said.values())
    config = wan.config_of(model, names[0], text) | {"in_channels": total, "out_channels": total}
    wan.write(
        model, folder, inner, config, dtype=dtype, shard_size=shard_size,
        first=ends_of(model, names), notes={NOTE: json.dumps(said)},
    )  # fmt: skip


def load(
    path: str | Path,
    *,
    sources: Mapping[str, int] | None = None,
    frames: int | None = None,
    rate: float | None = None,
    shift: float = 5.0,
) -> WorldModel:
    """The model in an expanded folder, with one modality for each source, fused and on one clock.

    sources   {name: channels} in the order of the channels; None: as the folder's weights say
    The rest as in `wan.load`. Errors: ValueError for channels that nothing says, or that do not add up.
    """
    folder = transformer_folder(path)
    config = read_config(folder)
    found = dict(sources or sources_of(folder) or {})
    if not found or sum(found.values()) != config["in_channels"]:
        raise ValueError(
            f"{folder} has {config['in_channels']} channels, and its sources are said to have {found}; "
            "say them as sources={'video': 16, ...}, in their order"
        )
    model = wan.empty(recipe_of(path, found, frames=frames, rate=rate, shift=shift))
    load_weights(model, path)
    return model.eval()


def recipe_of(
    path: str | Path,
    sources: Mapping[str, int],
    *,
    frames: int | None = None,
    rate: float | None = None,
    shift: float = 5.0,
) -> Recipe:
    """The recipe of a folder whose channels are these sources; the first is the video, which the others follow."""
    base = wan.recipe_of(path, frames=frames, rate=rate, shift=shift)
    film = base.modalities["video"]
    lead = next(iter(sources))
    modalities: dict[str, Modality] = {}
    for name, channels in sources.items():
        shape = (*film.shape[:-1], channels)
        more: dict[str, Any] = {} if name == lead else {"clock": lead, "zero_init": True, "null": "zero"}
        modalities[name] = replace(film, shape=shape, **more)
    return replace(base, modalities=modalities, layout=Layout(Stream(*sources)))


@dataclass(frozen=True)
class Base:
    """A folder, expanded or not, that a new model begins as: what the folder does not have stays as it is, or copies
    what it has (`Modality.copy`).

    Called with a model it returns the names of the parameters that the folder has: what is trained beside it is the
    rest. Errors, then: ValueError for another architecture, or sources that are not those of the model.
    """

    folder: str

    @property
    def digest(self) -> str:
        """Of its weights."""
        return weights_digest(str(transformer_folder(self.folder)))

    def __call__(self, model: WorldModel) -> set[str]:
        said = sources_of(self.folder)
        if said is None:
            filled = wan.load_weights(model, self.folder)
            model.begin_copies()
            return filled
        have = channels(model, fused(model))
        if list(have.items()) != list(said.items()):
            raise ValueError(f"{self.folder} has the sources {said}; the model has {have}")
        return load_weights(model, self.folder)


def sources_of(path: str | Path) -> dict[str, int] | None:
    """{name: channels} in the order of an expanded folder's channels; None for a folder that says nothing of them."""
    folder = transformer_folder(path)
    note = notes_of(folder).get(NOTE)
    if note is None:
        return None
    try:
        return {str(name): int(count) for name, count in json.loads(note).items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"the weights in {folder} call their sources {note[:80]!r}, not {{name: channels}}") from None


def load_weights(model: WorldModel, path: str | Path, *, text: str = "text") -> set[str]:
    """Put the weights of an expanded folder into a model whose one stream has as many channels.

    Returns the names of the parameters that have them.

    Errors: ValueError for a weight that is missing, not known or of another shape, by name.
    """
    names, weights = fused(model), open_weights(transformer_folder(path))
    filled = wan.fill(model, inner_of(model, names[0], text), weights, also=ENDS)
    ends = next(iter(weights.stream([ENDS])))
    put_ends(model, names, dict(zip(ENDS, ends, strict=True)))
    wan.begin(model)
    return filled | _end_names(names)


def ends_of(model: WorldModel, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The expanded ends by diffusers' names: weights (D, C, *patch), (D,), (patch * C, D) and (patch * C,)."""
    patch = model.modalities[names[0]].patch
    at = {end: {n: _linear(model, end, n) for n in names} for end in ("embed", "head")}
    convolution = [Link("", ("",), "patch").write(w, patch)[0] for w, _ in at["embed"].values()]
    bias = torch.stack([b for _, b in at["embed"].values()]).sum(0)
    places = math.prod(patch)
    rows = [(w.unflatten(0, (places, -1)), b.unflatten(0, (places, -1))) for w, b in at["head"].values()]
    out = (
        torch.cat(convolution, 1),
        bias,
        torch.cat([w for w, _ in rows], 1).flatten(0, 1),
        torch.cat([b for _, b in rows], 1).flatten(),
    )
    return {n: v.contiguous() for n, v in zip(ENDS, out, strict=True)}


def put_ends(model: WorldModel, names: tuple[str, ...], ends: Mapping[str, Tensor]) -> None:
    """The inverse of `ends_of`; the sum of the biases goes to the first.

    Errors: ValueError for one that is missing, or for another size.
    """
    patch, said = model.modalities[names[0]].patch, channels(model, names)
    width = len(model.get_parameter(f"embed.{key(names[0])}.bias"))
    places, total = math.prod(patch), sum(said.values())
    shapes = ((width, total, *patch), (width,), (places * total, width), (places * total,))
    for n, shape in zip(ENDS, shapes, strict=True):
        have = tuple(ends[n].shape) if n in ends else "nothing"
        if have != shape:
            raise ValueError(f"{n!r} is {have}; the model's sources {said} need {shape}")
    enter, bias, leave, last = (ends[n] for n in ENDS)
    inward, outward = enter.split([*said.values()], 1), leave.unflatten(0, (places, -1)).split([*said.values()], 1)
    outbias = last.unflatten(0, (places, -1)).split([*said.values()], 1)
    for i, n in enumerate(names):
        wan.put(model, f"embed.{key(n)}.weight", Link("", ("",), "patch").read([inward[i]]))
        wan.put(model, f"embed.{key(n)}.bias", torch.zeros_like(bias) if i else bias)
        wan.put(model, f"head.{key(n)}.weight", outward[i].flatten(0, 1).contiguous())
        wan.put(model, f"head.{key(n)}.bias", outbias[i].flatten().contiguous())


def fused(model: WorldModel) -> tuple[str, ...]:
    """The modalities of the model's one stream. Errors: ValueError for several streams, or ends of other kinds."""
    if len(model.layout.streams) != 1:
        streams = ", ".join(s.name for s in model.layout.streams)
        raise ValueError(f"the model has the streams {streams}; a Wan transformer has one, in which channels are added")
    names = model.layout.streams[0].of
    lead = model.modalities[names[0]]
    for n in names:
        m = model.modalities[n]
        if (m.adapter, m.path, m.share, m.embedding, m.head) != (lead.adapter, lead.path, None, None, None):
            raise ValueError(f"{n!r} has another path or adapter than {names[0]!r}, or shares its ends with another")
    return names


def channels(model: WorldModel, names: tuple[str, ...]) -> dict[str, int]:
    """{name: channels} of the sources, in order."""
    return {n: int(model.modalities[n].shape[-1] or 0) for n in names}


def inner_of(model: WorldModel, video: str, text: str) -> list[Link]:
    """The links of what lies between the ends. Errors: ValueError for another architecture."""
    modulation = model.modulation
    links = wan.table_of(model, video, text)
    assert isinstance(modulation, LocalModulation)
    if len(modulation.time) > 1:
        raise ValueError("a source follows another clock than the video; a Wan transformer has one time for all")
    return [link for link in links if link.theirs[0] not in ENDS]


def _end_names(names: tuple[str, ...]) -> set[str]:
    """The parameters of ours that the expanded ends hold."""
    return {f"{end}.{key(n)}.{part}" for n in names for end in ("embed", "head") for part in ("weight", "bias")}


def _linear(model: WorldModel, end: str, name: str) -> tuple[Tensor, Tensor]:
    weight, bias = (model.get_parameter(f"{end}.{key(name)}.{part}") for part in ("weight", "bias"))
    return weight.detach().cpu(), bias.detach().cpu()
