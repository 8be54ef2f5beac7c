"""Algebra of the paths."""

import pytest
import torch

from polyclock.path import Cosine, Discrete, Linear, squared_cosine

PATHS = [
    p(predict=k, **({"t_max": 0.99} if k == "noise" else {}))
    for p in (Linear, Cosine)
    for k in ("velocity", "noise", "data")
] + [Discrete(predict="noise", clip=None), Discrete(predict="data", clip=None)]
X, EPS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.randn(4, 3)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_split_inverts_target(path, t):
    t = torch.full((4, 1), t)
    x, eps = path.split(path.target(X, EPS, t), path.noise(X, EPS, t), t)
    assert torch.allclose(x, X, atol=1e-4) and torch.allclose(eps, EPS, atol=1e-3)


def test_a_move_on_the_straight_path_is_euler():
    path, t, u, v = Linear(), torch.tensor(0.7), torch.tensor(0.5), torch.randn(4, 3)
    x_t = path.noise(X, EPS, t)
    assert torch.allclose(path.move(v, x_t, t, u), x_t + (u - t) * v, atol=1e-6)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_where_times_are_equal_nothing_moves_to_the_bit(path):
    t = torch.tensor([[0.0], [0.3], [1.0], [0.5]])
    x_t, out = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(path.move(out, x_t, t, t), x_t)


@pytest.mark.parametrize("path", [p for p in PATHS if not isinstance(p, Discrete)], ids=str)
def test_derivatives_are_those_of_alpha_and_sigma(path):
    t, h = torch.tensor(0.4, dtype=torch.float64), 1e-6
    for f, df in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        assert torch.allclose((f(t + h) - f(t - h)) / (2 * h), df(t), atol=1e-6)


def test_clip_limits_the_clean_estimate():
    x, _ = Linear(clip=1.0).split(torch.full((1,), -9.0), torch.full((1,), 3.0), torch.tensor(0.5))
    assert x.item() == 1.0


def test_a_noise_prediction_cannot_start_at_pure_noise():
    with pytest.raises(ValueError, match="alpha"):
        Linear(predict="noise")


def test_the_table_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(100, beta_schedule="squaredcos_cap_v2")
    assert torch.allclose(squared_cosine(100)[1:], scheduler.alphas_cumprod, atol=1e-6)
    scheduler.set_timesteps(10)
    rows = Discrete().rows(10)
    assert torch.allclose(rows[:-1], (scheduler.timesteps + 1) / 100)
    scheduler = diffusers.DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    assert torch.allclose(Discrete(spacing="trailing").rows(10)[:-1], (scheduler.timesteps + 1) / 100)


def test_the_table_stamps_data_like_its_first_noise_level():
    t = torch.tensor([0.0, 0.01, 0.02, 0.91, 1.0])
    assert Discrete().stamp(t).tolist() == pytest.approx([0, 0, 0.01, 0.90, 0.99])
    assert Discrete().alpha(t)[0] == 1 and Discrete().sigma(t)[0] == 0


def test_a_table_refuses_velocity_and_too_many_steps():
    with pytest.raises(ValueError, match="derivative"):
        Discrete(predict="velocity")
    with pytest.raises(ValueError, match="a table of 0 steps"):
        Discrete(steps=0)
    with pytest.raises(ValueError, match="possible: 1 to 100"):
        Discrete().rows(101)
    with pytest.raises(ValueError, match=r"none of 2 solver steps \(trailing\) begins at t_max=0.3 or below"):
        Discrete(spacing="trailing", t_max=0.3).rows(2)


@pytest.mark.parametrize("kind", [Linear, Cosine, Discrete])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predict": "score"}, "possible: velocity, noise, data"),
        ({"predict": "data", "t_max": 3.0}, "must lie in"),
        ({"predict": "data", "unknown": 0.0}, "must lie in"),
        ({"predict": "noise", "spread": 0.5}, "positive number, and for predict='data' only"),
        ({"predict": "data", "spread": 0.0}, "positive number, and for predict='data' only"),
    ],
)
def test_what_no_path_can_be(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_with_a_spread_the_best_linear_estimate_is_seen(kind):
    path, s = kind(predict="data", spread=0.5), 0.5
    g = torch.Generator().manual_seed(0)
    x, eps = s * torch.randn(200_000, generator=g), torch.randn(200_000, generator=g)
    for time in (0.1, 0.5, 0.9):
        t = torch.tensor(time)
        x_t = path.noise(x, eps, t)
        slope = (x * x_t).mean() / (x_t * x_t).mean()
        assert torch.allclose(path.seen(x_t, t), slope * x_t, atol=0.02)


def test_with_a_spread_pure_noise_is_not_seen_and_answers_have_its_unit():
    path, x = Linear(predict="data", spread=0.5), torch.randn(5)
    assert not path.seen(x, torch.tensor(1.0)).any() and torch.equal(path.seen(x, torch.tensor(0.0)), x)
    assert torch.equal(path.answer(torch.ones(5)), torch.full((5,), 0.5))
    assert torch.equal(Linear().seen(x, torch.tensor(1.0)), x) and torch.equal(Linear().answer(x), x)
