"""Training settings: faults are named, and the learning rate is a function of the step."""

from __future__ import annotations

import re

import pytest

from polyclock.train import Training


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"steps": 2.5}, "steps=2.5 must be a whole number"),
        ({"batch_size": True}, "batch_size=True must be a whole number"),
        ({"workers": -1}, "workers=-1 must be a whole number of at least 0"),
        ({"lr": 0.0}, "lr=0.0 must be a positive number"),
        ({"lr": float("nan")}, "lr=nan must be a positive number"),
        ({"clip": -1.0}, "clip=-1.0 must be a number of at least 0"),
        ({"betas": (0.9, 1.0)}, "betas=(0.9, 1.0) must be two numbers in [0, 1)"),
        ({"ema": 1.0}, "ema=1.0 must lie in [0, 1); 0 turns it off"),
        ({"min_lr": 1.0}, "min_lr=1.0 must not exceed lr=0.0001"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ({"precision": "fp16"}, "unknown precision 'fp16'."),
        ({"time_limit": 0.0}, "time_limit=0.0 must be a positive number"),
        ({"lr_new": -1.0}, "lr_new=-1.0 must be a number of at least 0"),
        ({"factors": (("head", -1.0),)}, "factor of 'head'=-1.0 must be a number of at least 0"),
    ],
)
def test_faults_are_named(wrong: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Training(**wrong)


def test_the_rate_rises_and_falls() -> None:
    training = Training(steps=101, warmup=10, lr=1.0, min_lr=0.2)
    rates = [training.rate(step) for step in range(101)]
    assert rates[:10] == [(i + 1) / 10 for i in range(10)]
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.6) and rates[100] == pytest.approx(0.2)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    constant = Training(steps=101, warmup=0, lr=1.0, schedule="constant")
    assert {constant.rate(step) for step in range(200)} == {1.0}


def test_the_first_prefix_that_fits_is_used() -> None:
    training = Training(factors=(("backbone.0", 0.0), ("backbone", 0.1)))
    names = ["backbone.0.weight", "backbone.1.weight", "head.weight"]
    assert [training.factor(name) for name in names] == [0.0, 0.1, 1.0]
    training.check_factors(names)
    with pytest.raises(ValueError, match=r"unknown parameter prefix in factors 'backbone'. Possible: head"):
        Training(factors=(("backbone", 0.1),)).check_factors(["head.weight"])


def test_newcomers_have_a_rate_of_their_own_where_no_prefix_fits() -> None:
    training = Training(factors=(("embed.depth", 3.0),), lr_new=10.0)
    assert [training.factor("head.depth", new=True), training.factor("head.video")] == [10.0, 1.0]
    assert training.factor("embed.depth.weight", new=True) == 3.0
