"""A run small enough to be made for every test session, with an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moving import Moving, recipe
from polyclock.evaluate import evaluate
from polyclock.pretrained import from_pretrained
from polyclock.train import Training
from polyclock.train.job import train

HELD = [3]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of twelve steps, not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "moving"
    settings = Training(
        steps=12, batch_size=4, lr=1e-3, warmup=2, validate_every=4, validation_batches=1, checkpoint_every=6,
        log_every=2, workers=0,
    )  # fmt: skip
    train(recipe(), Moving(), settings, out, held_out=HELD)
    return out


@pytest.fixture(scope="session")
def document(run_folder: Path) -> dict:
    """Its evaluation."""
    model = from_pretrained(run_folder / "model")
    found = evaluate(
        model, Moving(), episodes=HELD, stride=8, steps=2, probes=("horizon",), resamples=200, about={"command": "a"}
    )
    return json.loads(json.dumps(found))
