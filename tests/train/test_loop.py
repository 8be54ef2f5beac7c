"""The loop on a small task: it learns, accumulates, validates, and is not poisoned."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from standin import SETTINGS, Numbers, build, loss, make_job, saved
from torch import nn

from polyclock.dice import Dice, seed_of
from polyclock.train import checkpoint, log
from polyclock.train.loop import Diverged, run


def test_it_learns_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(SETTINGS, steps=300, log_every=50, validate_every=100, checkpoint_every=300, batch_size=16)
    result = run(make_job(), settings, tmp_path)
    assert result.step == 300 and result.exit_code == 0 and result.stopped is None
    rows = log.read(tmp_path / "log.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == [50, 100, 150, 200, 250, 300]
    assert train[-1]["loss"] < 0.8 * train[0]["loss"]
    for row in train:
        parts = row["losses"]
        assert row["loss"] == pytest.approx(parts["video"] + 0.5 * parts["action"], rel=1e-5)
        assert row["steps_per_s"] > 0 and 0 <= row["data_wait"] <= 1 and row["bad_steps"] == 0
    checks = [row for row in rows if row["kind"] == "validation"]
    assert [row["step"] for row in checks] == [100, 200, 300]
    assert result.best_loss == min(row["loss"] for row in checks)
    text = capsys.readouterr().out
    assert "starting at step 0 of 300" in text and "done at step 300" in text


def test_the_pace_is_of_the_steps_that_were_taken(tmp_path: Path) -> None:
    def slow(*args, **settings):
        time.sleep(0.02)
        return loss(*args, **settings)

    settings = replace(SETTINGS, steps=6, log_every=5, validate_every=0)
    run(replace(make_job(), loss=slow), settings, tmp_path)
    rows = log.read(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [5, 6] and all(row["steps_per_s"] <= 50 for row in rows)


def test_weights_that_are_gone_on_from_are_measured_first(tmp_path: Path) -> None:
    job = make_job()
    known = replace(job, facts={**job.facts, "weights": "digest"})
    result = run(known, replace(SETTINGS, steps=2, lr=1e-9, validate_every=2, warmup=0), tmp_path)
    checks = [row for row in log.read(tmp_path / "log.jsonl") if row["kind"] == "validation"]
    assert [row["step"] for row in checks] == [0, 2] and result.best_loss == min(row["loss"] for row in checks)
    assert checks[0]["loss"] == pytest.approx(checks[1]["loss"], rel=1e-3), "nothing has changed yet"


def weights_after(tmp_path: Path, name: str, **settings: object) -> dict[str, torch.Tensor]:
    job = make_job()
    plain = replace(job, build=lambda: without_dropout(job.build()))
    result = run(plain, replace(SETTINGS, steps=6, warmup=0, **settings), tmp_path / name)
    return saved(result.checkpoint)


def without_dropout(model: nn.Module) -> nn.Module:
    model.drop = nn.Identity()
    return model


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    whole = weights_after(tmp_path, "whole", batch_size=16)
    halves = weights_after(tmp_path, "halves", batch_size=8, accumulate=2)
    assert whole.keys() == halves.keys()
    for name, value in whole.items():
        assert torch.allclose(value, halves[name], atol=1e-5), name
    for row, other in zip(log.read(tmp_path / "whole/log.jsonl"), log.read(tmp_path / "halves/log.jsonl"), strict=True):
        assert row["kind"] == "validation" or row["loss"] == pytest.approx(other["loss"], rel=1e-5)
    different = weights_after(tmp_path, "different", batch_size=8)
    name = "model/model.safetensors:outer.weight"
    assert not torch.allclose(whole[name], different[name], atol=1e-4)


def test_one_step_is_adamw_on_the_clipped_gradient(tmp_path: Path) -> None:
    """Against plain torch: mean loss, norm clipping, decay of matrices only, factors by prefix."""
    settings = replace(SETTINGS, steps=1, warmup=0, clip=0.1, factors=(("inner", 0.5),), weight_decay=0.1)
    job = replace(make_job(held_out=None), build=lambda: without_dropout(build()))
    ours = load_file(run(job, settings, tmp_path).checkpoint / "model" / "model.safetensors")
    model = without_dropout(build())
    groups = [
        {"params": [model.inner.weight], "lr": 0.005, "weight_decay": 0.1},
        {"params": [model.inner.bias], "lr": 0.005, "weight_decay": 0.0},
        {"params": [model.outer.weight], "lr": 0.01, "weight_decay": 0.1},
        {"params": [model.outer.bias], "lr": 0.01, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    batch = job.loader(job.source, batch_size=8, seed=5).batch(0)
    total, _ = loss(model, batch, Dice(5, 0, list(range(8))), step=0, global_size=8)
    total.backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), 0.1) > 0.1
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.allclose(ours[name], value, atol=1e-6), name


def poisoned(step: int, job_seed: int = SETTINGS.seed) -> int:
    """A sample of the training batch at `step` that no earlier batch holds."""
    job = make_job()
    loader = job.loader(job.source, batch_size=SETTINGS.batch_size, seed=job_seed)
    return loader.ids(step)[3]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_batch_changes_nothing_and_is_counted(tmp_path: Path, value: float, capsys) -> None:
    settings = replace(SETTINGS, steps=6, checkpoint_every=1, keep=9, validate_every=0)
    result = run(make_job(Numbers(50, {poisoned(4): value})), settings, tmp_path)
    plain = json.loads((result.checkpoint / "state.json").read_text())
    assert plain["step"] == 6 and plain["bad_steps"] == 1 and plain["bad_in_a_row"] == 0 and plain["updates"] == 5
    before, after, next_one = (saved(tmp_path / "checkpoints" / f"step-{k:08d}") for k in (4, 5, 6))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(after["ema.safetensors:outer.bias"], next_one["ema.safetensors:outer.bias"])
    assert all(tensor.isfinite().all() for tensor in next_one.values())
    assert "step 5 changed nothing: loss" in capsys.readouterr().out
    last = log.read(tmp_path / "log.jsonl")[-1]
    assert last["bad_steps"] == 1 and math.isfinite(last["loss"])


def test_a_gradient_that_is_not_finite_is_a_bad_step_too(tmp_path: Path) -> None:
    job = make_job()

    def rooted(model, latent, dice, *, step, global_size):
        total, parts = loss(model, latent, dice, step=step, global_size=global_size)
        zero = (model.outer.bias * 0).sum()
        return (total + zero.abs().sqrt() if step == 2 else total), parts  # the slope of a root at 0 is infinite

    result = run(replace(job, loss=rooted), replace(SETTINGS, steps=4, validate_every=0), tmp_path)
    assert json.loads((result.checkpoint / "state.json").read_text())["bad_steps"] == 1
    assert all(tensor.isfinite().all() for tensor in saved(result.checkpoint).values())


def test_too_many_bad_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    job = make_job()

    def dies(model, latent, dice, *, step, global_size):
        total, parts = loss(model, latent, dice, step=step, global_size=global_size)
        return (total * math.nan, parts) if step in (1, 2) or step >= 5 else (total, parts)

    sentence = r"3 steps in a row up to step 8 .* \(loss nan, grad_norm nan\); .* the checkpoint of step 4 is whole"
    with pytest.raises(Diverged, match=sentence):
        run(replace(job, loss=dies), SETTINGS, tmp_path)
    folder = tmp_path / "checkpoints" / "step-00000004"
    assert all(tensor.isfinite().all() for tensor in saved(folder).values())


def test_validation_is_the_averaged_model_on_the_same_samples(tmp_path: Path) -> None:
    """The logged value is computed again by hand from the saved average; best/ holds that average."""
    settings = replace(SETTINGS, steps=4)
    result = run(make_job(), settings, tmp_path)
    model = build().eval()
    model.load_state_dict(load_file(result.checkpoint / "ema.safetensors"), strict=False)
    seed = seed_of(settings.seed, "validation")
    job = make_job()
    loader = job.loader(job.held_out, batch_size=8, seed=seed)
    values = []
    for k in range(2):
        dice = Dice(seed_of(settings.seed, "validation", 8 * k), 4, range(8 * k, 8 * k + 8))
        values.append(loss(model, loader.batch(k), dice, step=4, global_size=8)[0].item())
    row = log.read(tmp_path / "log.jsonl")[-1]
    assert row["kind"] == "validation" and row["loss"] == pytest.approx(sum(values) / 2, rel=1e-6)
    best = load_file(tmp_path / "best" / "step-00000004" / "model" / "model.safetensors")
    assert torch.equal(best["outer.weight"], model.outer.weight)


def test_the_best_is_kept_when_later_ones_are_worse(tmp_path: Path) -> None:
    job = make_job()

    def rises(model, latent, dice, *, step, global_size):
        total, parts = loss(model, latent, dice, step=step, global_size=global_size)
        if not model.training:  # the held-out loss: worse at every validation after the first
            rises.calls += 1
            total = total * 0 + rises.calls
        return total, parts

    rises.calls = 0
    result = run(replace(job, loss=rises), SETTINGS, tmp_path)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-00000004"]
    assert result.best_loss == 1.5


def test_the_weights_to_use_are_the_best_average_and_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no trained model"):
        checkpoint.model_folder(tmp_path)
    run(make_job(), SETTINGS, tmp_path)
    folder = checkpoint.model_folder(tmp_path)
    assert folder == (tmp_path / "model").resolve() and folder.parent.parent.name == "best"
    assert len(list((tmp_path / "best").iterdir())) == 1
    average = load_file(tmp_path / "checkpoints" / folder.parent.name / "ema.safetensors")
    used = load_file(folder / "model.safetensors")
    assert all(torch.equal(used[name], average[name]) for name in average)
    (folder / "config.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="step-00000012 cannot be used: model/config.json is damaged"):
        checkpoint.model_folder(tmp_path)


def test_the_time_limit_saves_and_leaves(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=1_000_000, time_limit=0.01, checkpoint_every=1_000_000, log_every=1000)
    result = run(make_job(), replace(settings, validate_every=0), tmp_path)
    assert result.stopped == "time limit" and result.exit_code == 0 and 0 < result.step < 1_000_000
    assert result.checkpoint.is_dir() and (tmp_path / "model" / "model.safetensors").is_file()


def test_the_last_weights_are_validated_when_the_time_is_up(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=1_000_000, time_limit=0.005, checkpoint_every=1_000_000, log_every=1000)
    result = run(make_job(), replace(settings, validate_every=900_000), tmp_path)
    assert result.stopped == "time limit" and result.best_loss is not None
    assert checkpoint.model_folder(tmp_path, "best").parent.name == result.checkpoint.name


def test_a_copy_that_made_a_folder_of_the_link_is_told(tmp_path: Path) -> None:
    run(make_job(), replace(SETTINGS, steps=2), tmp_path)
    (tmp_path / "model").unlink()
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="is a folder where a link"):
        run(make_job(), replace(SETTINGS, steps=4), tmp_path)


def test_without_average_or_held_out_samples(tmp_path: Path) -> None:
    result = run(replace(make_job(), held_out=None), replace(SETTINGS, ema=0.0), tmp_path)
    assert not (result.checkpoint / "ema.safetensors").exists()
    used, last = (saved(checkpoint.model_folder(tmp_path, which)) for which in ("best", "last"))
    assert (tmp_path / "model").resolve() == checkpoint.model_folder(tmp_path)
    assert used.keys() == last.keys() and all(torch.equal(used[name], last[name]) for name in used)
    again = run(replace(make_job(), held_out=None), replace(SETTINGS, ema=0.0, steps=14, schedule="cosine"), tmp_path)
    assert again.step == 14 and again.best_loss is None


def test_bf16_keeps_the_weights_in_float32(tmp_path: Path) -> None:
    result = run(make_job(), replace(SETTINGS, precision="bf16"), tmp_path)
    assert {tensor.dtype for tensor in saved(result.checkpoint).values()} == {torch.float32}
    assert math.isfinite(log.read(tmp_path / "log.jsonl")[-1]["loss"])


def test_factors_must_fit_a_parameter(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown parameter prefix in factors 'iner'. Did you mean 'inner'"):
        run(make_job(), replace(SETTINGS, factors=(("iner", 0.1),)), tmp_path)
