"""Unified world model as published: discrete times, latents of a frozen autoencoder, one vector for all tokens.

Paper      Zhu et al., Unified World Models (RSS 2025, arXiv 2504.02792), and the checkpoints that its authors released
Expects    with the same weights, noise and draws: their outputs, losses and gradients to 1e-5 (docs/results.md)
Hardware   published: 4 A100s, a day
Command    torchrun --nproc-per-node 4 -m polyclock.cli train uwm_official --data DATASET --vae FOLDER --out RUN
           polyclock import uwm models.pt --views A,B --resize 240,240 --out DIR
           torchrun --nproc-per-node 2 -m polyclock.cli train DIR --data DATASET --out RUN
           The published settings are the defaults: `TRAINING` for the first command, `TUNING` for the last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..adapter import Adapter
from ..backbones.dit import DiT
from ..codecs import VAE, MinMax
from ..codecs.scale import Identity
from ..density import Places
from ..encoders import Numbers, ResNet
from ..layout import Layout, Stream
from ..modality import Condition, Modality
from ..nn.modulation import Joint
from ..path import Discrete
from ..recipe import Recipe
from ..timesteps import Independent
from ..train.settings import Training, published
from ..views import Jitter, View

TABLE, ROWS = 100, 10  # places of the table, rows that its sampler walks
# What is neither wanted nor given stands at the first of these rows, 90: alpha_bar there is 0.0195, not 0.
PATH = Discrete(
    steps=TABLE, spacing="leading", predict="noise", clip=1.0, unknown=((ROWS - 1) * TABLE // ROWS + 1) / TABLE
)
SCALE = 0.13025 / 3  # of latents: what SDXL's are multiplied by, and what the authors divide by after that

# 36 samples on each of four GPUs; on each of two for fine-tuning, which takes 20,000 steps for robomimic.
TRAINING = Training(
    steps=100_000, batch_size=144, lr=1e-4, weight_decay=1e-6, schedule="constant", warmup=0, clip=0.0, ema=0.0
)
TUNING = replace(TRAINING, steps=10_000, batch_size=72, schedule="cosine", warmup=1000, clip=1.0)


@published(TRAINING, further=TUNING)
def uwm_official(
    *,
    vae: str,  # folder of SDXL's autoencoder in diffusers' format
    cameras: tuple[str, ...] = (
        "observation.images.top",
    ),  # columns, sorted: the first is `video`, others `video.NAME`
    state: tuple[str, ...] = (),  # columns of the proprioception, sorted
    action: str = "action",  # column of the actions
    rate: float = 20.0,  # frames and action steps a second
    resize: tuple[int, int] = (240, 240),  # (height, width) before the crop
    crop: tuple[int, int] = (224, 224),
    looks: int | None = None,  # crops and colours that training draws from, always the same ones; None: any
    grid: int = 1,  # pixels between the corners of the crops that training draws
    recoloured: bool = True,  # the predicted pictures change their colours in training as the given ones do
    frames: int = 2,  # given now, and predicted behind the actions
    horizon: int = 16,  # action steps
    registers: int = 8,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    time: int = 512,  # numbers of the embedded times
    picture: int | None = None,  # numbers that a picture becomes; None: as many as the network is wide
    sentence: int = 0,  # numbers of a sentence's features, if these are given
    scaled: bool = False,  # actions to [-1, 1] by their extremes; else they are taken as they are
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A) beside latents of the future frames (frames, crop / 8, crop / 8, 4) of every camera.

    # differs from the paper: the network that reads the cameras begins at random, where theirs begins with ImageNet's
    weights. What differs in training is listed in docs/papers/uwm.md.

    With few `looks`, or with grid=8 and recoloured=False, latents can be kept: `train --latents FOLDER`.
    """
    names = {c: "video" if i == 0 else f"video.{c.rsplit('.', 1)[-1]}" for i, c in enumerate(cameras)}
    autoencoder = VAE(folder=vae, scale=SCALE, shift=0.0, sample=True, microbatch=8)
    small = tuple(n // autoencoder.factor for n in crop)
    modalities: dict[str, Modality] = {}
    conditions: dict[str, Condition] = {}
    for camera, name in names.items():
        first = name == "video"
        mate = {} if first else {"share": "video", "clock": "video"}
        modalities[name] = Modality(
            key=camera,
            shape=(frames, *small, autoencoder.config["latent_channels"]),
            patch=(2, 4, 4),
            rate=rate,
            start=horizon / rate,
            path=PATH,
            codec=autoencoder,
            weight=1 / len(names),
            **mate,
        )
        conditions[name.replace("video", "camera")] = Condition(
            key=camera,
            shape=(frames, *crop, 3),
            rate=rate,
            start=-(frames - 1) / rate,
            encoder=ResNet(size="18", width=picture or width, per_group=16, colours="imagenet"),
            route="beside",
            required=True,
            share=None if first else "camera",
        )
    modalities["action"] = _actions(action, rate, horizon, scaled)
    conditions |= _numbers(state, rate, frames, sentence, picture or width)
    return Recipe(
        name="uwm_official",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(Stream("action", positions=True), *(Stream(n, positions=True) for n in names.values())),
        law=Independent(density=Places(TABLE), ends=0.0),
        modulation=Joint(
            frequencies=time, scale=TABLE, closed=True, whole=True, hidden=4 * time, width=time, activation="mish"
        ),
        backbone=DiT(width=width, depth=depth, heads=heads, qk_norm=False, rope=False, eps=1e-6, out=True),
        registers=registers,
        views=tuple(_view(n, resize, crop, looks, grid, recoloured) for n in names.values()),
        init="normal",
        seed=seed,
    )


def _view(
    name: str, resize: tuple[int, int], crop: tuple[int, int], looks: int | None, grid: int, recoloured: bool
) -> View:
    """How a camera is looked at: one draw for a whole batch, as theirs."""
    return View(
        of=(name.replace("video", "camera"), name),
        resize=resize,
        crop=crop,
        jitter=Jitter(),
        per="batch",
        fixed=looks,
        grid=grid,
        plain=() if recoloured else (name,),
    )


def _actions(column: str, rate: float, horizon: int, scaled: bool) -> Modality:
    """The actions' chunk, through two layers each way; a sample without actions learns their noise."""
    return Modality(
        key=column,
        shape=(horizon, None),
        patch=(1,),
        rate=rate,
        path=PATH,
        codec=MinMax() if scaled else Identity(),
        adapter=Adapter(hidden=1, ratio=4, activation="mish"),
        absent="noise",
    )


def _numbers(state: tuple[str, ...], rate: float, frames: int, sentence: int, width: int) -> Mapping[str, Condition]:
    """The conditions that are vectors: proprioception, and a sentence's features.

    # differs from the paper: proprioception is always brought to [-1, 1] by its extremes, as theirs is for DROID; for
    LIBERO theirs takes it as it is.
    """
    out = {}
    for column in state:
        name = column.rsplit(".", 1)[-1]
        out[name] = Condition(
            key=column,
            shape=(frames, None),
            rate=rate,
            start=-(frames - 1) / rate,
            encoder=Numbers(),
            codec=MinMax(),
            route="beside",
            required=True,
        )
    if sentence:
        out["sentence"] = Condition(shape=(1, sentence), encoder=Numbers(linear=width), route="beside", required=True)
    return out
