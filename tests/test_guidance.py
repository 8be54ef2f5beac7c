"""Guidance: what pulls reaches its values as firmly as its weights say; what is withheld guides actions alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from polyclock.codecs import Quantile
from polyclock.encoders import Numbers
from polyclock.guidance import Guide, Pull, fading
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality, spread
from polyclock.model import WorldModel
from polyclock.nn.modulation import Joint
from polyclock.path import Cosine, Discrete, Linear
from polyclock.schedule import Pyramid
from polyclock.schedulers import Diffusers
from polyclock.solver import Heun, sample
from test_exact import A, Exact, covariance, draw, errors, place
from worlds import BACKBONE, CONDITIONS, MODALITIES, awake, recipe

N = 1000
ROWS = {"spacing": "trailing", "clip": None}
PATHS = {
    "linear velocity": Linear(),
    "linear data": Linear(predict="data"),
    "linear noise": Linear(predict="noise", t_max=0.995),
    "cosine velocity": Cosine(predict="velocity", t_max=1.0),
    "cosine noise": Cosine(predict="noise", t_max=0.995),
    "table noise": Discrete(**ROWS),
    "table data": Discrete(predict="data", **ROWS),
}
V = place("video")
HELD, FREE = place("video", slice(0, 1)), place("video", slice(1, 3))
FIRST = torch.tensor([1.0, 0.0, 0.0])


def pulled(model: Exact, weights: Tensor, limit: float = 5.0, more: tuple[Guide, ...] = (), **how) -> Tensor:
    """A video drawn towards a true one, which has nothing else in common with it."""
    pull = Pull(of="video", towards=draw(N)["video"], weights=weights, limit=limit)
    return sample(model, "video |", size=N, guides=[pull, *more], **({"steps": 10} | how))["video"]


def prefixed(model: Exact, steps: int) -> Tensor:
    """The same with the first frame given, from the same noise."""
    return sample(model, "video[1:] | video[:1]", steps=steps, video=draw(N)["video"])["video"]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


# Pulls.


@pytest.mark.parametrize("steps", [5, 10, 40])
@pytest.mark.parametrize("path", PATHS)
def test_a_pulled_frame_is_reached_and_the_others_follow(path: str, steps: int) -> None:
    """In whatever units a path counts, with few steps and with many; the noise is that of the hard prefix."""
    model, truth = Exact(PATHS[path]), draw(N)["video"]
    free, found, given = (
        pulled(model, 0 * FIRST, steps=steps),
        pulled(model, FIRST, steps=steps),
        prefixed(model, steps),
    )
    assert distance(found[:, :1], truth[:, :1]) < 0.1 * distance(free[:, :1], truth[:, :1])
    assert distance(found[:, 1:], given[:, 1:]) < 0.3 * distance(free[:, 1:], given[:, 1:])


@pytest.mark.parametrize("path", ["linear velocity", "cosine noise", "table data"])
def test_what_is_free_has_the_exact_conditional(path: str) -> None:
    truth, model = draw(N), Exact(PATHS[path])
    cov, mean = errors(truth | {"video": pulled(model, FIRST, 100.0, steps=100)}, truth, FREE, HELD)
    wrong = errors(truth | {"video": pulled(model, 0 * FIRST, steps=100)}, truth, FREE, HELD)
    assert cov < 0.06 and mean < 0.1 and wrong[0] > 0.15 and wrong[1] > 0.25, (cov, mean, wrong)


@pytest.mark.parametrize("path", PATHS)
def test_weight_one_and_a_high_limit_come_to_what_is_given(path: str) -> None:
    truth, model = draw(N)["video"], Exact(PATHS[path])
    far = [distance(pulled(model, torch.ones(3), limit, steps=40), truth) for limit in (1.0, 5.0, 100.0)]
    assert far[0] > far[1] > far[2] and far[2] < 0.01, far


def test_weight_zero_changes_nothing_and_costs_nothing() -> None:
    model = Exact(Linear())
    plain = sample(model, "video |", size=N, steps=10)["video"]
    model.calls = 0
    assert torch.equal(pulled(model, torch.zeros(3)), plain) and model.calls == 10 * N
    towards = draw(N)["video"]
    towards[:, 1:] = torch.nan  # what has no weight may be anything
    nan = Pull(of="video", towards=towards, weights=FIRST)
    found = sample(model, "video |", size=N, steps=10, guides=[nan])["video"]
    assert torch.equal(found, pulled(model, FIRST)) and not torch.allclose(found, plain, atol=0.1)


def test_a_weight_in_between_is_firm_in_between() -> None:
    model, truth = Exact(Linear()), draw(N)["video"]
    far = [distance(pulled(model, w * FIRST)[:, 0], truth[:, 0]) for w in (0.0, 0.1, 0.4, 1.0)]
    assert all(a > 1.2 * b for a, b in zip(far, far[1:], strict=False)), far


def test_two_pulls_of_half_the_weight_are_one() -> None:
    model = Exact(Linear())
    half = [Pull(of="video", towards=draw(N)["video"], weights=0.5 * FIRST)] * 2
    both = sample(model, "video |", size=N, steps=10, guides=half)["video"]
    assert torch.allclose(both, pulled(model, FIRST), atol=1e-4)


def test_pulls_go_with_solvers_schedules_and_guides() -> None:
    model, truth = Exact(Linear()), draw(N)
    free = distance(pulled(model, 0 * FIRST)[:, :1], truth["video"][:, :1])
    for how in ({"solver": Heun()}, {"steps": None, "schedule": Pyramid(steps=10, lag=3)}):
        assert distance(pulled(model, FIRST, **how)[:, :1], truth["video"][:, :1]) < 0.1 * free, how

    def ask(*guides: Guide | Pull) -> Tensor:
        return sample(model, "video | action", steps=10, action=truth["action"], guides=guides)["video"]

    pull, away = Pull(of="video", towards=truth["video"], weights=FIRST), Guide(weight=1.0, drop={"action"})
    both = ask(away, pull)
    assert torch.equal(both, ask(pull, away)) and distance(both[:, :1], truth["video"][:, :1]) < 0.1 * free
    assert distance(both, ask(pull)) > 0.02 and distance(both, ask(away)) > 0.02


def test_pulls_go_with_schedulers_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    model = Exact(PATHS["table noise"])
    ddim = diffusers.DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=False
    )
    solver = Diffusers({"video": ddim}, steps=10)
    assert torch.allclose(pulled(model, FIRST, steps=None, solver=solver), pulled(model, FIRST), atol=1e-4)


def test_a_clipped_estimate_is_pulled_back() -> None:
    """Where the clip holds the estimate at its bound there is no slope of its own, and it moves all the same."""
    near = 0.5 * torch.ones(N, 3, 2)
    model = Exact(Discrete(spacing="trailing", clip=1.0))
    pull = Pull(of="video", towards=near, weights=torch.ones(3))
    plain, found = (sample(model, "video |", size=N, guides=g)["video"] for g in ((), [pull]))
    assert plain.abs().max() <= 1.0001 and distance(found, near) < 0.1 * distance(plain, near)


def test_a_pull_acts_within_its_interval_and_takes_what_the_codec_takes() -> None:
    model = awake(recipe(conditions=CONDITIONS).build())
    how = {"steps": 4, "state": torch.zeros(2, 1, 3)}
    goal = torch.full((1, 8, 2), 2.0)  # one for both samples
    pull = Pull(of="action", towards=goal, weights=fading(8, 2, 2))
    plain = sample(model, "action | state", **how)["action"]
    found = sample(model, "action | state", guides=[pull], **how)["action"]
    assert (found - goal)[:, :2].abs().mean() < (plain - goal)[:, :2].abs().mean()
    assert found.requires_grad is False and all(p.grad is None for p in model.parameters())
    late = replace(pull, interval=(0.0, 0.1))
    assert torch.equal(sample(model, "action | state", guides=[late], **how)["action"], plain)


def test_a_pull_works_inside_inference_mode() -> None:
    model = awake(recipe(conditions=CONDITIONS).build())

    def ask(inside: bool) -> Tensor:
        with torch.inference_mode(inside):
            pull = Pull(of="action", towards=torch.ones(1, 8, 2), weights=fading(8, 2, 2))
            torch.manual_seed(0)
            clip, noise = torch.randn(2, 4, 4, 4, 3), {"action": torch.randn(2, 8, 2)}
            assert clip.is_inference() == inside
            guides = [pull, Guide(weight=0.5, drop={"text"}, instead={"text": "no"})]
            return sample(model, "action | video, text, state", guides=guides, steps=3, video=clip, noise=noise,
                          text=["a", "b"], state=torch.zeros(2, 1, 3), decode=False)["action"]  # fmt: skip

    assert torch.equal(ask(True), ask(False))
    with torch.inference_mode():
        made = recipe().build()
        pull = Pull(of="action", towards=torch.ones(1, 8, 2), weights=fading(8, 2, 2))
        with pytest.raises(ValueError, match="this model was made in torch.inference_mode"):
            sample(made, "action |", guides=[pull])


def test_streams_that_are_computed_once_stay_so_under_a_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    sees = {"video": (), "action": ("video",)}
    modalities = {n: MODALITIES[n] for n in ("video", "action")}
    model = awake(recipe(modalities=modalities, layout=Layout(*(Stream(n) for n in modalities), sees=sees)).build())
    how = {"video": torch.randn(2, 4, 4, 4, 3), "steps": 3}
    pull = [Pull(of="action", towards=torch.ones(2, 8, 2), weights=fading(8, 2, 2))]
    lengths = []
    hook = model.backbone.register_forward_pre_hook(lambda m, args: lengths.append(args[0].shape[1]))
    found = sample(model, "action | video", guides=pull, **how)["action"]
    hook.remove()
    assert lengths[1:] == [4] * 3 < lengths[:1]
    monkeypatch.setattr("polyclock.solver.constant_streams", lambda *a: set())
    assert torch.allclose(sample(model, "action | video", guides=pull, **how)["action"], found, atol=1e-5)


def test_the_published_weights() -> None:
    """H = 8, d = 2, s = 3: c = (H - s - i) / (H - s - d + 1), W = c (e^c - 1) / (e - 1)."""
    e = torch.e
    middle = [c * (e**c - 1) / (e - 1) for c in (3 / 4, 2 / 4, 1 / 4)]
    assert torch.allclose(fading(8, 2, 3), torch.tensor([1.0, 1.0, *middle, 0.0, 0.0, 0.0]))
    assert fading(4, 4, 0).tolist() == [1.0] * 4 and fading(4, 0, 4).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="3 held and 2 new of 4 frames"):
        fading(4, 3, 2)


def test_faults_of_pulls() -> None:
    model = awake(recipe().build())
    good = Pull(of="action", towards=torch.zeros(1, 8, 2), weights=torch.ones(8))
    for pull, message in (
        (replace(good, of="acton"), "Did you mean 'action'"),
        (replace(good, weights=torch.ones(4)), "needs 8 numbers from 0 to 1"),
        (replace(good, weights=torch.full((8,), 1.5)), "needs 8 numbers from 0 to 1"),
        (replace(good, limit=0.0), "limit=0.0"),
        (replace(good, interval=(0.7, 0.2)), "interval"),
        (replace(good, towards=torch.zeros(3, 8, 2)), "values of 3 samples; there are 1"),
        (replace(good, towards=torch.zeros(1, 5, 2)), "it must be"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(model, "action |", guides=[pull])
    with pytest.raises(ValueError, match="no effect on frame 0 of 'action', which is given"):
        sample(model, "action[1:] | action[:1]", guides=[good], action=torch.zeros(1, 8, 2))


# Guides, aimed at actions.


class Told(WorldModel):
    """Action and video, each N(s, 1/4) around the state s ~ N(0, 1); without the state N(0, 5/4). In closed form."""

    def __init__(self) -> None:
        modalities = {n: Modality(shape=(2, 1), patch=(1,)) for n in ("action", "video")}
        state = Condition(encoder=Numbers(), shape=(1, 1), route="beside")
        layout = Layout(*(Stream(n) for n in modalities))
        super().__init__(modalities, layout, Joint(), BACKBONE, {"state": state})
        with torch.no_grad():
            self.conditioner.null["state"].fill_(torch.nan)

    def forward(self, x, t, given=None, rows=None, size=None, memory=None, wanted=None):
        state = given.features["state"][:, None]
        mean, var = state.nan_to_num(0.0), torch.where(state.isnan(), 1.25, 0.25)
        out = {}
        for name, value in x.items():
            path, wide = self.modalities[name].path, spread(t[name], 3, 1)
            a, s = path.alpha(wide), path.sigma(wide)
            clean = mean + a * var / (a**2 * var + s**2) * (value - a * mean)
            out[name] = path.target(clean, (value - a * clean) / s.clamp_min(1e-6), wide)
        return out


def test_withholding_a_condition_guides_the_actions_alone() -> None:
    state = torch.ones(4000, 1, 1)

    def ask(*guides: Guide) -> dict[str, Tensor]:
        return sample(Told(), "action, video | state", steps=50, guides=guides, state=state)

    plain, guided = ask(), ask(Guide(weight=1.0, drop={"state"}, scope={"action"}))
    assert plain["action"].mean() == pytest.approx(1.0, abs=0.03) and plain["action"].std() == pytest.approx(
        0.5, abs=0.03
    )
    # Further along than the state says, and surer of it.
    assert guided["action"].mean() > 1.1 and guided["action"].std() < 0.45
    assert torch.equal(guided["video"], plain["video"])
    every = ask(Guide(weight=1.0, drop={"state"}))
    assert torch.equal(every["action"], guided["action"]) and every["video"].mean() > 1.1
    back = ask(Guide(weight=-1.0, drop={"state"}, scope={"action"}))
    assert back["action"].mean() == pytest.approx(0.0, abs=0.05) and back["action"].std() == pytest.approx(
        1.118, abs=0.05
    )


def test_what_is_said_instead_is_raw_and_scaled_as_what_is_given() -> None:
    fitted = Quantile().fit([np.random.default_rng(0).normal(5, 3, (1000, 3)).astype("float32")])
    model = awake(recipe(conditions={"state": replace(CONDITIONS["state"], codec=fitted)}).build())
    how = {"steps": 1, "decode": False, "noise": {"action": torch.zeros(2, 8, 2)}}
    here, there = torch.ones(2, 1, 3), torch.full((1, 1, 3), 9.0)
    guide = Guide(weight=-1.0, drop={"state"}, instead={"state": there})
    found = sample(model, "action | state", state=here, guides=[guide], **how)["action"]
    assert torch.allclose(
        found, sample(model, "action | state", state=there.expand(2, -1, -1), **how)["action"], atol=1e-5
    )
    with pytest.raises(ValueError, match=r"'state' has shape \(1, 1, 9\); it must be \(B, 1, 3\)"):
        sample(model, "action | state", state=here, guides=[replace(guide, instead={"state": torch.ones(1, 1, 9)})])


def test_withholding_the_video_guides_the_actions_alone() -> None:
    """Inner guidance: of what is generated beside the actions, and of what is given."""
    generator, model, truth = torch.Generator().manual_seed(3), Exact(Linear()), draw(N)
    noise = {n: torch.randn(v.shape, generator=generator) for n, v in truth.items() if n != "depth"}
    inner = Guide(weight=1.0, drop={"video"}, scope={"action"})
    both, plain = (sample(model, "action, video |", steps=2, noise=noise, guides=g) for g in ((inner,), ()))
    assert distance(both["action"], plain["action"]) > 0.02
    one, bare = (sample(model, "action, video |", steps=1, noise=noise, guides=g) for g in ((inner,), ()))
    assert torch.equal(one["video"], bare["video"])
    given = sample(model, "action | video", steps=100, guides=[inner], video=truth["video"])["action"]
    gain = covariance()[A][:, V] @ torch.linalg.inv(covariance()[V][:, V])
    said = truth["video"].flatten(1) @ gain.T
    slope = (given.flatten(1) * said).sum() / said.square().sum()
    assert slope > 1.1, "the answer leans on the video more than the model itself does"


def test_a_guide_with_nothing_to_withhold_is_refused() -> None:
    model = awake(recipe(conditions=CONDITIONS).build())
    with pytest.raises(ValueError, match="drops text, of which the question says nothing.*possible: action, state"):
        sample(model, "action | state", guides=[Guide(weight=1.0, drop={"text"})], state=torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match="drops video, of which the question says nothing"):
        sample(model, "action |", guides=[Guide(weight=1.0, drop={"video"})])
    needed = {"state": replace(CONDITIONS["state"], required=True)}
    with pytest.raises(ValueError, match="scope of a Guide 'text'"):
        sample(model, "action |", guides=[Guide(weight=1.0, drop={"action"}, scope={"text"})])
    with pytest.raises(ValueError, match="drops 'state', which is required"):
        model = awake(recipe(conditions=needed).build())
        sample(model, "action |", guides=[Guide(weight=1.0, drop={"state"})], state=torch.zeros(1, 1, 3))
