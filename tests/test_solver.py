"""Asking: schedules, solvers, guides, explicit noise, given values, and the messages of `sample`."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from polyclock.codecs import Pixels
from polyclock.guidance import Guide
from polyclock.layout import Layout, Stream, after, one_of
from polyclock.modality import Modality
from polyclock.nn.modulation import Joint
from polyclock.path import Cosine, Discrete, Linear
from polyclock.query import Query
from polyclock.schedule import Asynchronous, Chunks, Pyramid, Together
from polyclock.schedulers import Diffusers, walk
from polyclock.solver import Heun, sample
from polyclock.timesteps import Fixed, Independent, PerFrame, Task
from worlds import CONDITIONS, MODALITIES, VIDEO, awake, recipe

PIXELS = {"video": replace(VIDEO, codec=Pixels(), rate=2.0), "action": MODALITIES["action"]}


@pytest.fixture(scope="module")
def model():
    conditions = {"text": CONDITIONS["text"]}
    return awake(recipe(modalities=PIXELS, conditions=conditions).build())


def clip(size=2):
    g = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (size, 4, 4, 4, 3), dtype=torch.uint8, generator=g)


def test_wanted_frames_are_new_and_given_ones_are_as_they_were(model):
    video, action = clip(), torch.randn(2, 8, 2)
    out = sample(model, "video[2:] | video[:2], action", video=video, action=action, steps=3)["video"]
    assert out.dtype == torch.uint8 and torch.equal(out[:, :2], video[:, :2])
    assert not torch.equal(out[:, 2:], video[:, 2:])
    short = sample(model, "video[2:] | video[:2], action", video=video[:, :2], action=action, steps=3)["video"]
    assert torch.equal(short, out)


def test_a_given_span_from_the_middle(model):
    video = clip()
    full = sample(model, "action | video[1:3]", video=video, steps=2)["action"]
    assert torch.equal(sample(model, "action | video[1:3]", video=video[:, 1:3], steps=2)["action"], full)


def test_answers_do_not_depend_on_the_batch(model):
    video = clip(3)
    many = sample(model, "action | video", video=video, steps=3)["action"]
    one = sample(model, "action | video", video=video[:1], steps=3)["action"]
    assert torch.allclose(many[:1], one, atol=1e-5)
    assert not torch.equal(sample(model, "action | video", video=video, steps=3, seed=1)["action"], many)


def test_explicit_noise_is_where_it_starts(model):
    noise = torch.randn(2, 8, 2)
    a, b = (sample(model, "action |", noise={"action": noise}, seed=s, steps=1, decode=False) for s in (0, 0))
    assert torch.equal(a["action"], b["action"])
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2\); it must be \(2, 8, 2\)"):
        sample(model, "action |", noise={"action": torch.zeros(2, 3, 2)})


def test_absent_modalities_have_no_tokens(model):
    lengths = []
    hook = model.backbone.register_forward_pre_hook(lambda m, args: lengths.append(args[0].shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample(model, "action | -video", steps=1)
    sample(model, "action |", steps=1)
    hook.remove()
    assert lengths == [2 + 4, 2 + 4 + 16]


def test_free_names_are_numbers(model):
    out = sample(model, "action[k:] | action[:k]", k=1, action=torch.ones(2, 2, 2), steps=2)["action"]
    assert torch.equal(out[:, :2], torch.ones(2, 2, 2))


def test_text_is_a_list_and_its_absence_is_null(model):
    video = clip()
    a, b, c = (
        sample(model, q, video=video, steps=2, **k)["action"]
        for q, k in (
            ("action | video, text", {"text": ["open", "close"]}),
            ("action | video, text", {"text": ["open", "open"]}),
            ("action | video", {}),
        )
    )
    assert torch.equal(a[0], b[0]) and not torch.allclose(a[1], b[1]) and not torch.allclose(a, c)


def test_one_text_is_a_list_of_one(model):
    a, b = (sample(model, "action | text", text=text, steps=1)["action"] for text in ("open", ["open"]))
    assert a.shape == (1, 8, 2) and torch.equal(a, b)


def test_a_model_in_training_answers_as_ever_and_goes_on_training():
    class Wild(torch.nn.Module):
        length = 1

        def forward(self, values):
            return torch.nn.functional.dropout(values.flatten(1)[:, None], 0.5, self.training)

    parts = {"modalities": PIXELS, "conditions": {"state": CONDITIONS["state"]}}
    model = awake(recipe(**parts).build())
    model.conditioner.encoder["state"] = torch.nn.Sequential(Wild(), torch.nn.Linear(3, 16)).eval()
    state = torch.ones(4, 1, 3)
    calm = sample(model, "action | state", state=state, steps=1)["action"]
    model.train()
    assert torch.equal(sample(model, "action | state", state=state, steps=1)["action"], calm)
    assert all(m.training for m in model.modules())


def test_frames_at_two_times_are_refused_where_the_network_knows_one(monkeypatch):
    model = awake(recipe(modalities=PIXELS, modulation=Joint()).build())
    calls = []
    monkeypatch.setattr(model, "forward", lambda *args, **more: calls.append(args))
    with pytest.raises(ValueError, match="one time per modality, but the frames of 'video' differ"):
        sample(model, "video[2:] | video[:2]", video=clip())
    assert not calls, "on a GPU the network would not look"


@pytest.mark.parametrize(
    ("query", "values", "message"),
    [
        ("action | video", {}, "needs a value for 'video'"),
        ("action | video", {"video": clip(), "depth": clip()}, "unknown value"),
        ("action | video", {"video": clip()[:, :3]}, r"must be \(B, 4 frames, 4, 4, 3\)"),
        ("action | video[:2]", {"video": clip()[:, :3]}, r"must be \(B, 2 or 4 frames"),
        ("action | video, text", {"video": clip(), "text": ["one"]}, "one batch size"),
        ("action | video", {"video": clip().numpy()}, "'video' must be a tensor, not ndarray"),
        ("action | text", {"text": torch.zeros(1, 3)}, "'text' must be a text, or a list of one for each sample"),
        ("action | text", {"text": torch.zeros(1, 3).numpy()}, "'text' must be a text"),
        ("action |", {"size": 0}, "at least one sample"),
        ("action[k:] |", {}, "free name"),
        ("acton |", {}, "Did you mean 'action'"),
    ],
)
def test_faults_are_named(model, query, values, message):
    with pytest.raises(ValueError, match=message):
        sample(model, query, **values)


def test_untrained_queries_warn_once_and_raise_if_strict():
    model = awake(recipe(modalities=PIXELS, law=Independent()).build())
    with pytest.warns(UserWarning, match="lies outside what this model was trained for") as told:
        sample(model, "action | video[:2]", video=clip()[:, :2], steps=1)
    assert told[0].filename == __file__
    with pytest.raises(ValueError, match="lies outside"):
        sample(model, "action | video[:2]", video=clip()[:, :2], steps=1, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(model, "action | video", video=clip(), steps=1)


def test_of_a_shared_slot_only_the_named_one_has_tokens():
    modalities = {"video": VIDEO, "depth": VIDEO, "normal": VIDEO}
    layout = Layout(Stream("video"), Stream(one_of("depth", "normal")))
    law = Task("depth | video")
    model = awake(recipe(modalities=modalities, layout=layout, law=law).build())
    assert set(sample(model, "depth | video", video=torch.randn(1, 4, 4, 4, 3), steps=1)) == {"depth"}
    with pytest.raises(ValueError, match="share one slot"), pytest.warns(UserWarning, match="outside"):
        sample(model, "depth, normal | video", video=torch.randn(1, 4, 4, 4, 3))


SCHEDULES = [
    Together(steps=5),
    Together(steps=5, shift={"video": 3.0}),
    Asynchronous(steps={"video": 7, "action": 3}),
    Pyramid(steps=5, lag=2),
    Chunks(count=2, steps=5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_rows_fall_from_start_to_zero_and_never_rise(schedule):
    roles = Query.parse("video[1:], action | video[:1]").roles(PIXELS)
    rows = schedule.rows(roles, PIXELS)
    for a, b in zip(rows, rows[1:], strict=False):
        assert all((b[n] <= a[n]).all() for n in PIXELS)
    assert rows[0]["video"].tolist() == [0, 1, 1, 1] and (rows[0]["action"] == 1).all()
    assert all((rows[-1][n] == 0).all() for n in PIXELS)


def test_schedules_differ_as_they_say():
    roles = Query.parse("video, action |").roles(PIXELS)
    moves = Asynchronous(steps={"video": 6, "action": 3}).rows(roles, PIXELS)
    assert sum(not torch.equal(a["action"], b["action"]) for a, b in zip(moves, moves[1:], strict=False)) == 3
    pyramid = Pyramid(steps=4, lag=1).rows(roles, PIXELS)
    assert pyramid[1]["video"].tolist() == pytest.approx([0.75, 1, 1, 1])
    chunks = Chunks(count=2, steps=4).rows(roles, PIXELS)
    assert chunks[4]["video"].tolist() == [0, 0, 1, 1]


def test_what_is_idle_stays_unknown_or_with_its_clock():
    flow = replace(VIDEO, null="zero", clock="video")
    late = replace(VIDEO, path=Discrete(unknown=0.91))
    modalities = {"video": VIDEO, "flow": flow, "late": late}
    rows = Together(steps=4).rows(Query.parse("video |").roles(modalities), modalities)
    assert all(torch.equal(r["flow"], r["video"]) for r in rows)
    assert all((r["late"] == 0.91).all() for r in rows)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Together(steps=0), "at least 1"),
        (Together(shift={"vdeo": 2.0}), "Did you mean 'video'"),
        (Together(shift={"video": 0.0}), "shift=0.0 of times must be above 0"),
        (Asynchronous(steps={"video": 3}), "'action' is wanted but has no number of steps"),
        (Pyramid(lag=-1), "at least 0"),
    ],
)
def test_faults_of_schedules(model, schedule, message):
    with pytest.raises(ValueError, match=message):
        sample(model, "video, action |", schedule=schedule)


def test_guides_move_only_their_scope_and_never_what_they_drop(model):
    plain = sample(model, "video, action |", steps=1, decode=False)
    guide = Guide(weight=2.0, drop={"video"})
    out = sample(model, "video, action |", steps=1, decode=False, guides=(guide,))
    assert torch.equal(out["video"], plain["video"]) and not torch.allclose(out["action"], plain["action"])
    early = replace(guide, interval=(0.0, 0.5))
    same = sample(model, "video, action |", steps=1, decode=False, guides=(early,))
    assert torch.equal(same["action"], plain["action"])


def test_text_guidance_is_classifier_free_guidance(model):
    def velocity(q, guides=(), **k):
        noise = {"action": torch.zeros(1, 8, 2)}
        return sample(model, q, steps=1, noise=noise, guides=guides, decode=False, **k)["action"]

    text = {"text": ["open"]}
    with_text, without = velocity("action | text", **text), velocity("action |", size=1)
    scale = 4.0  # diffusers' guidance_scale is 1 + w
    guided = velocity("action | text", (Guide(weight=scale - 1, drop={"text"}),), **text)
    assert torch.allclose(guided, without + scale * (with_text - without), atol=1e-4)


def test_faults_of_guides(model):
    for guide, message in (
        (Guide(weight=1.0, drop={"txt"}), "Did you mean 'text'"),
        (Guide(weight=1.0, drop=()), "drops nothing"),
        (Guide(weight=1.0, drop={"text"}, fill="average"), "Possible: noise, zero, mean, blank"),
        (Guide(weight=1.0, drop={"text"}, interval=(0.5, 0.2)), "interval"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(model, "action |", guides=(guide,))


def test_heun_refuses_a_path_without_derivative():
    table = {"a": Modality(shape=(2, 1), patch=(1,), path=Discrete())}
    model = awake(recipe(modalities=table).build())
    with pytest.raises(ValueError, match="discrete path of 'a'"):
        sample(model, "a |", solver=Heun())


def test_schedulers_of_diffusers_walk_like_ours():
    diffusers = pytest.importorskip("diffusers")
    modalities = {
        "video": Modality(shape=(2, 3), patch=(1,), path=Linear()),
        "action": Modality(shape=(2, 3), patch=(1,), path=Discrete(steps=100)),
    }
    model = awake(recipe(modalities=modalities).build())
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    ddim = diffusers.DDIMScheduler(100, beta_schedule="squaredcos_cap_v2")
    for name, scheduler in (("video", flow), ("action", ddim)):
        theirs = sample(model, f"{name} |", solver=Diffusers({name: scheduler}, steps=10), seed=4)[name]
        schedule = Diffusers({name: scheduler}, steps=10)
        ours = sample(model, f"{name} |", schedule=schedule, seed=4)[name]
        assert torch.allclose(theirs, ours, atol=1e-5), name
    both = Diffusers({"video": flow, "action": ddim}, steps=10)
    assert set(sample(model, "video, action |", solver=both)) == {"video", "action"}


def test_schedulers_that_mean_something_else_are_refused():
    diffusers = pytest.importorskip("diffusers")
    modalities = {n: Modality(shape=(2, 3), patch=(1,), path=p) for n, p in (("a", Linear()), ("b", Discrete()))}
    model = awake(recipe(modalities=modalities, law=PerFrame()).build())
    flow, ddim = diffusers.FlowMatchEulerDiscreteScheduler(), diffusers.DDIMScheduler(100)
    cut = {"thresholding": True, "sample_max_value": 2.0}
    thresholded = diffusers.DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", **cut)
    for query, solver, message in (
        ("a |", Diffusers({"a": ddim}), "expects 'epsilon', but the path of 'a' predicts 'velocity'"),
        ("b |", Diffusers({"b": ddim}), "alpha of the scheduler of 'b' differs"),
        ("b |", Diffusers({"b": diffusers.DDIMScheduler(50)}), "table of 50 steps"),
        ("a, b |", Diffusers({"a": flow}), "'b' is wanted but has no scheduler"),
        ("b[1:] |", Diffusers({"b": thresholded}), "thresholding looks at all frames of 'b' at once"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(model, query, solver=solver)


@pytest.mark.parametrize("name", ["dpm++", "unipc"])
def test_a_named_solver_limits_the_clean_estimate_as_the_path_does(name):
    """Noise at the first row of a table is divided by alpha, which is 0.0005 there, and so are its errors."""
    pytest.importorskip("diffusers")

    def built(clip):
        path = Discrete(steps=100, spacing="trailing", clip=clip)
        modalities = {"a": Modality(shape=(4, 3), patch=(1,), path=path)}
        return awake(recipe(modalities=modalities, law=PerFrame()).build())

    model, given = built(1.0), torch.rand(64, 4, 3) - 0.5
    for query, values in (("a |", {"size": 64}), ("a[1:] | a[:1]", {"a": given})):
        for steps in (2, 5):
            out = sample(model, query, **walk(name, steps, model, query), **values)["a"]
            assert 0.1 < out.abs().max() <= 1 + 1e-5, (query, steps)
    assert torch.equal(out[:, :1], given[:, :1])
    free = built(None)
    assert sample(free, "a |", size=64, **walk(name, 2, free, "a |"))["a"].abs().max() > 5
    with pytest.raises(ValueError, match="limits the clean estimate to 2, which schedulers .* to 1 alone"):
        walk(name, 2, built(2.0), "a |")


@pytest.mark.parametrize("text", [None, ["open", "shut the door"]])
def test_streams_that_see_only_what_is_given_are_computed_once(text, monkeypatch):
    sees = {"video": (), "depth": ("video",), "action": ("video", "depth")}
    modalities = {n: MODALITIES[n] for n in ("video", "depth", "action")}
    conditions = {"text": replace(CONDITIONS["text"], route="tokens", drop=0.0)}
    layout = Layout(*(Stream(n) for n in modalities), sees=sees)
    model = awake(recipe(modalities=modalities, layout=layout, conditions=conditions).build())
    model.patterns = None  # how it was trained is not what is tested
    video, query, given = torch.randn(2, 4, 4, 4, 3), "action | video, -depth", {}
    if text:
        query, given = "action | video, text", {"text": text}
    lengths = []
    hook = model.backbone.register_forward_pre_hook(lambda m, args: lengths.append(args[0].shape[1]))
    fast = sample(model, query, video=video, steps=4, **given)["action"]
    hook.remove()
    assert len(lengths) == 5 and lengths[1:] == [4] * 4  # once what is given, then four action tokens a step
    monkeypatch.setattr("polyclock.solver.constant_streams", lambda *a: set())
    assert torch.allclose(sample(model, query, video=video, steps=4, **given)["action"], fast, atol=1e-5)


def test_a_setting_without_effect_is_an_error(model):
    with pytest.raises(ValueError, match="steps=5 has no effect beside a schedule"):
        sample(model, "action |", steps=5, schedule=Together(steps=3))
    with pytest.raises(ValueError, match="brings its own schedule"):
        sample(model, "action |", schedule=Together(steps=3), solver=Diffusers({}))


def test_open_sizes_are_seen_at_the_call():
    wide = replace(VIDEO, shape=(4, None, None, 3))
    modalities = {"video": wide, "depth": replace(wide, shape=(4, None, None, 1)), "action": MODALITIES["action"]}
    layout = Layout(Stream("video"), Stream("depth", at=after("video", axis="W")), Stream("action"))
    model = awake(recipe(modalities=modalities, layout=layout).build())
    fixed = {n: replace(m, shape=(4, 6, 8, m.shape[-1])) if n != "action" else m for n, m in modalities.items()}
    same = awake(recipe(modalities=fixed, layout=layout).build())
    video = torch.randn(2, 4, 6, 8, 3)
    shapes = {"depth": (4, 6, 8, 1)}
    ours = sample(model, "depth, action | video", video=video, shapes=shapes, steps=2)
    theirs = sample(same, "depth, action | video", video=video, steps=2)
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    with pytest.raises(ValueError, match=r"the size of 'depth' is open, \(4, None, None, 1\)"):
        sample(model, "depth | video", video=video)
    fused = recipe(modalities=modalities, layout=Layout(Stream("video", "depth"), Stream("action"))).build()
    assert sample(fused, "depth | video", video=video, steps=1)["depth"].shape == (2, 4, 6, 8, 1)


def test_solvers_that_cannot_walk_say_so():
    pytest.importorskip("diffusers")
    modalities = {"a": Modality(shape=(2, 3), patch=(1,), path=Cosine(predict="noise"))}
    model = recipe(modalities=modalities).build()
    with pytest.raises(ValueError, match="Possible: euler, heun, dpm\\+\\+, unipc"):
        walk("rk4", 3, model, "a |")
    with pytest.raises(ValueError, match="schedulers of diffusers do not know"):
        walk("unipc", 3, model, "a |")
    once = recipe(modalities=modalities, law=Fixed(1.0)).build()
    with pytest.raises(ValueError, match="answers in one step"):
        walk("dpm++", None, once, "a |")
    for how in ({"steps": 3}, {"schedule": Together(steps=3)}, {"schedule": Chunks(count=2, steps=1)}):
        with pytest.raises(ValueError, match="[23] steps, but this model was trained at t = 1 alone"):
            sample(once, "a |", **how)
    assert sample(once, "a |", schedule=Together(steps=1))["a"].shape == (1, 2, 3)
