"""The heart: a joint Gaussian whose optimal network is known in closed form at any times, and needs no training.

With it every query, path, prediction, schedule, solver and guide must meet the exact conditional mean and covariance.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polyclock.backbones.dit import DiT
from polyclock.guidance import Guide
from polyclock.layout import Layout, Stream
from polyclock.modality import Modality, spread
from polyclock.model import WorldModel
from polyclock.nn.modulation import Local
from polyclock.path import Cosine, Discrete, Linear, Path
from polyclock.schedule import Asynchronous, Chunks, Pyramid, Together
from polyclock.schedulers import walk
from polyclock.solver import Euler, Heun, sample

SHAPES = {"video": (3, 2), "action": (2, 1), "depth": (3, 1)}
SIZE = sum(t * c for t, c in SHAPES.values())
N, STEPS, BOUND = 20_000, 200, 0.05


def covariance() -> Tensor:
    """A random covariance over all numbers of the three modalities, well conditioned."""
    a = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return a @ a.T / SIZE + 0.1 * torch.eye(SIZE)


class Exact(WorldModel):
    """E[. | x_t] of x ~ N(0, S) at any times: the optimum that a trained network tends to."""

    def __init__(self, path: Path, null: str = "noise", **paths: Path) -> None:
        modalities = {
            n: Modality(shape=s, patch=(1,), path=paths.get(n, path), null=null)  # type: ignore[arg-type]
            for n, s in SHAPES.items()
        }
        layout = Layout(*(Stream(n) for n in SHAPES))
        super().__init__(modalities, layout, Local(), DiT(width=16, depth=1, heads=2))
        self.covariance = covariance()
        self.calls = 0

    def forward(self, x, t, given=None, rows=None, size=None, memory=None, wanted=None):
        self.calls += len(next(iter(x.values())))
        names = [n for n in SHAPES if n in x]
        keep = torch.cat([place(n) for n in names])
        cov = self.covariance[keep][:, keep]
        xs = torch.cat([x[n].flatten(1) for n in names], 1)
        wide = {n: spread(t[n], x[n].ndim, 1).expand_as(x[n]) for n in names}
        a = torch.cat([self.modalities[n].path.alpha(wide[n]).flatten(1) for n in names], 1)
        s = torch.cat([self.modalities[n].path.sigma(wide[n]).flatten(1) for n in names], 1)
        # Samples at the same times share one factorisation: one for the batch, or one for each stacked branch.
        w = torch.empty_like(xs)
        both = torch.cat([a, s], 1)
        alike = torch.equal(both, both[:1].expand_as(both))
        for times in both[:1] if alike else both.unique(dim=0):
            rows = slice(None) if alike else (both == times).all(1)
            a0, s0 = times.chunk(2)
            marginal = a0[:, None] * cov * a0 + torch.diag(s0**2) + 1e-6 * torch.eye(len(a0))
            w[rows] = torch.linalg.solve(marginal, xs[rows].T).T
        clean, eps = (w * a) @ cov, s * w
        out, i = {}, 0
        for n in names:
            k = x[n][0].numel()
            path = self.modalities[n].path
            c, e = (v[:, i : i + k].view_as(x[n]) for v in (clean, eps))
            out[n] = path.target(c, e, wide[n])
            i += k
        return out


def place(name: str, frames: slice = slice(None)) -> Tensor:
    """Where the numbers of a modality's frames stand in the joint vector."""
    start = 0
    for n, (t, c) in SHAPES.items():
        if n == name:
            return (start + torch.arange(t * c).view(t, c)[frames]).flatten()
        start += t * c
    raise KeyError(name)


def draw(n: int = N) -> dict[str, Tensor]:
    x = torch.randn(n, SIZE, generator=torch.Generator().manual_seed(2)) @ torch.linalg.cholesky(covariance()).T
    parts = x.split([t * c for t, c in SHAPES.values()], 1)
    return {k: p.reshape(n, *SHAPES[k]) for k, p in zip(SHAPES, parts, strict=True)}


def errors(got: dict[str, Tensor], truth: dict[str, Tensor], want: Tensor, given: Tensor) -> tuple[float, float]:
    """(relative error of the covariance, largest error of the mean) of wanted numbers given the given ones."""
    x = torch.cat([truth[n].flatten(1) for n in SHAPES], 1)
    y = torch.cat([got.get(n, truth[n]).flatten(1) for n in SHAPES], 1)
    cov = covariance()
    gain = cov[want][:, given] @ torch.linalg.inv(cov[given][:, given]) if len(given) else torch.zeros(len(want), 0)
    rest = y[:, want] - x[:, given] @ gain.T
    exact = cov[want][:, want] - gain @ cov[given][:, want]
    found = rest.T @ rest / len(rest)
    slope = torch.linalg.lstsq(x[:, given], y[:, want]).solution.T - gain if len(given) else torch.zeros(1)
    mean = max(rest.mean(0).abs().max().item(), slope.abs().max().item())
    return ((found - exact).norm() / exact.norm()).item(), mean


NONE = torch.zeros(0, dtype=torch.long)
V, A, D = place("video"), place("action"), place("depth")
QUERIES = {
    "action | video": (A, V),
    "video | action": (V, A),
    "depth | video, action": (D, torch.cat([V, A])),
    "action | video[:1]": (A, place("video", slice(0, 1))),
    "video[1:] | video[:1], action": (place("video", slice(1, 3)), torch.cat([place("video", slice(0, 1)), A])),
    "action[1:] | action[:1], video[:2]": (A[1:], torch.cat([A[:1], place("video", slice(0, 2))])),
    "video[1] | video[0], video[2]": (
        place("video", slice(1, 2)),
        torch.cat([place("video", slice(i, i + 1)) for i in (0, 2)]),
    ),
    "action | video, -depth": (A, V),
    "video, action, depth |": (torch.arange(SIZE), NONE),
    "video, depth | action": (torch.cat([V, D]), A),
}
PATHS = {
    "linear velocity": Linear(),
    "linear data": Linear(predict="data"),
    "linear noise": Linear(predict="noise", t_max=0.995),
    "cosine velocity": Cosine(predict="velocity", t_max=1.0),
    "cosine noise": Cosine(predict="noise", t_max=0.995),
    "cosine data": Cosine(predict="data", t_max=1.0),
}


def ask(model: Exact, query: str, **kw) -> tuple[float, float]:
    truth = draw()
    want, given = QUERIES[query]
    names = {n for n in SHAPES if n in query.split("|")[1] and f"-{n}" not in query}
    values = {n: truth[n] for n in names}
    if "video[0], video[2]" in query:
        values = {"video": truth["video"]}
    how = kw if "schedule" in kw else {"steps": STEPS} | kw
    got = sample(model, query, size=N, **how, **clip(values, query))
    return errors(got, truth, want, given)


def clip(values: dict[str, Tensor], query: str) -> dict[str, Tensor]:
    """Half of the queries get exactly the span's frames, the others the full length: both must do."""
    return {n: v[:, :1] if f"{n}[:1]" in query.split("|")[1] else v for n, v in values.items()}


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_meets_the_exact_conditional(query):
    cov, mean = ask(Exact(Linear()), query)
    assert cov <= BOUND and mean <= BOUND, (cov, mean)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["action | video", "video[1:] | video[:1], action"])
def test_every_path_and_prediction(path, query):
    cov, mean = ask(Exact(PATHS[path]), query)
    assert cov <= BOUND and mean <= BOUND, (cov, mean)


def test_modalities_may_have_different_paths():
    model = Exact(Linear(), action=Cosine(predict="noise", t_max=0.995), depth=Linear(predict="data"))
    cov, mean = ask(model, "video, action, depth |")
    assert cov <= BOUND and mean <= BOUND, (cov, mean)


SCHEDULES = {
    "together, shifted": Together(steps=STEPS, shift={"video": 3.0}),
    "asynchronous": Asynchronous(steps={"video": STEPS, "action": STEPS // 2, "depth": STEPS}),
    "pyramid": Pyramid(steps=STEPS, lag=20),
    "chunks": Chunks(count=3, steps=STEPS),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(name):
    cov, mean = ask(Exact(Linear()), "video, depth | action", schedule=SCHEDULES[name])
    assert cov <= BOUND and mean <= BOUND, (cov, mean)


@pytest.mark.parametrize("path", ["linear velocity", "cosine velocity", "cosine data"])
def test_heun_needs_far_fewer_rows(path):
    model = Exact(PATHS[path])
    heun, mean = ask(model, "action | video", steps=20, solver=Heun())
    euler, _ = ask(model, "action | video", steps=20, solver=Euler())
    assert heun <= BOUND and mean <= BOUND and heun < euler, (heun, euler)


def test_a_guide_of_weight_minus_one_is_the_dropped_answer():
    """(1 + w) f - w f_drop at w = -1 is f_drop: the marginal over what the guide drops."""
    truth = draw()
    guide = Guide(weight=-1.0, drop={"video"}, scope={"action"})
    got = sample(Exact(Linear()), "action | video", size=N, steps=STEPS, guides=(guide,), video=truth["video"])
    cov, mean = errors(got, truth, A, NONE)
    assert cov <= BOUND and mean <= BOUND, (cov, mean)


def test_guides_extrapolate_linearly_in_the_weight():
    """For a Gaussian the velocity is linear, so answers at three weights lie on a line."""
    truth = draw(64)

    def velocity(w: float) -> Tensor:
        noise = {"action": torch.zeros(64, 2, 1)}
        guides = (Guide(weight=w, drop={"video"}),)
        return sample(Exact(Linear()), "action | video", steps=1, guides=guides, noise=noise, video=truth["video"])[
            "action"
        ]

    low, mid, high = velocity(0.0), velocity(1.5), velocity(3.0)
    assert torch.allclose(low + high, 2 * mid, atol=1e-4) and not torch.allclose(low, high, atol=0.1)


def test_a_guide_of_weight_zero_costs_nothing():
    model, truth = Exact(Linear()), draw(8)
    sample(model, "action | video", steps=5, guides=(Guide(weight=0.0, drop={"video"}),), video=truth["video"])
    assert model.calls == 5 * 8


def test_branches_stacked_or_not_are_the_same():
    truth, model = draw(16), Exact(Linear())
    guides = (Guide(weight=1.0, drop={"video"}), Guide(weight=0.5, drop={"depth"}, interval=(0.3, 0.8)))
    one, three = (
        sample(model, "action | video, depth", guides=guides, guide_batch=k, video=truth["video"], depth=truth["depth"])
        for k in (1, 3)
    )
    assert torch.allclose(one["action"], three["action"], atol=1e-5)


TABLE = Discrete(steps=100, spacing="trailing", clip=None)  # has no derivative, which Heun needs
BY_NAME = [("euler", 100), ("heun", 40), ("dpm++", 25), ("unipc", 25)]


@pytest.mark.parametrize(
    ("name", "steps", "path"),
    [(*n, p) for p in (Linear(), TABLE) for n in BY_NAME if (n[0], p) != ("heun", TABLE)],
)
def test_solvers_by_name_meet_the_exact_covariance(name, steps, path):
    pytest.importorskip("diffusers")
    model, query = Exact(path), "action | video"
    walked = walk(name, steps, model, query)
    got = sample(model, query, size=N, decode=False, video=draw()["video"], **walked)
    cov, mean = errors(got, draw(), *QUERIES[query])
    assert cov < BOUND and mean < BOUND
