"""The same call resumes: N steps, an end of any kind, and N steps more are 2 N steps, to the bit."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from standin import SETTINGS, Numbers, end, in_child, loss, make_job, same

from polyclock.train import log
from polyclock.train.loop import Job, run
from polyclock.train.settings import Training


def ended_at(job: Job, step: int, number: int) -> Job:
    """The job, with a signal sent to its own process while the loss of `step` is computed."""

    def ends(model, latent, dice, **settings):
        if settings["step"] == step and model.training:
            os.kill(os.getpid(), number)
        return loss(model, latent, dice, **settings)

    return replace(job, loss=ends)


def timeless(folder: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in ("steps_per_s", "data_wait")}
        for row in log.read(folder / "log.jsonl")
    ]


def state(folder: Path) -> dict:
    plain = json.loads((folder / "state.json").read_text())
    plain.pop("seconds")
    return plain


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, workers: int) -> None:
    whole: list[tuple[int, int]] = []
    parts: list[tuple[int, int]] = []
    reference = run(make_job(seen=whole), SETTINGS, tmp_path / "whole")
    settings = replace(SETTINGS, workers=workers)
    first = run(ended_at(make_job(seen=parts), 6, signal.SIGTERM), settings, tmp_path / "parts")
    assert first.step == 7 and first.stopped == "SIGTERM" and first.exit_code == 143
    second = run(make_job(seen=parts), settings, tmp_path / "parts")
    assert second.step == 12 and second.stopped is None
    assert same(reference.checkpoint, second.checkpoint)
    assert state(reference.checkpoint) == state(second.checkpoint)
    assert whole == parts, "the order of samples"
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts"), "the log, bit for bit and each step once"
    assert same_best(tmp_path)


def same_best(folder: Path) -> bool:
    files = [sorted((folder / name / "best").rglob("*.*")) for name in ("whole", "parts")]
    return len(files[0]) > 3 and all(
        a.name == b.name and (a.is_dir() or a.read_bytes() == b.read_bytes()) for a, b in zip(*files, strict=True)
    )


@pytest.mark.parametrize("step", [3, 4, 7, 11])
def test_killed_and_resumed_is_never_killed(tmp_path: Path, step: int) -> None:
    """Kills before, at and after the steps of checkpoints and validations."""
    reference = run(make_job(), SETTINGS, tmp_path / "whole")
    killed = in_child(lambda: run(ended_at(make_job(), step, signal.SIGKILL), SETTINGS, tmp_path / "parts"))
    assert end(killed) == -signal.SIGKILL
    again = run(make_job(), SETTINGS, tmp_path / "parts")
    assert same(reference.checkpoint, again.checkpoint)
    assert state(reference.checkpoint) == state(again.checkpoint)
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")


def test_ctrl_c_saves_and_leaves_with_130(tmp_path: Path) -> None:
    def command() -> None:
        result = run(ended_at(make_job(), 5, signal.SIGINT), SETTINGS, tmp_path)
        raise SystemExit(result.exit_code)

    assert end(in_child(command)) == 130
    assert (tmp_path / "checkpoints" / "step-00000006").is_dir()
    assert (tmp_path / "lock").read_text() == ""


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    def impatient(model, latent, dice, **settings):
        # The one that is handled before the next is sent: two at once count as one.
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return loss(model, latent, dice, **settings)

    with pytest.raises(KeyboardInterrupt):
        run(replace(make_job(), loss=impatient), SETTINGS, tmp_path)


def test_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(ended_at(make_job(), 2, signal.SIGTERM), SETTINGS, tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_more_steps_continue_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = replace(SETTINGS, schedule="constant", steps=8)
    reference = run(make_job(), replace(short, steps=16), tmp_path / "whole")
    run(make_job(), short, tmp_path / "parts")
    capsys.readouterr()
    again = run(make_job(), replace(short, steps=16, log_every=4, workers=1), tmp_path / "parts")
    text = capsys.readouterr().out
    assert "- training.steps: 8\n+ training.steps: 16" in text and "+ training.workers: 1" in text
    assert same(reference.checkpoint, again.checkpoint)
    assert json.loads((tmp_path / "parts/run.json").read_text())["training"]["steps"] == 16


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed": 6}, "because training.seed was 5 and is now 6; use the old value, or another folder"),
        ({"batch_size": 16}, "because training.batch_size was 8 and is now 16"),
        ({"lr": 0.5, "seed": 7}, r"because training.lr was 0.01 and is now 0.5 \(and 1 more\)"),
        ({"steps": 4}, "because training.steps was 8 and is now 4"),
    ],
)
def test_a_change_that_breaks_exactness_is_refused(tmp_path: Path, settings: dict, sentence: str) -> None:
    run(make_job(), replace(SETTINGS, steps=8), tmp_path)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(ValueError, match=sentence):
        run(make_job(), replace(SETTINGS, **{"steps": 8, **settings}), tmp_path)
    assert (tmp_path / "run.json").read_text() == before
    assert (tmp_path / "lock").read_text() == ""


def test_other_data_or_another_recipe_is_refused(tmp_path: Path) -> None:
    run(make_job(), SETTINGS, tmp_path)
    with pytest.raises(ValueError, match='because facts.data.train was "50 numbers" and is now "60 numbers"'):
        run(make_job(Numbers(60)), SETTINGS, tmp_path)
    other = replace(make_job(), facts={"recipe": {"name": "numbers"}, "data": {"train": "50 numbers"}})
    with pytest.raises(ValueError, match='because facts.recipe.width was 16 and is now "absent"'):
        run(other, SETTINGS, tmp_path)


def test_before_the_first_checkpoint_settings_are_free(tmp_path: Path) -> None:
    assert end(in_child(lambda: run(ended_at(make_job(), 2, signal.SIGKILL), SETTINGS, tmp_path))) == -signal.SIGKILL
    assert run(make_job(), replace(SETTINGS, seed=9), tmp_path).step == 12
    assert [row["step"] for row in timeless(tmp_path) if row["kind"] == "train"] == [2, 4, 6, 8, 10, 12]


def test_from_a_damaged_checkpoint_the_one_before_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = run(make_job(), SETTINGS, tmp_path / "whole")
    run(make_job(), SETTINGS, tmp_path / "parts")
    path = tmp_path / "parts" / "checkpoints" / "step-00000012" / "optimizer.safetensors"
    broken = bytearray(path.read_bytes())
    broken[-3] ^= 1
    path.write_bytes(broken)
    capsys.readouterr()
    again = run(make_job(), SETTINGS, tmp_path / "parts")
    text = capsys.readouterr().out
    assert "step-00000012 is not used: optimizer.safetensors is damaged" in text and "resuming at step 8" in text
    assert same(reference.checkpoint, again.checkpoint)


def test_a_second_trainer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    job = make_job()

    def tries(model, latent, dice, **settings):
        if settings["step"] == 3 and model.training:
            with pytest.raises(ValueError, match=f"is being trained by process {os.getpid()} on"):
                run(make_job(), SETTINGS, tmp_path)
        return loss(model, latent, dice, **settings)

    assert run(replace(job, loss=tries), SETTINGS, tmp_path).step == 12


def test_a_full_disk_stops_the_run_and_nothing_else(tmp_path: Path) -> None:
    from polyclock.train.checkpoint import Files

    class Full(Files):
        def write_tensors(self, path, tensors) -> None:
            if "step-00000008" in str(path):
                raise OSError(28, "No space left on device")
            super().write_tensors(path, tensors)

    with pytest.raises(OSError, match=r"step 8 could not be written .* the checkpoint of step 4 is untouched"):
        run(make_job(), SETTINGS, tmp_path, files=Full())
    reference = run(make_job(), SETTINGS, tmp_path / "whole")
    assert same(reference.checkpoint, run(make_job(), SETTINGS, tmp_path).checkpoint)


def test_settings_reach_the_run_file(tmp_path: Path) -> None:
    run(make_job(), SETTINGS, tmp_path)
    plain = json.loads((tmp_path / "run.json").read_text())
    assert plain["facts"]["recipe"] == {"name": "numbers", "width": 16}
    assert plain["training"] == json.loads(json.dumps(vars(SETTINGS))) and isinstance(SETTINGS, Training)
    assert set(plain["versions"]) >= {"polyclock", "python", "torch", "numpy", "av"}
