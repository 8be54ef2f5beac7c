"""Solvers by name, and schedulers of diffusers as solvers: one per modality; their timesteps become the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import missing, unknown
from .modality import Modality, spread
from .model import WorldModel
from .path import Discrete, Linear, Path
from .query import Query, Role, Roles
from .schedule import Row, Together, assemble, check_steps
from .solver import Euler, Heun, Solver, usual_steps

PREDICTS = {"epsilon": "noise", "sample": "data", "flow_prediction": "velocity"}
OURS: dict[str, Callable[[], Solver]] = {"euler": Euler, "heun": Heun}
THEIRS = {"dpm++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler"}
SOLVERS = (*OURS, *THEIRS)


def walk(solver: str, steps: int | None, model: WorldModel, query: str | Query, shift: float = 1.0) -> dict[str, Any]:
    """The arguments of `sample` that walk a query in `steps` of a named solver: steps, or a schedule, and solver.

    euler  one evaluation a step: Euler on a straight path, DDIM on a variance-preserving one
    heun   two evaluations a step (Karras et al. 2022)
    dpm++  DPM-Solver++ of second order (Lu et al. 2022), through diffusers: one evaluation a step
    unipc  UniPC of second order (Zhao et al. 2023), through diffusers: one evaluation a step

    `shift` pushes the times of all towards noise: s t / (1 + (s - 1) t). Errors: an unknown name; a shift where the
    times are those of a table, or one alone; those of `Diffusers` for the last two.
    """
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    if shift != 1.0:
        _check_shift(shift, model)
    if solver in OURS:
        if shift == 1.0:
            return {"steps": steps, "solver": OURS[solver]()}
        even = Together(steps=steps or usual_steps(model), shift=dict.fromkeys(model.modalities, shift))
        return {"steps": None, "schedule": even, "solver": OURS[solver]()}
    if usual_steps(model) == 1:
        raise ValueError(f"this model answers in one step, which leaves nothing for {solver} to do; solver: euler")
    try:
        import diffusers
    except ImportError as error:
        raise missing("diffusers", "hf") from error
    roles = Query.parse(query).roles(model.modalities, model.conditions)
    wanted = {n: model.modalities[n].path for n in roles if Role.WANT in roles[n]}
    kind = getattr(diffusers, THEIRS[solver])
    more = {} if shift == 1.0 else {"flow_shift": shift}
    made = {n: kind.from_config(_config(n, path) | more) for n, path in wanted.items()}
    return {"steps": None, "solver": Diffusers(made, steps=usual_steps(model) if steps is None else steps)}


def _check_shift(shift: float, model: WorldModel) -> None:
    """Errors: ValueError for a shift that is not above 0, or times that cannot be shifted."""
    if not shift > 0:
        raise ValueError(f"shift={shift} of the solver's times; above 0 is possible, and 1 leaves them even")
    tables = [n for n, m in model.modalities.items() if isinstance(m.path, Discrete)]
    if tables or usual_steps(model) == 1:
        why = f"the times of {tables[0]!r} are those of a table" if tables else "this model answers in one step"
        raise ValueError(f"shift={shift:g} of the solver's times: {why}; possible: 1")


def _config(name: str, path: Path) -> dict[str, Any]:
    """What a scheduler of diffusers must be told to walk a path. Errors: one that they do not know."""
    told: dict[str, Any] = {"prediction_type": {ours: theirs for theirs, ours in PREDICTS.items()}[path.predict]}
    if path.clip is not None:
        if path.clip != 1:
            raise ValueError(
                f"{name!r} limits the clean estimate to {path.clip:g}, which schedulers of diffusers can do to 1 "
                "alone; solver: euler"
            )
        # A noise prediction says next to nothing of the data at the first rows of a table: its errors must be cut.
        told |= {"thresholding": True, "sample_max_value": 1.0}
    if isinstance(path, Linear):
        return told | {"use_flow_sigmas": True}
    if isinstance(path, Discrete):
        places = torch.arange(path.steps + 1) / path.steps
        left = path.alpha(places) ** 2
        betas = (1 - left[1:] / left[:-1]).tolist()
        return told | {
            "num_train_timesteps": path.steps, "trained_betas": betas, "timestep_spacing": path.spacing,
        }  # fmt: skip
    raise ValueError(
        f"{name!r} is on the path {path}, which schedulers of diffusers do not know; solver: euler or heun"
    )


def _looks_at_all(config: Mapping[str, Any]) -> bool:
    """Whether what a scheduler makes of a number depends on the others: a threshold of 1 is a plain clip."""
    return bool(config.get("thresholding")) and config.get("sample_max_value", 1.0) > 1.0


@dataclass
class Diffusers:
    """`sample(..., solver=Diffusers({"action": DDIMScheduler(...)}, steps=10))`: one scheduler per wanted modality.

    It is a schedule too, so no other may be given. Frames that are not wanted wait. Errors: a scheduler whose alpha and
    sigma, or whose prediction type, differ from the modality's path; a wanted modality without a scheduler; one that
    looks at all frames at once (thresholding, unless it is at 1 for all) where only some are wanted.
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
            if name not in self.schedulers:
                raise ValueError(f"{name!r} is wanted but has no scheduler; given: {', '.join(self.schedulers)}")
            if set(roles[name]) != {Role.WANT} and _looks_at_all(self.schedulers[name].config):
                raise ValueError(f"thresholding looks at all frames of {name!r} at once, but only some are wanted")
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
            if not scheduler.timesteps.is_floating_point():  # networks are told whole timesteps, as in training
                times = scheduler.timesteps / config.num_train_timesteps
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
            going = now[name] != then[name]
            time = float(now[name][going].max())
            step = next(s for t, s in self._at[name] if abs(t - time) < 1e-6)
            stepped = scheduler.step(out[name], torch.tensor(step), x[name], return_dict=False)[0]
            here = spread(going.to(stepped.device)[None], stepped.ndim, modalities[name].patch[0])
            moved[name] = torch.where(here, stepped, x[name])
        return moved
