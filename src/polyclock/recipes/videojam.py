"""VideoJAM: a video network that predicts the flow beside the video, as channels of the same tokens.

Paper      VideoJAM (arXiv 2502.02492), no official code. Its drop rates, and guidance in the first half of the steps
           alone, are quoted second hand
Expects    at our scale, docs/results.md
Hardware   published: 32 GPUs for a network of 4 billion weights; with Wan2.1 as of dreamworld
Command    polyclock train videojam --base WAN --data ANNOTATED --out RUN --image 256,256 --steps 50000 \
               --batch-size 32 --lr 5e-6 --warmup 0 --schedule constant
"""

from __future__ import annotations

from dataclasses import replace

from ..density import shifted
from ..guidance import Guide
from ..recipe import Recipe
from .dreamworld import dreamworld


def videojam(
    *,
    base: str | None = None,  # a Wan in diffusers' format; none: a small network on pixels
    cameras: tuple[str, ...] = ("video",),  # the first is the column of the video, its flow lies beside it
    image: tuple[int, int] | None = None,  # height,width in pixels; none: 480,832, or 64,64 without a base
    frames: int | None = None,  # pictures of a clip; none: 81, or 8 without a base
    rate: float | None = None,  # of them a second; none: 16, or 10 without a base
    drop_text: float = 0.3,  # share of samples without their caption
    drop_flow: float = 0.2,  # share without their flow
    reach: float = 0.15,  # flow that has the full colour, in diagonals of the picture
    first: float = 0.0,  # share of samples whose first picture is given
    still: bool = False,  # the camera stands still: every place of the picture has learnt values
    detail: bool = False,  # convolutions beside the tokens
    seed: int = 0,
) -> Recipe:
    """Video and flow in one stream on one clock; both losses count alike, for ever.

    # differs from the paper: it begins as a published Wan, where theirs begins as a network of their own.
    """
    found = dreamworld(
        base=base, features=("flow",), cameras=cameras, image=image, frames=frames, rate=rate, weight=1.0, annealed=0,
        drop=drop_flow, drop_text=drop_text, reach=reach, first=first, still=still, detail=detail, seed=seed,
    )  # fmt: skip
    return replace(found, name="videojam")


def guides(text: float = 5.0, flow: float = 3.0, shift: float = 1.0) -> tuple[Guide, ...]:
    """w1 and w2, the latter in the first half of the steps: above the time that is in their middle."""
    half = float(shifted(0.5, shift))  # type: ignore[arg-type]
    return Guide(weight=text, drop={"text"}), Guide(weight=flow, drop={"flow"}, interval=(half, 1.0))
