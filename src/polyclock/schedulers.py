"""Schedulers of diffusers as solvers: one per modality; their timesteps become the rows, their `step` the move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import unknown
from .modality import Modality
from .path import Discrete, Linear, Path
from .query import Role, Roles
from .schedule import Row, assemble, check_steps

PREDICTS = {"epsilon": "noise", "sample": "data", "flow_prediction": "velocity"}


@dataclass
class Diffusers:
    """`sample(..., solver=Diffusers({"action": DDIMScheduler(...)}, steps=10))`: one scheduler per wanted modality.

    It is a schedule too, so no other may be given. Whole modalities only. Errors: a scheduler whose alpha and sigma,
    or whose prediction type, differ from the modality's path; a wanted modality without a scheduler; spans.
    """

    schedulers: Mapping[str, Any]
    steps: int = 10
    _at: dict[str, list[tuple[float, float]]] = field(default_factory=dict, repr=False)

    @property
    def schedule(self) -> Diffusers:
        return self

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]:
        check_steps(self.steps)
        for name in self.schedulers:
            if name not in modalities:
                raise unknown("modality for a scheduler", name, modalities)
        wanted, grids = {}, {}
        for name in (n for n in roles if Role.WANT in roles[n]):
            if set(roles[name]) != {Role.WANT}:
                raise ValueError(f"schedulers move whole modalities, but only some frames of {name!r} are wanted")
            if name not in self.schedulers:
                raise ValueError(f"{name!r} is wanted but has no scheduler; given: {', '.join(self.schedulers)}")
            grids[name] = self._times(name, modalities[name].path)
        lengths = {n: len(g) for n, g in grids.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"schedulers must have the same number of timesteps, but have {lengths}")
        for name, grid in grids.items():
            wanted[name] = grid[:, None].expand(-1, modalities[name].frames)
        return assemble(roles, modalities, max(lengths.values()), wanted)

    def _times(self, name: str, path: Path) -> Tensor:
        """(K + 1,) path times of a scheduler's timesteps, ending in 0. Checks that both mean the same x_t."""
        scheduler = self.schedulers[name]
        scheduler.set_timesteps(self.steps)
        config = scheduler.config
        flow = hasattr(scheduler, "sigmas") and not hasattr(scheduler, "alphas_cumprod")
        flow = flow or bool(config.get("use_flow_sigmas"))
        kind = config.get("prediction_type", "flow_prediction" if flow else "epsilon")
        if PREDICTS.get(kind) != path.predict:
            raise ValueError(
                f"the scheduler of {name!r} expects {kind!r}, but the path of {name!r} predicts {path.predict!r}"
            )
        if flow:
            if not isinstance(path, Linear):
                raise ValueError(f"the scheduler of {name!r} walks the straight path, but {name!r} is on {path}")
            times = scheduler.sigmas[: len(scheduler.timesteps)].float()
        else:
            table = scheduler.alphas_cumprod
            if not isinstance(path, Discrete) or path.steps != len(table):
                raise ValueError(f"the scheduler of {name!r} has a table of {len(table)} steps; {name!r} is on {path}")
            times = (scheduler.timesteps.float() + 1) / path.steps
            alpha = table[scheduler.timesteps.long()].sqrt()
            if not torch.allclose(alpha.float(), path.alpha(times), atol=1e-4):
                raise ValueError(f"alpha of the scheduler of {name!r} differs from that of the path of {name!r}")
        grid = torch.cat([times.cpu(), torch.zeros(1)])
        self._at[name] = list(zip(grid.tolist(), scheduler.timesteps.tolist(), strict=False))
        return grid

    def move(
        self,
        x: dict[str, Tensor],
        now: Row,
        then: Row,
        predict: Callable[[Mapping[str, Tensor], Row], dict[str, Tensor]],
        modalities: Mapping[str, Modality],
    ) -> dict[str, Tensor]:
        """x[name] (B, T, *S, C) moved by each modality's own scheduler."""
        out = predict(x, now)
        moved = {}
        for name, scheduler in self.schedulers.items():
            if name not in now or torch.equal(now[name], then[name]):
                continue
            time = float(now[name].max())
            step = next(s for t, s in self._at[name] if abs(t - time) < 1e-6)
            moved[name] = scheduler.step(out[name], torch.tensor(step), x[name], return_dict=False)[0]
        return moved
