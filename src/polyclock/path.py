"""Paths between data and noise: x_t = alpha(t) x + sigma(t) eps, with t = 0 data and t = 1 noise.

Written once, here: the target that a network learns, the inverse of that target, and the one step rule
x_u = alpha(u) x + sigma(u) eps, which is Euler on the straight path and DDIM on a variance-preserving one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["velocity", "noise", "data"]
PREDICTIONS = ("velocity", "noise", "data")


@dataclass(frozen=True, kw_only=True)
class Path:
    """x_t = alpha(t) x + sigma(t) eps, and what the network predicts of it.

    `t_max` is the largest time a wanted value may start from: a noise prediction says nothing about x where
    alpha = 0. `clip` limits the clean estimate to [-clip, clip]. `unknown` is the time of what is neither wanted
    nor given. Times are float32, or float64 where values are, and broadcast against values.

    With `spread`, the standard deviation of the data, the network is shown g x_t in place of x_t, the best linear
    estimate of the data, g = alpha s^2 / (alpha^2 s^2 + sigma^2), which is nothing at all at t = 1, and answers in
    units of the spread. Noise that means nothing is hard to learn to ignore. That estimate is not added to the answer
    (as in Karras et al. 2022): what a network fails to take away of its noise would then stay in every sample.

    Where something is known that the data are `near`, the spread is that of the difference, and the network is shown
    and says the difference in units of it.
    """

    predict: Prediction = "velocity"
    t_max: float = 1.0
    clip: float | None = None
    unknown: float = 1.0
    spread: float | None = None

    def __post_init__(self) -> None:
        self._check()
        if self.predict == "noise" and self.alpha(torch.tensor(self.t_max)) < 1e-3:
            raise ValueError(
                f"{type(self).__name__}(predict='noise', t_max={self.t_max}): alpha(t_max) is 0, where noise says "
                "nothing about the data; use a smaller t_max or another prediction"
            )

    def _check(self) -> None:
        """Errors: ValueError for a number or a prediction that no path can have."""
        if self.predict not in PREDICTIONS:
            raise ValueError(f"predict={self.predict!r}; possible: {', '.join(PREDICTIONS)}")
        if self.spread is not None and (self.predict != "data" or self.spread <= 0):
            raise ValueError(f"spread={self.spread} is a positive number, and for predict='data' only")
        if not 0 < self.t_max <= 1 or not 0 < self.unknown <= 1:
            raise ValueError(f"t_max={self.t_max} and unknown={self.unknown} must lie in (0, 1]")

    def alpha(self, t: Tensor) -> Tensor:
        """Share of data at time t, same shape as t."""
        raise NotImplementedError("alpha(t) -> Tensor")

    def sigma(self, t: Tensor) -> Tensor:
        """Share of noise at time t, same shape as t."""
        raise NotImplementedError("sigma(t) -> Tensor")

    def d_alpha(self, t: Tensor) -> Tensor:
        """d alpha / d t, same shape as t."""
        raise NotImplementedError("d_alpha(t) -> Tensor")

    def d_sigma(self, t: Tensor) -> Tensor:
        """d sigma / d t, same shape as t."""
        raise NotImplementedError("d_sigma(t) -> Tensor")

    def shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, each the shape of t."""
        return self.alpha(t), self.sigma(t)

    def stamp(self, t: Tensor) -> Tensor:
        """What the network is told about t, same shape as t, in [0, 1]."""
        return t

    def rows(self, steps: int) -> Tensor:
        """(steps + 1,) solver times, falling from t_max to 0."""
        return torch.linspace(self.t_max, 0.0, steps + 1)

    def noise(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t from data x and noise eps of one shape; exactly x where sigma(t) = 0."""
        a, s = self.shares(t)
        return a * x + s * eps

    def target(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network should output, the shape of x. The velocity is d x_t / d t."""
        if self.predict == "noise":
            return eps
        if self.predict == "data":
            return x
        return self.d_alpha(t) * x + self.d_sigma(t) * eps

    def seen(self, x_t: Tensor, t: Tensor, near: Tensor | None = None) -> Tensor:
        """What the network is shown of x_t, the shape of x_t."""
        if self.spread is None:
            return x_t
        a, s = self.alpha(t), self.sigma(t)
        share = a * self.spread / (a**2 * self.spread**2 + s**2)
        return share * self.spread * x_t if near is None else share * (x_t - a * near)

    def answer(self, said: Tensor, near: Tensor | None = None) -> Tensor:
        """What the network said -> its prediction, the same shape."""
        if self.spread is None:
            return said
        return self.spread * said if near is None else near + self.spread * said

    def split(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Network output -> (clean estimate, noise estimate), both the shape of x_t. The inverse of `target`."""
        a, s = self.shares(t)
        if self.predict == "velocity":
            da, ds = self.d_alpha(t), self.d_sigma(t)
            det = a * ds - s * da
            x, eps = (ds * x_t - s * out) / det, (a * out - da * x_t) / det
        elif self.predict == "noise":
            x, eps = (x_t - s * out) / a.clamp_min(1e-6), out
        else:
            # At t = 0 no noise is left to be estimated; moving from there is never asked for.
            x, eps = out, (x_t - a * out) / s.clamp_min(1e-6)
        if self.clip is None:
            return x, eps
        # The noise estimate is left as it is, the convention of the DDIM scheduler of diffusers.
        return x.clamp(-self.clip, self.clip), eps

    def move(self, out: Tensor, x_t: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """One step from time t to time u. Where t == u nothing moves, to the bit."""
        x, eps = self.split(out, x_t, t)
        return torch.where(t == u, x_t, self.noise(x, eps, u))


@dataclass(frozen=True, kw_only=True)
class Linear(Path):
    """x_t = (1 - t) x + t eps: rectified flow, conditional optimal transport."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True, kw_only=True)
class Cosine(Path):
    """x_t = cos(pi t / 2) x + sin(pi t / 2) eps: variance preserving, in continuous time."""

    t_max: float = 0.99

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def d_alpha(self, t: Tensor) -> Tensor:
        return -(math.pi / 2) * torch.sin(t * (math.pi / 2))

    def d_sigma(self, t: Tensor) -> Tensor:
        return (math.pi / 2) * torch.cos(t * (math.pi / 2))


@cache
def table_shares(steps: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(steps + 1,) shares of data and of noise at each place of the table, whose own numbers are float32."""
    table = squared_cosine(steps).to(device, dtype)
    return table.sqrt(), (1 - table).sqrt()


@cache
def squared_cosine(steps: int) -> Tensor:
    """(steps + 1,) alpha_bar of improved DDPM (Nichol and Dhariwal 2021, eq. 17), betas capped at 0.999; [0] is 1."""

    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - f((i + 1) / steps) / f(i / steps), 0.999) for i in range(steps)]
    return torch.cat([torch.ones(1), torch.cumprod(1 - torch.tensor(betas, dtype=torch.float32), 0)])


@dataclass(frozen=True, kw_only=True)
class Discrete(Path):
    """The DDPM table: times t = (i + 1) / steps for i = -1 .. steps - 1, where i = -1 is data.

    `spacing` is how the solver picks its rows: "leading" (90, 80, .. 0 of 100 in 10 steps: what DDIM schedulers
    default to) or "trailing" (99, 89, .. 9). `clip` is applied to the clean estimate, as those schedulers do.
    Between table entries a time is rounded to the nearest entry. Errors: an unknown spacing; a velocity, for which a
    table has no derivative; an empty table.
    """

    steps: int = 100
    spacing: Literal["leading", "trailing"] = "leading"
    predict: Prediction = "noise"
    clip: float | None = 1.0
    t_max: float = 1.0
    unknown: float = 1.0

    def __post_init__(self) -> None:
        if self.spacing not in ("leading", "trailing"):
            raise ValueError(f"spacing={self.spacing!r}; possible: leading, trailing")
        if self.predict == "velocity":
            raise ValueError("Discrete has no derivative in t; predict must be 'noise' or 'data'")
        if self.steps < 1:
            raise ValueError(f"a table of {self.steps} steps; at least 1 is possible")
        self._check()  # and no more: alpha is above 0 at every place of the table

    def index(self, t: Tensor) -> Tensor:
        """t in [0, 1] -> integer table place, 0 (data) .. steps, same shape."""
        return (t * self.steps).round().long().clamp(0, self.steps)

    def shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, each the shape of t."""
        data, noise = table_shares(self.steps, t.device, t.dtype)
        place = self.index(t)
        return data[place], noise[place]

    def alpha(self, t: Tensor) -> Tensor:
        return self.shares(t)[0]

    def sigma(self, t: Tensor) -> Tensor:
        return self.shares(t)[1]

    def stamp(self, t: Tensor) -> Tensor:
        """max(i, 0) / steps: data shares the stamp of the first noise level."""
        return ((t * self.steps).round() - 1).clamp(0, self.steps - 1) / self.steps

    def rows(self, steps: int) -> Tensor:
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} solver steps on a table of {self.steps}; possible: 1 to {self.steps}")
        if self.spacing == "leading":
            places = torch.arange(steps).flip(0) * (self.steps // steps)
        else:
            places = (self.steps - torch.arange(steps) * (self.steps / steps)).round().long() - 1
        places = places[(places + 1) / self.steps <= self.t_max + 1e-6]
        if not len(places):
            raise ValueError(f"none of {steps} solver steps ({self.spacing}) begins at t_max={self.t_max} or below")
        return torch.cat([(places + 1).float() / self.steps, torch.zeros(1)])
