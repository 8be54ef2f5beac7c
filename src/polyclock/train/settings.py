"""The numbers of one training run, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..errors import unknown

Make = TypeVar("Make", bound=Callable)

# Settings that may change when a run is resumed: they touch neither weights, data order nor randomness.
HARMLESS = frozenset(
    {
        "checkpoint_every",
        "keep",
        "log_every",
        "max_bad_steps",
        "time_limit",
        "validate_every",
        "recompute",
        "shards",
        "validation_batches",
        "workers",
    }
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train; knows nothing of what is trained.

    steps               optimizer steps in all
    batch_size          samples of one forward pass, over all processes
    accumulate          forward passes per step; accumulate=2 of batch 8 is one step of batch 16
    lr, betas           of AdamW; lr is the peak of the schedule
    weight_decay        on weights with two or more dimensions; biases, gains and vectors are left alone
    factors             (parameter name prefix, factor of lr) pairs; the first prefix that fits is used; 0 freezes
    lr_new              factor of lr for what no prefix fits and joins a trained model: modalities that begin silent or
                        as copies, and what the recipe's base does not have
    warmup              steps of linear rise
    schedule            after it: "constant", or "cosine" down to min_lr at the last step
    clip                largest gradient norm; 0: no clipping
    ema                 decay of the moving average of the weights; 0: none. Update n uses min(ema, (1 + n) / (10 + n))
    precision           "fp32" (TF32 matrix products on GPUs) or "bf16" (autocast; the weights stay float32)
    lora                rank of low-rank changes that are trained in place of all weights, besides what joins; 0: none
    lora_alpha          a change counts alpha / rank times; none: once
    lora_of             parts of the names of the maps that are changed, such as attention,cross; none: all
    lora_beside         prefixes of parameters that are trained whole beside them, such as embed.video,head.video
    recompute           compute what happens within a block anew in the backward pass: less memory, more time
    shards              of several processes each keeps a share of all weights (FSDP2), in place of a copy
    validate_every      steps between validations on held-out episodes; 0: never
    validation_batches  batches of a validation, the same ones each time
    checkpoint_every    steps between checkpoints; keep: how many are kept
    log_every           steps between lines of the log
    max_bad_steps       so many steps in a row with a NaN or Inf in loss or gradients end the run; each one is skipped
    workers             loader workers of each process
    seed                of data order and all randomness
    time_limit          minutes after which the run saves and leaves; None: no limit
    """

    steps: int = 10_000
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    factors: tuple[tuple[str, float], ...] = ()
    lr_new: float = 1.0
    warmup: int = 500
    schedule: Literal["constant", "cosine"] = "cosine"
    min_lr: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    lora: int = 0
    lora_alpha: float | None = None
    lora_of: tuple[str, ...] = ()
    lora_beside: tuple[str, ...] = ()
    recompute: bool = False
    shards: bool = False
    validate_every: int = 500
    validation_batches: int = 8
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20
    max_bad_steps: int = 20
    workers: int = 2
    seed: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "validation_batches", "checkpoint_every", "keep"):
            _whole(name, getattr(self, name), least=1)
        for name in ("log_every", "max_bad_steps"):
            _whole(name, getattr(self, name), least=1)
        for name in ("warmup", "validate_every", "workers", "seed", "lora"):
            _whole(name, getattr(self, name), least=0)
        for name in ("weight_decay", "min_lr", "clip", "lr_new"):
            _number(name, getattr(self, name))
        _number("lr", self.lr, above=True)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas!r} must be two numbers in [0, 1)")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema!r} must lie in [0, 1); 0 turns it off")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr={self.min_lr} must not exceed lr={self.lr}")
        if self.schedule not in ("constant", "cosine"):
            raise unknown("schedule", self.schedule, ("constant", "cosine"))
        if self.precision not in ("fp32", "bf16"):
            raise unknown("precision", self.precision, ("fp32", "bf16"))
        if not self.lora and (self.lora_alpha or self.lora_of or self.lora_beside):
            raise ValueError("lora_alpha, lora_of and lora_beside say how low-rank changes are trained; lora is 0")
        if self.lora_alpha is not None:
            _number("lora_alpha", self.lora_alpha, above=True)
        if self.time_limit is not None:
            _number("time_limit", self.time_limit, above=True)
        for pair in self.factors:
            if len(pair) != 2 or not isinstance(pair[0], str):
                raise ValueError(f"factors holds {pair!r}; each must be (parameter name prefix, factor)")
            _number(f"factor of {pair[0]!r}", pair[1])

    @property
    def samples(self) -> int:
        """Samples in one optimizer step."""
        return self.batch_size * self.accumulate

    def rate(self, step: int) -> float:
        """The learning rate of step `step` (the first is 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = min(1.0, (step - self.warmup) / max(1, self.steps - 1 - self.warmup))
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * done))

    def factor(self, name: str, new: bool = False) -> float:
        """The factor of the learning rate for the parameter called `name`; `new`: it joins a trained model."""
        usual = self.lr_new if new else 1.0
        return next((factor for prefix, factor in self.factors if name.startswith(prefix)), usual)

    def check_factors(self, names: Iterable[str]) -> None:
        """Raise `ValueError` if a prefix of `factors` fits none of the parameter `names`."""
        names = list(names)
        for prefix, _ in self.factors:
            if not any(name.startswith(prefix) for name in names):
                raise unknown("parameter prefix in factors", prefix, sorted({name.split(".")[0] for name in names}))


def published(new: Training, further: Training) -> Callable[[Make], Make]:
    """For a function that makes a recipe: the settings that `polyclock train` takes where none are given, with new
    weights and where it goes on from a model of that recipe. Others take the defaults of `Training`."""

    def mark(function: Make) -> Make:
        function.published = (new, further)  # type: ignore[attr-defined]
        return function

    return mark


def usual(function: Callable | None, further: bool = False) -> Training:
    """The settings that are taken where none are given, for a recipe that this function makes."""
    return getattr(function, "published", (Training(), Training()))[further]


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def _number(name: str, value: object, above: bool = False) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0 or (above and number == 0):
        raise ValueError(f"{name}={value!r} must be a {'positive number' if above else 'number of at least 0'}")
