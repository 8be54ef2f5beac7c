"""A checkpoint of the authors' Unified World Models code as a model of ours: `load("models.pt", views=, resize=)`.

The weights are theirs, in another order: what the two compute differs by rounding alone (tests/interop). Where the
autoencoder lies in the file, it is written into the model folder, which then needs nothing else.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..codecs.scale import Identity, MinMax
from ..errors import unknown
from ..model import WorldModel
from ..nn.modulation import key
from ..pretrained import from_pretrained, save_pretrained
from ..recipe import Recipe
from ..recipes.uwm_official import SCALE, uwm_official
from .uwm_checkpoint import Checkpoint, read_checkpoint
from .uwm_layout import FACTOR, SENTENCE, Settled
from .uwm_names import AUTOENCODER, EYE, NETWORK, TEXT

AUTOENCODER_FOLDER = "autoencoder"


def load(
    path: str | Path,
    *,
    views: tuple[str, ...] = (),  # names of the cameras, sorted: the data have them as observation.images.NAME
    resize: tuple[int, int] | None = None,  # height,width of pictures before they are cropped
    crop: tuple[int, int] = (224, 224),  # height,width
    heads: int | None = None,  # of the attention; not said: heads of 64 numbers
    state: tuple[tuple[str, int], ...] = (),  # columns observation.NAME that it reads, sorted, and widths: NAME=WIDTH
    rate: float = 20.0,  # frames and action steps a second of the data
    folder: str | Path | None = None,
) -> WorldModel:
    """The model in their `models.pt`, ready to be asked: `sample(model, "action |", camera=..., ...)`.

    `folder` is new or empty and becomes its model folder; None: one that is removed when the program ends.

    Errors: ValueError that names what the file does not say, what is unknown in it, or what does not fit.
    """
    checkpoint = read_checkpoint(path)
    settled = checkpoint.facts.settle(views=views, resize=resize, crop=crop, heads=heads, state=dict(state))
    with _new_folder(folder) as (aside, out):
        _write_autoencoder(checkpoint, aside / AUTOENCODER_FOLDER)
        model = recipe_of(checkpoint, settled, aside / AUTOENCODER_FOLDER, rate).build()
        _fill(model, weights(checkpoint.state, settled))
        save_pretrained(model, aside)
    return from_pretrained(out)


def recipe_of(checkpoint: Checkpoint, settled: Settled, autoencoder: Path, rate: float) -> Recipe:
    """The recipe of a checkpoint. Errors: ValueError for latents that are scaled in another way than all that exist."""
    facts = settled.facts
    if any(facts.shift) or len(set(facts.scale)) > 1 or not facts.scale[0]:
        raise ValueError(
            f"{checkpoint.path}: latents are shifted by {facts.shift} and divided by {facts.scale}; possible: no "
            "shift, and one number for all channels"
        )
    codecs = {name: _state_codec(checkpoint, name, width) for name, width in settled.state.items()}
    recipe = uwm_official(
        vae=str(autoencoder),
        cameras=tuple(f"observation.images.{name}" for name in settled.views),
        state=tuple(f"observation.{name}" for name in settled.state),
        rate=rate,
        resize=(settled.resize[0], settled.resize[1]),
        crop=(settled.crop[0], settled.crop[1]),
        frames=settled.frames,
        horizon=settled.horizon,
        registers=facts.registers,
        width=facts.embed,
        depth=facts.depth,
        heads=settled.heads,
        time=facts.time,
        sentence=SENTENCE if facts.language else 0,
        picture=facts.feature,
    )
    modalities, conditions = dict(recipe.modalities), dict(recipe.conditions)
    for name, m in modalities.items():
        if name == "action":
            codec = checkpoint.action.codec() if checkpoint.action else Identity()
            modalities[name] = replace(m, codec=codec, shape=(settled.horizon, facts.action))
        elif facts.scale[0] != FACTOR / SCALE:
            modalities[name] = replace(m, codec=replace(m.codec, scale=FACTOR / facts.scale[0]))
    for name, width in settled.state.items():
        conditions[name] = replace(conditions[name], codec=codecs[name], shape=(settled.frames, width))
    return replace(recipe, modalities=modalities, conditions=conditions)


def _state_codec(checkpoint: Checkpoint, name: str, width: int) -> MinMax | Identity:
    """How a column of the state is scaled: where the file scales any, it scales all that the network reads.

    Errors: ValueError for a column that it scales nothing of, or another number of numbers.
    """
    if not checkpoint.low_dim:
        return Identity()
    if name not in checkpoint.low_dim:
        raise unknown(f"state of {checkpoint.path}", name, checkpoint.low_dim)
    scaling = checkpoint.low_dim[name]
    if len(scaling.scale) != width:
        raise ValueError(f"{checkpoint.path} scales {len(scaling.scale)} numbers of the state {name!r}, not {width}")
    return scaling.codec()


def weights(state: Mapping[str, Tensor], settled: Settled) -> dict[str, Tensor]:
    """Their state dict -> ours, by the names of `recipe_of`'s model; differentiable."""
    return {**_outside(state, settled), **_trunk(state, settled), **_conditions(state, settled)}


def _outside(state: Mapping[str, Tensor], settled: Settled) -> dict[str, Tensor]:
    """Embeddings, heads, places and times."""
    facts, out = settled.facts, {}
    volume = (facts.latent, *facts.patch)
    for side, theirs in (("embed", "action_encoder"), ("head", "action_decoder")):
        for layer in (0, 2):
            out |= _linear(state, f"{NETWORK}{theirs}.{layer}", f"{side}.action.{layer}")
    # Their patches list channels first, ours last.
    patch = state[f"{NETWORK}obs_patchifier.patch_encoder.weight"].permute(0, 2, 3, 4, 1).flatten(1)
    out |= {"embed.video.weight": patch, "embed.video.bias": state[f"{NETWORK}obs_patchifier.patch_encoder.bias"]}
    for end in ("weight", "bias"):
        theirs_out = state[f"{NETWORK}obs_patchifier.patch_decoder.{end}"].unflatten(0, volume)
        out[f"head.video.{end}"] = theirs_out.movedim(0, 3).flatten(0, 3)
    # Their positions run over actions, pictures and registers; a register and its place are one vector of ours.
    places = state[f"{NETWORK}pos_embed"][0]
    names = ["video" if i == 0 else f"video.{view}" for i, view in enumerate(settled.views)]
    tokens = (facts.tokens - settled.horizon) // len(names)
    frames = settled.volume[0] // facts.patch[0]
    out["position.action"] = places[: settled.horizon, None]
    for i, name in enumerate(names):
        start = settled.horizon + i * tokens
        out[f"position.{key(name)}"] = places[start : start + tokens].unflatten(0, (frames, -1))
    out["registers"] = state[f"{NETWORK}registers"][0] + places[facts.tokens :]
    # Theirs reads sines before cosines, of the action's time before the video's.
    first = state[f"{NETWORK}timestep_embedding.proj.0.weight"].unflatten(1, (2, 2, -1)).flip(2).flatten(2)
    out |= {"modulation.first.action.weight": first[:, 0], "modulation.first.video.weight": first[:, 1]}
    out["modulation.bias"] = state[f"{NETWORK}timestep_embedding.proj.0.bias"]
    return out | _linear(state, f"{NETWORK}timestep_embedding.proj.2", "modulation.last")


def _trunk(state: Mapping[str, Tensor], settled: Settled) -> dict[str, Tensor]:
    """The blocks and what follows them."""
    out = _linear(state, f"{NETWORK}head.linear", "backbone.out")
    out |= _modulator(state, f"{NETWORK}head.adaLN_modulation.1", "backbone.final", settled)
    layers = {"attn.qkv": "attention.qkv", "attn.proj": "attention.out", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
    for i in range(settled.facts.depth):
        theirs, ours = f"{NETWORK}blocks.{i}", f"backbone.blocks.{i}"
        for a, b in layers.items():
            out |= _linear(state, f"{theirs}.{a}", f"{ours}.{b}")
        out |= _modulator(state, f"{theirs}.adaLN_modulation.1", f"{ours}.modulator", settled)
    return out


def _modulator(state: Mapping[str, Tensor], theirs: str, ours: str, settled: Settled) -> dict[str, Tensor]:
    """One matrix of theirs over (pictures, state frame by frame, sentence, times) as two of ours."""
    facts, matrix = settled.facts, state[f"{theirs}.weight"]
    beside, times = matrix[:, : -facts.time], matrix[:, -facts.time :]
    seen = facts.pictures * facts.feature
    # Ours has the frames of one state behind each other, theirs all states of a frame.
    widths = list(settled.state.values())
    numbers = beside[:, seen : seen + facts.state].unflatten(1, (settled.frames, -1)) if widths else None
    parts = [] if numbers is None else [part.flatten(1) for part in numbers.split(widths, 2)]
    whole = torch.cat([beside[:, :seen], *parts, beside[:, seen + facts.state :]], 1)
    return {
        f"{ours}.linear.weight": times,
        f"{ours}.linear.bias": state[f"{theirs}.bias"],
        f"{ours}.beside.weight": whole,
    }


def _conditions(state: Mapping[str, Tensor], settled: Settled) -> dict[str, Tensor]:
    """The eye, and the linear map behind the sentence."""
    at, out = "conditioner.encoder.camera", {}
    pairs = {"conv1": "stem.0", "bn1": "stem.1", "fc": "out"}
    within = {"conv1": "main.0", "bn1": "main.1", "conv2": "main.3", "bn2": "main.4"}
    within |= {"downsample.0": "side.0", "downsample.1": "side.1"}
    for stage in range(4):
        for block in range(2):
            for a, b in within.items():
                pairs[f"layer{stage + 1}.{block}.{a}"] = f"stages.{2 * stage + block}.{b}"
    for a, b in pairs.items():
        for end in ("weight", "bias"):
            if f"{EYE}{a}.{end}" in state:
                out[f"{at}.{b}.{end}"] = state[f"{EYE}{a}.{end}"]
    if settled.facts.language:
        out |= _linear(state, f"{TEXT}head", "conditioner.encoder.sentence.out")
    return out


def _linear(state: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.{end}": state[f"{theirs}.{end}"] for end in ("weight", "bias")}


def _fill(model: WorldModel, state: Mapping[str, Tensor]) -> None:
    """Errors: ValueError for a weight that one side lacks or that has another shape, which would be a fault of ours."""
    own = model.state_dict()
    for name in {**own, **state}:
        if name not in own or name not in state:
            raise unknown("weight of the converted model", name, state if name in own else own)
        if own[name].shape != state[name].shape:
            raise ValueError(f"{name!r} has shape {tuple(state[name].shape)}; needed: {tuple(own[name].shape)}")
    model.load_state_dict({n: v.float() for n, v in state.items()})


def _write_autoencoder(checkpoint: Checkpoint, folder: Path) -> None:
    """The autoencoder in the file as a folder in diffusers' format."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(checkpoint.facts.autoencoder(), indent=1))
    state = {n.removeprefix(AUTOENCODER): v for n, v in checkpoint.state.items() if n.startswith(AUTOENCODER)}
    state = {n: v.detach().float().contiguous() for n, v in state.items()}
    safetensors.torch.save_file(state, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


@contextmanager
def _new_folder(folder: str | Path | None) -> Iterator[tuple[Path, Path]]:
    """A folder to write into, and the one that it becomes when all went well; else nothing is left.

    Errors: ValueError where something is in the folder already.
    """
    if folder is None:
        out = Path(tempfile.mkdtemp(prefix="polyclock-"))
        atexit.register(shutil.rmtree, out, ignore_errors=True)
    else:
        out = Path(folder)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} is there already and not empty; name another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield aside, out
        aside.chmod(0o755)
        os.replace(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
