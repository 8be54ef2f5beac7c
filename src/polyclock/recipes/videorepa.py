"""VideoREPA: a video network whose tokens are to relate to each other as an expert's features do.

Paper      VideoREPA (arXiv 2505.23656), the form of its loss from the official code
Expects    at our scale, docs/results.md
Hardware   published: 8 GPUs with 4 samples each; with Wan2.1 as of dreamworld
Command    polyclock train videorepa --base WAN --data ANNOTATED --out RUN --steps 4000 --batch-size 32 --lr 2e-6 \
               --warmup 100 --schedule constant --betas 0.9,0.95 --weight-decay 1e-4 --clip 1 --ema 0 --precision bf16 \
               --seed 42
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..codecs import Chain, Resample, WanVAE
from ..codecs.codec import Codec
from ..data.annotation import column_name
from ..recipe import Recipe
from ..relations import Relations
from .dreamworld import codecs, dreamworld


def videorepa(
    *,
    base: str | None = None,  # a Wan in diffusers' format; none: a small network on pixels
    cameras: tuple[str, ...] = ("video",),  # the first is the column of the video, the features lie beside it
    image: tuple[int, int] | None = None,  # height,width in pixels; none: 480,832, or 64,64 without a base
    frames: int | None = None,  # pictures of a clip; none: 81, or 8 without a base
    rate: float | None = None,  # of them a second; none: 16, or 10 without a base
    features: tuple[str, ...] = ("semantics",),  # columns that are compared with; of a world: semantics
    width: int = 768,  # numbers in a feature; of a world: the classes
    block: int | None = None,  # behind which tokens are compared; none: at 0.6 of the depth
    pairs: Literal["all", "within", "across"] = "all",  # of tokens: all, of one frame, of different frames
    weight: float = 0.5,  # of each comparison
    margin: float = 0.1,  # difference that costs nothing
    hidden: int = 2048,  # width of the small network between tokens and features
    drop_text: float = 0.1,  # share of samples without their caption
    first: float = 0.0,  # share of samples whose first picture is given
    still: bool = False,  # the camera stands still: every place of the picture has learnt values
    detail: bool = False,  # convolutions beside the tokens
    seed: int = 0,
) -> Recipe:
    """The video alone, with an auxiliary objective for each kind of feature.

    # differs from the paper: features of single pictures at the token grid, where theirs come from a video encoder at
    another resolution; Wan and its clips of 81 frames at 480 x 832, where theirs is CogVideoX with 49 at 480 x 720.
    """
    found = dreamworld(
        base=base, features=(), cameras=cameras, image=image, frames=frames, rate=rate, drop_text=drop_text,
        first=first, still=still, detail=detail, seed=seed,
    )  # fmt: skip
    film = found.modalities["video"]
    deep = block or max(1, round(0.6 * found.backbone.numbers[1]))
    large = isinstance(film.codec, WanVAE)
    grid = (film.grid[1], film.grid[2])
    time = int(film.shape[0] or 0)
    pixels = (int(film.shape[1] or 0), int(film.shape[2] or 0))  # where there is no autoencoder
    exact = codecs(film, pixels, 0.15, 13, True, 8, "none", "causal", "bilinear")
    auxiliary = {}
    for name in features:
        channels, codec, column = width, _cells(grid, large), name
        if not large:
            channels, plain, column = exact[name]
            codec = Chain(plain, _cells(grid, large, pixels))
        auxiliary[f"like_{name}"] = Relations(
            of="video", block=deep, shape=(time, *grid, channels), key=column_name(cameras[0], column), rate=film.rate,
            codec=codec, pairs=pairs, skip=int(large), before=int(large), margin=margin, hidden=hidden, weight=weight,
        )  # fmt: skip
    return replace(found, name="videorepa", auxiliary=auxiliary)


def _cells(grid: tuple[int, int], large: bool, image: tuple[int, int] | None = None) -> Codec:
    """Features on the tokens' grid, over time as an autoencoder has it."""
    return Resample(size=grid, space="area" if image else "bilinear", group=4 if large else 1, grid=image)
