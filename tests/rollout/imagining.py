"""Stand-ins for `sample` that know the toy world: what will be seen if this is done, what was done if this is seen."""

from __future__ import annotations

import numpy as np
import reaching
import torch
from torch import Tensor

GREEN = (40, 220, 40)


def corner(pictures: Tensor) -> Tensor:
    """uint8 or float in [0, 1] (n, H, W, 3) -> (n, 2) the green point's x and y in the table's units."""
    values = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
    green = (values - torch.tensor(GREEN) / 255).abs().amax(-1) < 0.02
    rows, columns = green.any(2).float().argmax(1), green.any(1).float().argmax(1)
    return (torch.stack([columns, rows], 1) + 0.5) / (pictures.shape[1] - 3)


class Oracle:
    """Answers the queries of a planner or a tracker; what it was asked is in `asked`: (wanted, how many samples).

    Actions without a film are drawn at random, so that a policy by itself wanders.
    """

    def __init__(self) -> None:
        self.worlds: list[reaching.Reaching] = []
        self.asked: list[tuple[str, int]] = []
        self.films: list[Tensor] = []

    def open_env(self, name: str, cameras: tuple[str, ...] = (), size: int = 16) -> reaching.Reaching:
        self.worlds.append(reaching.open_env(name, cameras, size))
        return self.worlds[-1]

    def __call__(self, model, query, *, seed, **settings) -> dict[str, Tensor]:
        wanted = query.text.split("|")[0].strip()
        size = len(settings["state"])
        self.asked.append((wanted, size))
        if wanted.startswith("video"):
            return {"video": self.imagined(settings["state"], settings["action"])}
        if "video[" not in query.text and "video" in query.text:
            return {"action": self.done(settings["state"], settings["video"])}
        drawn = np.random.default_rng(seed).uniform(-1, 1, (size, 4, 2))
        return {"action": torch.from_numpy(drawn.astype(np.float32))}

    def imagined(self, state: Tensor, action: Tensor) -> Tensor:
        """(n, 4, 16, 16, 3): the present, then after each of the first three actions."""
        world, films = reaching.Reaching("reach"), []
        world.goal = self.worlds[-1].goal
        for point, chunk in zip(state[:, 0].numpy(), action.numpy(), strict=True):
            world.point, film = point.astype(float), []
            for k in range(4):
                film.append(world.observe()[reaching.CAMERA])
                world.point = np.clip(world.point + 0.1 * np.clip(chunk[k], -1, 1), 0, 1)
            films.append(np.stack(film))
        return torch.from_numpy(np.stack(films))

    def done(self, state: Tensor, film: Tensor) -> Tensor:
        """(n, 4, 2): from where the point is to where it is seen in frame 1, and so on; the last one again."""
        self.films.append(film)
        places = corner(film[0])
        places[0] = state[0, 0]
        steps = (places[1:] - places[:-1]) / 0.1
        return torch.cat([steps, steps[-1:]])[None].clamp(-1, 1)
