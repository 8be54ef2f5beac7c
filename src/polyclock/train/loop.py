"""The training loop. It knows no task: batches come from a loader, a loss from a function, and the rest is the same."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..dice import Dice, seed_of
from . import checkpoint, log, resume
from .checkpoint import Files
from .lock import Lock
from .lora import add_lora
from .parallel import Ranks, joined, parallelize, recompute, unsynced, whole
from .settings import Training
from .state import Save, State
from .stop import EXIT_CODE, Stop, agreed

_PART = "losses."  # before a modality's name where losses and other numbers share a dict


class Diverged(RuntimeError):
    """Too many steps in a row had a NaN or Inf in loss or gradients."""


class Stream(Protocol):
    """What the loop needs of a loader: batch k, the share of this process, for k in start..stop."""

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, as the loop sees it.

    build     makes the model; it has `encode(batch, dice) -> Batch` on the model's device
    loss      (model, latent, dice, *, step, global_size) -> (scalar, {name: scalar}): sums over this batch's samples
              divided by global_size
    loader    (source, *, batch_size, seed, rank, world, workers) -> Stream; batch_size counts all processes
    save      (model, folder, weights) -> writes the model into a folder (config.json, model.safetensors, ...), with
              these weights by name
    source    samples to train on; held_out: samples to validate on, or None
    facts     plain data that must not change when the run is resumed: the recipe and the data's fingerprint;
              "weights" where the model does not begin new, and is validated before the first step
    """

    build: Callable[[], nn.Module]
    loss: Callable[..., tuple[Tensor, Mapping[str, Tensor]]]
    loader: Callable[..., Stream]
    save: Save
    source: Sized
    held_out: Sized | None = None
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended: the step, why it stopped early (None: all steps are done), its newest checkpoint."""

    step: int
    stopped: str | None
    checkpoint: Path
    best_loss: float | None

    @property
    def exit_code(self) -> int:
        """0, 130 after SIGINT, 143 after SIGTERM."""
        return EXIT_CODE[self.stopped] if self.stopped else 0


class Step(nn.Module):
    """The model with its loss as one module: what DDP wraps, so that the loss may call the model as it likes."""

    def __init__(self, model: nn.Module, loss: Callable[..., tuple[Tensor, Mapping[str, Tensor]]]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, latent: Batch, dice: Dice, step: int, global_size: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._loss(self.model, latent, dice, step=step, global_size=global_size)


def run(
    job: Job,
    training: Training,
    out: str | Path,
    *,
    device: str | torch.device | None = None,
    tensorboard: bool = False,
    files: Files | None = None,
) -> Result:
    """Train `job` into the folder `out`, or continue what is there: the same call starts and resumes.

    Raises `ValueError` if another trainer holds the folder or the settings changed in a way that would break exactness,
    `Diverged` after `training.max_bad_steps` bad steps in a row, `OSError` where the disk is full. In each case the
    checkpoints written so far stay whole.
    """
    out, files = Path(out), files or Files()
    with joined(device) as ranks, Stop(training.time_limit) as stop, ExitStack() as stack:
        if training.batch_size % ranks.size:
            raise ValueError(f"batch_size={training.batch_size} cannot be shared evenly by {ranks.size} processes")
        if ranks.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        start = ranks.on_first(lambda: _open(job, training, out, stack, files))
        torch.manual_seed(training.seed)
        model = job.build()
        if training.lora:
            how = {"alpha": training.lora_alpha, "of": training.lora_of, "beside": training.lora_beside}
            add_lora(model, training.lora, training.seed, **how)  # type: ignore[arg-type]
        if training.recompute:
            recompute(model)
        module = parallelize(Step(model.to(ranks.device), job.loss), ranks.mesh, training.shards)
        state = State.fresh(model, training)
        if start:
            state.load(Path(start))
        paper = log.Log(out, steps=training.steps, tensorboard=tensorboard, active=ranks.first)
        stack.callback(paper.close)
        paper.say(f"{'resuming at' if start else 'starting at'} step {state.step} of {training.steps} in {out}")
        return Loop(
            job=job, training=training, out=out, ranks=ranks, state=state, module=module, stop=stop, log=paper,
            files=files,
        ).go()  # fmt: skip


def _open(job: Job, training: Training, out: Path, stack: ExitStack, files: Files) -> str | None:
    """Take the run folder over; the checkpoint to start from."""
    lock = stack.enter_context(Lock(out))
    if lock.recovered:
        print(f"{out} was left by {lock.recovered}, which is gone", flush=True)
    now = resume.describe(job.facts, training)
    start = checkpoint.recover(out / "checkpoints", files=files)
    if checkpoint.recover(out / "best", files=files):
        checkpoint.link_best(out)
    step, validated = 0, -1
    if start:
        resume.check(out, now, print)
        counters = json.loads((start / "state.json").read_text(encoding="utf-8"))
        step, validated = counters["step"], counters["validated"]
    resume.save(out, now, files)
    log.truncate(out / "log.jsonl", step, validated)
    return str(start) if start else None


@dataclass(kw_only=True)
class Loop:
    """One process's part of a run."""

    job: Job
    training: Training
    out: Path
    ranks: Ranks
    state: State
    module: nn.Module  # the model with its loss, as the processes share it
    stop: Stop
    log: log.Log
    files: Files
    reason: str | None = None
    saved: int = -1
    # Since the last row of the log: steps, seconds in them, and of these waiting for data.
    taken: int = 0
    busy: float = 0.0
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.module.train()
        self.saved = self.state.step if self.state.step else -1

    def go(self) -> Result:
        """Steps, validations and checkpoints until all is done or something says stop."""
        training, state = self.training, self.state
        loader = self._loader(self.job.source, training.batch_size, training.seed)
        batches = loader.stream(state.step * training.accumulate, training.steps * training.accumulate)
        try:
            if state.step == 0 and training.validate_every and "weights" in self.job.facts:
                self.validate()  # what the weights are worth that this run goes on from
            while self.reason is None:
                if self._due(training.validate_every) and state.validated != state.step:
                    self.validate()
                if self._due(training.checkpoint_every) and self.saved != state.step:
                    self.checkpoint()
                if state.step >= training.steps:
                    break
                self.advance(batches)
        finally:
            if hasattr(batches, "close"):
                batches.close()
        if self.reason == "time limit" and training.validate_every and state.validated != state.step:
            self.validate()  # a run with a time limit may end here for good, and its last weights may be the best
        if self.saved != state.step:
            self.checkpoint()
        done = state.step >= training.steps
        stopped = None if done else self.reason
        self.log.say(f"{'done' if done else f'stopped by {stopped}'} at step {state.step}")
        folder = self.out / "checkpoints" / f"step-{state.step:08d}"
        return Result(step=state.step, stopped=stopped, checkpoint=folder, best_loss=state.best_loss)

    def advance(self, batches: Iterator[tuple[int, Batch]]) -> None:
        """One optimizer step, or the decision of all processes not to take it."""
        training, state = self.training, self.state
        began = time.monotonic()
        # Whatever draws from the global generator (dropout, say) must not depend on how often the run was resumed.
        torch.manual_seed(seed_of(training.seed, "step", state.step, self.ranks.rank))
        rate = training.rate(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        names, sums = self._gradients(batches)
        told = self.ranks.sum(torch.cat([sums, sums.new_tensor(self.stop.flags())])).tolist()
        self.reason = agreed(told[-3:])
        values = dict(zip(names, told[:-3], strict=True))
        state.step += 1
        if all(map(math.isfinite, values.values())):
            state.optimizer.step()
            if state.average:
                state.average.update()
            state.bad_in_a_row = 0
            for name, value in {**values, "count": 1.0}.items():
                state.window[name] = state.window.get(name, 0.0) + value
        else:
            self._skip(values)
        state.optimizer.zero_grad(set_to_none=True)
        took = time.monotonic() - began
        self.taken += 1
        self.busy += took
        state.seconds += took
        if self._due(training.log_every):
            self._write_row(rate)

    def _gradients(self, batches: Iterator[tuple[int, Batch]]) -> tuple[list[str], Tensor]:
        """Clipped gradients of one step. (names, (n,) values to be summed over processes): losses and gradient norm."""
        training, model = self.training, self.state.model
        names: list[str] = []
        sums = torch.zeros((), device=self.ranks.device)
        for i in range(training.accumulate):
            asked = time.monotonic()
            k, batch = next(batches)
            self.waited += time.monotonic() - asked
            assert k == self.state.step * training.accumulate + i, "the loader lost its place"
            with nullcontext() if i == training.accumulate - 1 else unsynced(self.module):
                total, parts = self._loss(batch, i * training.batch_size, self.state.step, training.samples)
                # DDP takes the mean over processes of what is a share of a sum.
                (total * self.ranks.size).backward()
            names = ["loss", *(_PART + name for name in parts)]
            sums = sums + torch.stack([total, *parts.values()]).detach().float()
        limit = training.clip or math.inf
        norm = whole(nn.utils.clip_grad_norm_(model.parameters(), limit).detach()) / self.ranks.size
        return [*names, "grad_norm"], torch.cat([sums, norm.reshape(1).to(sums)])

    def _loss(self, batch: Batch, first: int, step: int, global_size: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one forward pass; `first` is the place of the batch's first sample among `global_size`."""
        device = self.ranks.device
        batch = replace(batch, index=batch.index + first)
        # Validation has dice of its own, the same each time; weights that follow the step are taken at the last step.
        # Each of its batches throws anew what is thrown once for a batch.
        seed = self.training.seed if self.module.training else seed_of(self.training.seed, "validation", first)
        dice = Dice(seed, step, batch.index.tolist(), device)
        with torch.no_grad():
            latent = self.state.model.encode(batch.to(device), dice)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            return self.module(latent, dice, step, global_size)

    def _skip(self, values: Mapping[str, float]) -> None:
        state = self.state
        state.bad_steps += 1
        state.bad_in_a_row += 1
        odd = ", ".join(
            f"{name.removeprefix(_PART)} {value}" for name, value in values.items() if not math.isfinite(value)
        )
        self.log.say(f"step {state.step} changed nothing: {odd}; {state.bad_steps} such steps so far")
        if state.bad_in_a_row >= self.training.max_bad_steps:
            last = f"the checkpoint of step {self.saved} is whole" if self.saved >= 0 else "there is no checkpoint yet"
            raise Diverged(
                f"{state.bad_in_a_row} steps in a row up to step {state.step} had a loss or gradient that is not "
                f"finite ({odd}); none of them changed the weights, and {last}. Try a lower lr, or look at the data"
            )

    def _write_row(self, rate: float) -> None:
        state, count = self.state, self.state.window.get("count", 0.0)
        means = {name: value / count for name, value in state.window.items()} if count else {}
        row = {
            "kind": "train",
            "step": state.step,
            "loss": means.get("loss", math.nan),
            "grad_norm": means.get("grad_norm", math.nan),
            "losses": _parts(means),
            "lr": rate,
            "steps_per_s": self.taken / self.busy,
            "data_wait": self.waited / self.busy,
            "bad_steps": state.bad_steps,
        }
        self.log.write(row)
        state.window, self.taken, self.busy, self.waited = {}, 0, 0.0, 0.0

    def validate(self) -> None:
        """Mean loss over held-out batches with averaged weights, always the same samples and dice; keeps the best."""
        state = self.state
        state.validated = state.step
        if self.job.held_out is None:
            return
        with state.average.swapped() if state.average else nullcontext():
            values = self._held_out_losses()
            loss = values["loss"]
            best = math.isfinite(loss) and (state.best_loss is None or loss < state.best_loss)
            if best:
                state.best_step, state.best_loss = state.step, loss
                self._write_best()
        row = {"kind": "validation", "step": state.step, "loss": loss, "losses": _parts(values), "best": best}
        self.log.write(row)

    @torch.no_grad()
    def _held_out_losses(self) -> dict[str, float]:
        job, training = self.job, self.training
        assert job.held_out is not None
        ranks = self.ranks.size
        size = max(ranks, min(training.batch_size, len(job.held_out)) // ranks * ranks)
        count = min(training.validation_batches, max(1, len(job.held_out) // size))
        seed = seed_of(training.seed, "validation")
        torch.manual_seed(seed)
        names: list[str] = []
        sums = torch.zeros((), device=self.ranks.device)
        self.module.eval()
        for k, batch in self._loader(job.held_out, size, seed).stream(0, count):
            total, parts = self._loss(batch, k * size, training.steps, size)
            names = ["loss", *(_PART + name for name in parts)]
            sums = sums + torch.stack([total, *parts.values()]).float()
        self.module.train()
        return dict(zip(names, (self.ranks.sum(sums) / count).tolist(), strict=True))

    def checkpoint(self) -> None:
        """Write the state of this step; the first process writes, all wait."""
        training, state = self.training, self.state
        self.log.sync()
        if state.best_loss is None:  # nothing was validated: the newest average is what there is to use
            with state.average.swapped() if state.average else nullcontext():
                self._write_best()
        notes = {
            "batches": state.step * training.accumulate,
            "seed": training.seed,
            "processes": self.ranks.size,
        }
        saved = state.tensors()
        self._write(
            "checkpoints", training.keep, lambda folder: state.save(folder, saved, self.job.save, notes, self.files)
        )
        self.saved = state.step

    def _write_best(self) -> None:
        """Write the weights that the model holds now as those to use; RUN/model leads to them."""
        weights = self.state.weights()

        def fill(folder: Path) -> None:
            self.files.make(folder / "model")
            self.job.save(self.state.model, folder / "model", weights)
            plain = {"step": self.state.step, "loss": self.state.best_loss}
            self.files.write(folder / "state.json", json.dumps(plain, indent=1) + "\n")

        # Two are kept until the link leads to the new one.
        self._write("best", 2, fill)
        if self.ranks.first:
            checkpoint.link_best(self.out)
            checkpoint.prune(self.out / "best", 1, self.files)

    def _write(self, kind: str, keep: int, fill: Callable[[Path], None]) -> None:
        state, files = self.state, self.files

        def act() -> str:
            where = self.out / kind
            return str(checkpoint.write(where, state.step, fill, keep=keep, needed=state.bytes, files=files))

        self.ranks.on_first(act)

    def _loader(self, source: Sized, batch_size: int, seed: int) -> Stream:
        ranks = self.ranks
        return self.job.loader(
            source, batch_size=batch_size, seed=seed, rank=ranks.rank, world=ranks.size, workers=self.training.workers
        )

    def _due(self, every: int) -> bool:
        """Whether something done every so many steps, and at the end, is due now."""
        step = self.state.step
        return every > 0 and step > 0 and (step % every == 0 or step == self.training.steps)


def _parts(values: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix(_PART): value for name, value in values.items() if name.startswith(_PART)}
