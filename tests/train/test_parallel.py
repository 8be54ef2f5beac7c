"""Two gloo processes are one: the same losses, the same samples, checkpoints that either can continue."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from standin import SETTINGS, Numbers, build, end, in_child, loss, make_job, saved
from torch import nn

from polyclock.train import log
from polyclock.train.loop import Job, run
from polyclock.train.parallel import joined


def plain_job(seen: list[tuple[int, int]] | None = None, source: Numbers | None = None) -> Job:
    """Without dropout, which no two divisions of a batch draw alike."""

    def model() -> nn.Module:
        net = build()
        net.drop = nn.Identity()
        return net

    return replace(make_job(source, seen=seen), build=model)


def together(act: Callable[[int], object], size: int = 2) -> list[int]:
    """Run `act(rank)` in processes as torchrun starts them; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        act(rank)

    return [end(pid) for pid in [in_child(lambda rank=rank: one(rank)) for rank in range(size)]]


def train_two(folder: Path, **settings: object) -> list[int]:
    """Two processes; each notes the samples it was given."""

    def act(rank: int) -> None:
        seen: list[tuple[int, int]] = []
        try:
            run(plain_job(seen), replace(SETTINGS, **settings), folder)
        finally:
            with (folder / f"seen-{rank}.json").open("a") as file:
                file.write(json.dumps(seen) + "\n")

    return together(act)


def seen_by(folder: Path) -> list[tuple[int, int]]:
    lines = [line for path in folder.glob("seen-*.json") for line in path.read_text().splitlines()]
    return sorted((k, i) for line in lines for k, i in json.loads(line))


def assert_close(first: Path, second: Path, atol: float = 1e-6) -> None:
    a, b = saved(first), saved(second)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], atol=atol, rtol=1e-5), name


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    settings = {"accumulate": 2, "batch_size": 10, "log_every": 1}
    one = run(plain_job(), replace(SETTINGS, **settings), tmp_path / "one")
    assert train_two(tmp_path / "two", **settings) == [0, 0]
    rows, others = (log.read(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(rows) == len(others) == 15
    for row, other in zip(rows, others, strict=True):
        assert (row["kind"], row["step"]) == (other["kind"], other["step"])
        assert other["loss"] == pytest.approx(row["loss"], abs=1e-6)
        assert other["losses"] == pytest.approx(row["losses"], abs=1e-6)
        assert row["kind"] == "validation" or other["grad_norm"] == pytest.approx(row["grad_norm"], abs=1e-5)
    two = tmp_path / "two" / "checkpoints" / one.checkpoint.name
    assert_close(one.checkpoint, two, atol=1e-5)
    assert json.loads((two / "state.json").read_text())["processes"] == 2


@pytest.mark.parametrize("order", ["one then two", "two then one"])
def test_a_run_changes_its_number_of_processes(tmp_path: Path, order: str) -> None:
    """Every sample of an epoch once, wherever the change falls, and the weights of a run that never changed."""
    settings = {"schedule": "constant", "steps": 25, "validate_every": 0, "checkpoint_every": 7}
    whole: list[tuple[int, int]] = []
    reference = run(plain_job(whole), replace(SETTINGS, **settings), tmp_path / "whole")
    folder = tmp_path / "parts"
    folder.mkdir()
    mine: list[tuple[int, int]] = []
    half = {**settings, "steps": 11}
    if order == "one then two":
        run(plain_job(mine), replace(SETTINGS, **half), folder)
        assert train_two(folder, **settings) == [0, 0]
    else:
        assert train_two(folder, **half) == [0, 0]
        run(plain_job(mine), replace(SETTINGS, **settings), folder)
    everything = sorted(mine + seen_by(folder))
    assert everything == sorted(whole)
    # 25 steps of 8 are 4 epochs of 50 samples.
    samples = [i for _, i in everything]
    assert len(samples) == 200 and {samples.count(i) for i in range(50)} == {4}
    assert_close(reference.checkpoint, folder / "checkpoints" / "step-00000025", atol=1e-5)


def test_what_one_process_cannot_use_none_takes(tmp_path: Path) -> None:
    """A NaN in the share of one process: both skip, and their weights stay equal and finite."""

    def act(rank: int) -> None:
        def spoilt(model, latent, dice, *, step, global_size):
            total, parts = loss(model, latent, dice, step=step, global_size=global_size)
            return (total * float("nan") if step == 3 and rank == 1 else total), parts

        run(replace(plain_job(), loss=spoilt), replace(SETTINGS, validate_every=0), tmp_path)

    assert together(act) == [0, 0]
    plain = json.loads((tmp_path / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert plain["bad_steps"] == 1 and plain["updates"] == 11
    assert all(value.isfinite().all() for value in saved(tmp_path / "checkpoints" / "step-00000012").values())


def test_a_signal_to_one_stops_both_at_the_same_step(tmp_path: Path) -> None:
    def act(rank: int) -> None:
        def ends(model, latent, dice, **settings):
            if settings["step"] == 5 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss(model, latent, dice, **settings)

        result = run(replace(plain_job(), loss=ends), SETTINGS, tmp_path)
        assert result.step == 6
        raise SystemExit(result.exit_code)

    assert together(act) == [143, 143]
    assert (tmp_path / "checkpoints" / "step-00000006").is_dir()


def test_a_failure_of_the_first_is_told_to_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(plain_job(), replace(SETTINGS, steps=4), tmp_path)
    assert train_two(tmp_path, seed=77, steps=4) == [1, 1]
    text = capfd.readouterr().err
    assert "the first process failed: ValueError" in text and "training.seed was 5 and is now 77" in text


def test_uneven_shares_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two").mkdir()
    assert train_two(tmp_path / "two", batch_size=9) == [1, 1]
    assert "batch_size=9 cannot be shared evenly by 2 processes" in capfd.readouterr().err


def test_alone_nothing_is_started() -> None:
    with joined("cpu") as ranks:
        assert ranks.first and ranks.size == 1 and ranks.mesh is None
        assert ranks.on_first(lambda: "text") == "text"
        assert ranks.sum(torch.ones(2)).tolist() == [1.0, 1.0]
    assert not torch.distributed.is_initialized()
