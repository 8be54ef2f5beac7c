"""The loop with the real parts: a recipe, windows over a data set, the loader, the objective, model folders."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from standin import end, in_child, same, saved
from test_parallel import assert_close, together

from polyclock.commands import info
from polyclock.data import Episode, Facts
from polyclock.pretrained import from_pretrained
from polyclock.recipes import tiny
from polyclock.train import checkpoint, job, log
from polyclock.train.loop import Result
from polyclock.train.settings import Training

SETTINGS = Training(
    steps=8, batch_size=4, lr=1e-3, warmup=2, ema=0.9, validate_every=4, validation_batches=1, checkpoint_every=3,
    keep=2, log_every=2, workers=0, seed=5,
)  # fmt: skip


@dataclass(frozen=True)
class Squares:
    """Episodes in memory: a square moves by the action; the second episode has no camera, the third no sentence."""

    numbers: tuple[int, ...] = (0, 1, 2, 3)

    @property
    def facts(self) -> Facts:
        columns = {"observation.images.top": (16, 16, 3), "observation.state": (2,), "action": (2,), "task": ()}
        return Facts(fps=5.0, cameras=("observation.images.top",), tasks=("move",), columns=columns)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return tuple(Episode(index=n, length=9 + n, tasks=("move",)) for n in self.numbers)

    @property
    def fingerprint(self) -> str:
        return f"squares {self.numbers}"

    def has(self, episode: int, key: str) -> bool:
        return (episode, key) not in ((1, "observation.images.top"), (2, "task"))

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        if key == "task":
            return "move"
        generator = np.random.default_rng(episode)
        action = generator.normal(size=(9 + episode, 2)).astype(np.float32)
        place = np.clip(6 + action.cumsum(0), 0, 12)
        if key == "action":
            return action[list(frames)]
        if key == "observation.state":
            return place[list(frames)].astype(np.float32)
        out = np.zeros((len(frames), 16, 16, 3), np.uint8)
        for i, frame in enumerate(frames):
            row, column = place[frame].astype(int)
            out[i, row : row + 4, column : column + 4] = 255
        return out

    def column(self, key: str) -> Iterator[np.ndarray]:
        for e in self.episodes:
            value = self.read(e.index, key, range(e.length))
            assert isinstance(value, np.ndarray)
            yield value

    def only(self, indices: Iterable[int]) -> Squares:
        return Squares(tuple(sorted(indices)))

    def without(self, indices: Iterable[int]) -> Squares:
        return Squares(tuple(n for n in self.numbers if n not in set(indices)))


def train(folder: Path, **settings: object) -> Result:
    return job.train(tiny(), Squares(), replace(SETTINGS, **settings), folder, held_out=(3,))


def die(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the objective sends a signal to its own process at a step of training."""
    whole = job.loss

    def ends(model, latent, law, dice, *, step: int, global_size: int, at: int = step):
        if step == at and model.training:
            os.kill(os.getpid(), number)
        return whole(model, latent, law, dice, step=step, global_size=global_size)

    monkeypatch.setattr(job, "loss", ends)


def test_a_recipe_is_trained_into_a_model_folder(tmp_path: Path) -> None:
    result = train(tmp_path, steps=60, log_every=20, validate_every=30, checkpoint_every=60)
    rows = [row for row in log.read(tmp_path / "log.jsonl") if row["kind"] == "train"]
    assert set(rows[0]["losses"]) == {"video", "action"}
    assert rows[-1]["losses"]["video"] < rows[0]["losses"]["video"]
    model = from_pretrained(tmp_path / "model")
    average = saved(result.checkpoint)
    step = json.loads((tmp_path / "best").glob("*/state.json").__next__().read_text())["step"]
    assert checkpoint.model_folder(tmp_path).parent.name == f"step-{step:08d}"
    weights = dict(model.named_parameters())
    assert any(not torch.equal(weights[n], average[f"model/model.safetensors:{n}"]) for n in weights), "not averaged"
    plain = json.loads((tmp_path / "run.json").read_text())["facts"]
    assert plain["recipe"]["name"] == "tiny" and plain["data"]["held_out"] == [3] and plain["codecs"]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_killed_and_resumed_is_never_killed(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        die(5, signal.SIGKILL, patch)
        assert end(in_child(lambda: train(tmp_path / "parts", workers=workers))) == -signal.SIGKILL
    with monkeypatch.context() as patch:
        die(6, signal.SIGTERM, patch)
        assert train(tmp_path / "parts", workers=workers).stopped == "SIGTERM"
    again = train(tmp_path / "parts", workers=workers)
    assert same(reference.checkpoint, again.checkpoint)
    rows, others = (log.read(tmp_path / name / "log.jsonl") for name in ("whole", "parts"))
    assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in others]


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", steps=4, batch_size=8)
    halves = train(tmp_path / "halves", steps=4, batch_size=4, accumulate=2)
    assert_close(whole.checkpoint, halves.checkpoint, atol=1e-4)


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    """The second episode has no camera, so one process may hold a batch without any video."""
    one = train(tmp_path / "one", log_every=1)
    assert together(lambda rank: train(tmp_path / "two", log_every=1)) == [0, 0]
    rows, others = (log.read(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(rows) == len(others) == 10
    for row, other in zip(rows, others, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], abs=1e-6)
        assert other["losses"] == pytest.approx(row["losses"], abs=1e-6)
    assert_close(one.checkpoint, tmp_path / "two" / "checkpoints" / one.checkpoint.name, atol=1e-4)


def test_another_recipe_or_other_data_are_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ValueError, match="because facts.recipe.seed was 0 and is now 1"):
        job.train(tiny(seed=1), Squares(), SETTINGS, tmp_path, held_out=(3,))
    with pytest.raises(ValueError, match="cannot be resumed because facts"):
        job.train(tiny(), Squares((0, 1, 3)), SETTINGS, tmp_path, held_out=(3,))


def test_its_run_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, steps=2)
    assert info.run([str(tmp_path)]) == 0
    assert "data       held out [3], squares (0, 1, 2" in capsys.readouterr().out


def test_bf16_trains_the_real_model(tmp_path: Path) -> None:
    result = train(tmp_path, precision="bf16", steps=3)
    assert {tensor.dtype for tensor in saved(result.checkpoint).values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in saved(result.checkpoint).values())
