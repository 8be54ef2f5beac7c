"""Published Wan networks: `load` reads a folder in diffusers' format, `save` writes one that diffusers loads.

The mathematics is that of diffusers' `WanTransformer3DModel` (Wan2.1-T2V-1.3B and 14B, Wan2.2-TI2V-5B), with a time for
each frame. A model is built without memory for its weights, which are then put in one by one as they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter import Adapter
from ..backbones.wan import WanStack
from ..codecs.codec import Codec
from ..codecs.scale import Identity
from ..codecs.vae import WanVAE
from ..density import LogitNormal
from ..encoders import T5, Numbers
from ..errors import unknown
from ..layout import Layout, Stream
from ..modality import Condition, Modality
from ..model import WorldModel
from ..nn.modulation import Local, LocalModulation, key
from ..path import Linear
from ..pretrained import save_pretrained
from ..recipe import Recipe
from ..timesteps import Law, Mixture, Shared, Task
from .wan_folder import (
    USUAL,
    Weights,
    backbone_of,
    bytes_of,
    open_weights,
    read_config,
    transformer_folder,
    write_folder,
)
from .wan_names import Link, links

TOKENS = 512  # of a text, filled up with zeros
WORDS = Adapter(hidden=1, ratio=1, activation="gelu_tanh", like="behind")  # text features -> width -> width
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    path: str | Path,
    *,
    frames: int | None = None,  # latent frames; not said: seen at each call
    size: tuple[int, int] | None = None,  # latent height,width; not said: seen at each call
    rate: float | None = None,  # frames of the video a second: 16 for Wan2.1, 24 for Wan2.2-TI2V
    shift: float = 5.0,  # of the times of a training
    dtype: str | None = None,  # of the weights: float32, bfloat16, float16; not said: as they are
    folder: str | Path | None = None,
) -> WorldModel:
    """The model in a folder of diffusers, ready to be asked: `sample(model, "video | text", text=[...], shapes=...)`.

    `path` is a pipeline's folder, whose autoencoder and text encoder are read where they lie, or a transformer's alone,
    which then takes latents and text features as they are. With `folder` it is written there as a model folder.

    Errors: ValueError for another architecture, or a weight that is missing, not known or of another shape, by name.
    """
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    model = empty(recipe_of(path, frames=frames, size=size, rate=rate, shift=shift))
    load_weights(model, path, dtype=None if dtype is None else DTYPES[dtype])
    if folder is not None:
        save_pretrained(model, folder)
    return model.eval()


def recipe_of(
    path: str | Path,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    shift: float = 5.0,
) -> Recipe:
    """The recipe of a folder, by its config.json alone; what its model was trained to answer follows the pipeline."""
    root, config = Path(path).expanduser(), read_config(transformer_folder(path))
    pipeline = root / "model_index.json"
    settings: dict[str, Any] = json.loads(pipeline.read_text(encoding="utf-8")) if pipeline.is_file() else {}
    codec: Codec = WanVAE(folder=str(root / "vae")) if (root / "vae" / "config.json").is_file() else Identity()
    text = Condition(
        encoder=Numbers(), route="context", adapter=WORDS, shape=(TOKENS, config["text_dim"]), required=True
    )
    if (root / "text_encoder" / "config.json").is_file():
        words = str(root / "tokenizer") if (root / "tokenizer").is_dir() else None
        reader = T5(folder=str(root / "text_encoder"), tokenizer=words, width=0, max_length=TOKENS, fill=True)
        text = Condition(encoder=reader, route="context", adapter=WORDS, null="empty", drop=0.1)
    shape = (frames, *(size or (None, None)), config["in_channels"])
    density = LogitNormal(shift=shift)
    law: Law = Shared(density)
    if settings.get("expand_timesteps"):
        law = Mixture((0.5, law), (0.5, Task("video[1:] | video[:1], text", density)))
    return Recipe(
        name="wan",
        modalities={"video": Modality(shape=shape, patch=tuple(config["patch_size"]), rate=rate, codec=codec)},
        conditions={"text": text},
        layout=Layout(Stream("video")),
        law=law,
        modulation=Local(shared=True, frequencies=config["freq_dim"]),
        backbone=backbone_of(config),
    )


def empty(recipe: Recipe) -> WorldModel:
    """The recipe's model without memory for its weights (torch's "meta" device), to be filled by `load_weights`."""
    with torch.device("meta"):
        return recipe.build()


def load_weights(
    model: WorldModel,
    path: str | Path,
    *,
    video: str = "video",
    text: str = "text",
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> set[str]:
    """Put the weights of a folder into `model`, one by one as they are read; `video` and `text` are what it calls them.
    Returns the names of the parameters that have them.

    On a model of `empty` they keep the folder's dtype, or get `dtype`; what the folder does not have (modalities that
    join, say) begins as in a new model. On any other model values are copied into what is there.

    Errors: ValueError for a weight that is missing, not known or of another shape, by name.
    """
    folder = transformer_folder(path)
    read_config(folder)
    filled = fill(model, table_of(model, video, text), open_weights(folder), dtype=dtype, device=device)
    begin(model, device)
    return filled


def fill(
    model: WorldModel,
    table: Sequence[Link],
    weights: Weights,
    *,
    also: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> set[str]:
    """Put the weights of a folder into `model` by a table, one by one as they are read; the folder has those of `also`
    besides. Returns the names of the parameters that have them.

    Errors: ValueError for a weight that is missing, not known or of another shape, by name.
    """
    check_names(table, weights.shapes(), weights.folder, also)
    shapes = {n: v.shape for n, v in model.state_dict(keep_vars=True).items()}
    for link, parts in zip(table, weights.stream(link.theirs for link in table), strict=True):
        value = link.read(parts)
        if shapes.get(link.ours) != value.shape:
            have = tuple(shapes[link.ours]) if link.ours in shapes else "nothing"
            raise ValueError(
                f"{' and '.join(link.theirs)} in {weights.folder} make {link.ours!r} of shape {tuple(value.shape)}; "
                f"the model has {have}"
            )
        put(model, link.ours, value, dtype, device)
    return {link.ours for link in table}


def table_of(model: WorldModel, video: str = "video", text: str = "text") -> list[Link]:
    """Which weight of ours is which of theirs. Errors: ValueError for a model of another architecture, saying what."""
    backbone, modulation = model.backbone, model.modulation
    if not isinstance(backbone, WanStack):
        raise ValueError(f"the backbone is a {type(backbone).__name__}; needed: Wan")
    if not isinstance(modulation, LocalModulation) or not modulation.spec.shared or modulation.spec.scale != 1000:
        raise ValueError("the modulation is another than Wan's; needed: Local(shared=True, scale=1000.0)")
    if video not in model.modalities:
        raise unknown("modality", video, model.modalities)
    if text not in model.conditions:
        raise unknown("condition", text, model.conditions)
    m, c = model.modalities[video], model.conditions[text]
    if not isinstance(m.path, Linear) or m.path.predict != "velocity" or len(m.shape) != 4 or m.adapter != Adapter():
        raise ValueError(f"{video!r} is on {m.path} with {m.adapter}; needed: velocities on a Linear path of a video")
    if c.route != "context" or c.adapter != WORDS:
        raise ValueError(f"{text!r} takes the route {c.route!r} with {c.adapter}; needed: 'context' with {WORDS}")
    time = modulation.via[video]
    return links(backbone.depth, backbone.spec.cross_norm, key(video), key(text), key(time))


def check_names(table: Sequence[Link], found: Mapping[str, Any], folder: Path, also: Sequence[str]) -> None:
    """Errors: names, those of `also` among them, that the folder lacks, or that nothing is known of."""
    known = {name for link in table for name in link.theirs} | set(also)
    ignored = {n for n in found if ".norm_added_q." in n}  # old files have it, and nothing reads it
    lacking, extra = sorted(known - found.keys()), sorted(found.keys() - known - ignored)
    if lacking:
        raise ValueError(f"{folder} lacks {lacking[0]!r} ({len(lacking)} of {len(known)} weights are missing)")
    if extra:
        raise unknown(f"weight in {folder}:", extra[0], sorted(known))


def put(
    model: nn.Module,
    name: str,
    value: Tensor,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Give a parameter its values; one without memory gets their dtype, or `dtype`."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    old = module.get_parameter(last)
    if old.is_meta:
        module._parameters[last] = nn.Parameter(value.to(device, dtype), requires_grad=old.requires_grad)
    else:
        with torch.no_grad():
            old.copy_(value)


def begin(model: WorldModel, device: str | torch.device = "cpu") -> None:
    """Give what has no memory yet the values of a new model: of the same recipe, with one block instead of all where
    that has them. What a modality brings for every block begins at zero."""
    bare = {n: v for n, v in (*model.named_parameters(), *model.named_buffers()) if v.is_meta}
    if not bare:
        return
    recipe: Recipe = model.recipe  # type: ignore[assignment]
    found = _values(replace(recipe, backbone=replace(recipe.backbone, depth=1)))  # type: ignore[type-var]
    if not bare.keys() <= found.keys():  # an expert's blocks are all new
        found = _values(recipe)
    dtype = model.backbone.table.dtype
    for name, old in bare.items():
        value = found[name].detach()
        if value.shape != old.shape:
            assert not value.any(), f"{name} differs from block to block and begins at something"
            value = torch.zeros(old.shape)
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path)
        if isinstance(old, nn.Parameter):
            module._parameters[last] = nn.Parameter(value.to(device, dtype), requires_grad=old.requires_grad)
        else:
            module._buffers[last] = value.to(device)
    model.begin_copies(bare)


def _values(recipe: Recipe) -> dict[str, Tensor]:
    """What a new model begins with, by name."""
    new = recipe.build()
    return dict((*new.named_parameters(), *new.named_buffers()))


def save(
    model: WorldModel,
    folder: str | Path,
    *,
    video: str = "video",
    text: str = "text",
    dtype: torch.dtype | None = None,
    shard_size: str | int = "5GB",
    leave_out: bool = False,
) -> None:
    """Write a folder that `diffusers.WanTransformer3DModel.from_pretrained` loads; `dtype` None: as the weights are.

    A file holds at most `shard_size`. What the model has beside a Wan transformer (other modalities, registers, a null)
    is refused, or with `leave_out` left out: what is written then knows the video alone.

    Errors: ValueError for another architecture, what is beside it, by name, or a folder that holds something already.
    """
    table = table_of(model, video, text)
    beside = beside_of(model, {link.ours for link in table})
    if beside and not leave_out:
        raise ValueError(f"{beside}; leave_out=True writes the rest")
    write(model, folder, table, config_of(model, video, text), dtype=dtype, shard_size=shard_size)


def beside_of(model: WorldModel, known: Set[str]) -> str:
    """A sentence about the weights that are not among `known`; "" where there are none."""
    state = model.state_dict(keep_vars=True)
    # What only training needs is no part of the network.
    beside = [n for n in state.keys() - known if state[n].numel() and not n.startswith("auxiliary.")]
    if not beside:
        return ""
    return f"the model has {len(beside)} weights that a Wan transformer has not, such as {min(beside)!r}"


def write(
    model: WorldModel,
    folder: str | Path,
    table: Sequence[Link],
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype | None,
    shard_size: str | int,
    first: Mapping[str, Tensor] | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of a table behind `first`, by diffusers' names, and config.json; `notes` stand in the header.

    Errors: ValueError for a folder that holds something already, or what is no size.
    """
    folder, limit = Path(folder), bytes_of(shard_size)
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name another folder")
    state = model.state_dict(keep_vars=True)
    begun = {n: v.to(dtype) for n, v in (first or {}).items()}

    def pieces() -> Iterator[dict[str, Tensor]]:
        yield begun
        for link in table:
            value = state[link.ours].detach().to("cpu", dtype)
            yield dict(zip(link.theirs, link.write(value, config["patch_size"]), strict=True))

    sizes = {n: v.numel() * v.element_size() for n, v in begun.items()}
    for link in table:
        value = state[link.ours]
        sizes |= dict.fromkeys(link.theirs, value.numel() * (dtype or value.dtype).itemsize // len(link.theirs))
    write_folder(folder, config, sizes, pieces(), limit, notes)


def config_of(model: WorldModel, video: str = "video", text: str = "text") -> dict[str, Any]:
    """config.json of diffusers for a model. Errors: ValueError for what diffusers' network cannot say."""
    backbone, modulation, m = model.backbone, model.modulation, model.modalities[video]
    assert isinstance(backbone, WanStack) and isinstance(modulation, LocalModulation)
    spec = backbone.spec
    if spec.theta != 10_000 or spec.per_second is not None:
        raise ValueError(f"{spec} has other positions than Wan; needed: theta=10000 and per_second=None")
    words = model.get_parameter(f"conditioner.project.{key(text)}.0.weight")
    return USUAL | {
        "patch_size": list(m.patch),
        "num_attention_heads": backbone.heads,
        "attention_head_dim": backbone.width // backbone.heads,
        "in_channels": m.shape[-1],
        "out_channels": m.shape[-1],
        "text_dim": words.shape[1],
        "freq_dim": modulation.spec.frequencies,
        "ffn_dim": spec.hidden,
        "num_layers": backbone.depth,
        "cross_attn_norm": spec.cross_norm,
        "eps": spec.eps,
    }
