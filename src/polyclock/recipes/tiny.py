"""The smallest recipe that has everything: 16 px video, action, state and text, any span of any of them.

Expects    learns in a minute that the video does not jump; made for tests, first steps and broken machines
Hardware   one CPU core, a minute
Command    polyclock train tiny --data DATASET --out RUN --steps 200
"""

from __future__ import annotations

from ..backbones.dit import DiT
from ..codecs import Pixels, Quantile
from ..encoders import Bytes, Vector
from ..layout import Layout, Stream
from ..modality import Condition, Modality
from ..nn.modulation import Local
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import PerFrame


def tiny(
    *,
    cameras: tuple[str, ...] = ("observation.images.top",),  # columns; only the first is used
    state: str | None = "observation.state",  # column of the proprioception; None: not given
    action: str | None = "action",  # column of the actions; None: there are none
    image: int = 16,  # pixels to a side
    horizon: int = 4,  # frames and action steps
    rate: float = 5.0,  # of both, a second
    seed: int = 0,
) -> Recipe:
    """Video (horizon, image, image, 3) and action (horizon, A) at the same instants, each frame with its own time."""
    shape = (horizon, image, image, 3)
    modalities = {
        "video": Modality(
            key=cameras[0], shape=shape, patch=(1, 4, 4), rate=rate, codec=Pixels(), path=Linear(predict="data")
        )
    }
    conditions = {"text": Condition(key="task", encoder=Bytes(width=32, depth=1, heads=2), route="context", drop=0.1)}
    if action:
        modalities["action"] = Modality(key=action, shape=(horizon, None), patch=(1,), rate=rate, codec=Quantile())
    if state:
        conditions["state"] = Condition(
            key=state, shape=(1, None), rate=rate, encoder=Vector(width=32), codec=Quantile(), drop=0.1
        )
    return Recipe(
        name="tiny",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(*(Stream(n) for n in modalities)),
        law=PerFrame(),
        modulation=Local(),
        backbone=DiT(width=48, depth=2, heads=2),
        seed=seed,
    )
