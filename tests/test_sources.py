"""Guidance by several sources at once: the five-branch formula by hand, what it costs, and approximations of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyclock import Guide, sample
from polyclock.encoders import Bytes
from polyclock.guidance import Pull
from polyclock.layout import Layout, Stream
from polyclock.modality import NULLS, Condition
from polyclock.model import WorldModel
from polyclock.nn.modulation import Local
from polyclock.path import Discrete
from polyclock.query import Query
from polyclock.schedulers import walk
from polyclock.solver import Euler, Heun, Solver
from polyclock.timesteps import Fixed, Shared
from worlds import MODALITIES, VIDEO, awake, recipe

SOURCES = ("flow", "semantics", "geometry")
WEIGHTS = {"text": 5.0, "flow": 1.0, "semantics": 1.0, "geometry": 1.0}
QUERY, TEXT = "video, flow, semantics, geometry | text", ["a red cube falls", "nothing moves"]


@pytest.fixture(scope="module")
def model() -> WorldModel:
    features = {n: replace(VIDEO, shape=(4, 4, 4, 2), clock="video", null="zero") for n in SOURCES}
    text = Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", null="empty")
    made = recipe(
        modalities={"video": VIDEO, **features}, layout=Layout(Stream("video", *SOURCES)), law=Shared(),
        modulation=Local(shared=True), conditions={"text": text}, registers=0,
    )  # fmt: skip
    return awake(made.build())


@pytest.fixture
def calls(model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Samples of each call of the network."""
    sizes: list[int] = []
    forward = model.forward

    def counted(x, *rest, **more):
        sizes.append(len(next(iter(x.values()))))
        return forward(x, *rest, **more)

    monkeypatch.setattr(model, "forward", counted)
    yield sizes


def ask(model: WorldModel, *guides: Guide, steps: int = 4, **more) -> dict[str, Tensor]:
    return sample(model, QUERY, text=TEXT, steps=steps, guides=guides, decode=False, **more)


def start(model: WorldModel) -> dict[str, Tensor]:
    from polyclock.dice import Dice

    return {n: Dice(0, 0, range(2)).normal(f"start.{n}", *m.shape) for n, m in model.modalities.items()}


@torch.no_grad()
def by_hand(model: WorldModel, weights: dict[str, float], steps: int, only: str | None = None) -> dict[str, Tensor]:
    """Euler's steps on v(full) (1 + sum w) - sum w v(without each), written out."""
    rows = {"text": torch.arange(2)}
    told, untold = (model.conditioner({"text": words}, rows, 2) for words in (TEXT, ["", ""]))
    z = start(model)
    for k in range(steps):
        t = {n: torch.full((2, 4), 1 - k / steps) for n in z}
        v = model(z, t, told)
        total = {n: (1 + sum(weights.values())) * v[n] for n in v}
        for source, w in weights.items():
            without = {n: torch.zeros_like(x) if n == source else x for n, x in z.items()}
            branch = model(without, t, untold if source == "text" else told)
            total = {n: total[n] - w * branch[n] for n in v}
        z = {n: z[n] - (total[n] if only in (None, n) else v[n]) / steps for n in z}
    return z


def same(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 1e-4) -> bool:
    return all(torch.allclose(a[n], b[n], atol=atol) for n in b)


GUIDES = tuple(Guide(weight=w, drop={n}) for n, w in WEIGHTS.items())


def test_five_branches(model: WorldModel) -> None:
    assert same(ask(model, *GUIDES), by_hand(model, WEIGHTS, 4), 2e-4)
    plain = ask(model)
    assert not same(ask(model, *GUIDES), plain, 0.1)


@pytest.mark.parametrize("many", [1, 2, 3, 5, 9])
def test_branches_stacked_are_the_same(model: WorldModel, calls: list[int], many: int) -> None:
    out = ask(model, *GUIDES, guide_batch=many)
    assert sum(calls) == 4 * 5 * 2 and len(calls) == 4 * -(-5 // many)
    assert same(out, by_hand(model, WEIGHTS, 4), 2e-4)


def test_three_branches_and_guidance_of_the_video_alone(model: WorldModel) -> None:
    """Text, and all features at once; then the five on the video's channels only."""
    three = (Guide(weight=5.0, drop={"text"}), Guide(weight=1.0, drop=frozenset(SOURCES)))
    rows = {"text": torch.arange(2)}
    told, untold = (model.conditioner({"text": words}, rows, 2) for words in (TEXT, ["", ""]))
    z = start(model)
    with torch.no_grad():
        for k in range(4):
            t = {n: torch.full((2, 4), 1 - k / 4) for n in z}
            bare = {n: x if n == "video" else torch.zeros_like(x) for n, x in z.items()}
            v, no_text, no_features = model(z, t, told), model(z, t, untold), model(bare, t, told)
            z = {n: z[n] - (7 * v[n] - 5 * no_text[n] - no_features[n]) / 4 for n in z}
    assert same(ask(model, *three), z, 2e-4)
    scoped = tuple(replace(g, scope={"video"}) for g in GUIDES)
    assert same(ask(model, *scoped), by_hand(model, WEIGHTS, 4, only="video"), 2e-4)


def test_the_coefficients_sum_to_one(model: WorldModel) -> None:
    """Where no branch differs from another, guidance of any weight changes nothing."""
    blind = awake(model.recipe.build())
    with torch.no_grad():
        for n in SOURCES:
            blind.embed[n].weight.zero_()
            blind.embed[n].bias.zero_()
    guides = [replace(g, weight=17.0) for g in GUIDES if "text" not in g.drop]
    assert same(ask(blind, *guides), ask(blind), 1e-5)


def test_no_weight_no_cost_and_nothing_changes(model: WorldModel, calls: list[int]) -> None:
    plain = ask(model)
    assert calls == [2] * 4
    out = ask(model, *(replace(g, weight=0.0) for g in GUIDES))
    assert calls == [2] * 8 and all(torch.equal(out[n], plain[n]) for n in plain)


def test_only_text_is_classifier_free_guidance(model: WorldModel) -> None:
    """w = g - 1 of the scale g in unconditional + g (conditional - unconditional)."""
    g = 6.0
    rows = {"text": torch.arange(2)}
    told, untold = (model.conditioner({"text": words}, rows, 2) for words in (TEXT, ["", ""]))
    z = start(model)
    with torch.no_grad():
        for k in range(4):
            t = {n: torch.full((2, 4), 1 - k / 4) for n in z}
            yes, no = model(z, t, told), model(z, t, untold)
            z = {n: z[n] - (no[n] + g * (yes[n] - no[n])) / 4 for n in z}
    assert same(ask(model, Guide(weight=g - 1, drop={"text"})), z, 2e-4)


def test_a_negative_prompt_stands_in_for_the_empty_text(model: WorldModel) -> None:
    """Of another length than the prompt, stacked with it or not; as text and as what an encoder reads."""
    negative = "blurred, with a watermark, and many words more than are said otherwise"
    rows = {"text": torch.arange(2)}
    told, no = (model.conditioner({"text": words}, rows, 2) for words in (TEXT, [negative] * 2))
    z = start(model)
    with torch.no_grad():
        for k in range(4):
            t = {n: torch.full((2, 4), 1 - k / 4) for n in z}
            yes, bad = model(z, t, told), model(z, t, no)
            z = {n: z[n] + (3 * bad[n] - 4 * yes[n]) / 4 for n in z}
    guide = Guide(weight=3.0, drop={"text"}, instead={"text": negative})
    for many in (1, 2):
        assert same(ask(model, guide, guide_batch=many), z, 2e-4)
    assert not same(ask(model, replace(guide, instead={})), z, 0.01)
    with pytest.raises(ValueError, match="unknown condition that a Guide drops 'text'"):
        ask(model, Guide(weight=3.0, drop={"flow"}, instead={"text": negative}))


def test_guidance_in_the_first_half_alone(model: WorldModel, calls: list[int]) -> None:
    first = tuple(replace(g, interval=(0.51, 1.0)) for g in GUIDES)
    ask(model, *first, guide_batch=5)
    assert calls == [10, 10, 2, 2]


def test_differences_that_are_found_now_and_then(model: WorldModel, calls: list[int]) -> None:
    """Three steps of four go on with what the last look found; each guide by a measure of its own."""
    often, rarely = GUIDES[0], replace(GUIDES[1], every=4)
    out = ask(model, often, rarely, steps=8)
    assert sum(calls) == 2 * (8 + 8 + 2)
    rows = {"text": torch.arange(2)}
    told, untold = (model.conditioner({"text": words}, rows, 2) for words in (TEXT, ["", ""]))
    z, old = start(model), {}
    with torch.no_grad():
        for k in range(8):
            t = {n: torch.full((2, 4), 1 - k / 8) for n in z}
            v, no = model(z, t, told), model(z, t, untold)
            if k % 4 == 0:
                blind = model({**z, "flow": torch.zeros_like(z["flow"])}, t, told)
                old = {n: v[n] - blind[n] for n in v}
            z = {n: z[n] - (v[n] + 5 * (v[n] - no[n]) + old[n]) / 8 for n in z}
    assert same(out, z, 2e-4)
    assert not same(out, ask(model, often, GUIDES[1], steps=8), 1e-3)
    with pytest.raises(ValueError, match="every=0 evaluations of a Guide"):
        ask(model, replace(often, every=0))


# Streams that a call leaves as they are.


def watching(route: str = "tokens") -> WorldModel:
    """A video that looks at depth alone, which looks at nothing else; actions look at both."""
    layout = Layout(*map(Stream, ("depth", "video", "action")), sees={"depth": (), "video": ("depth",)})
    text = Condition(encoder=Bytes(width=16, depth=1, heads=2), route=route, null="empty")
    mean = replace(MODALITIES["depth"], null="mean", mean=(0.7,))
    parts = {"modalities": MODALITIES | {"depth": mean}, "conditions": {"text": text}, "layout": layout}
    model = awake(recipe(**parts).build())
    model.patterns = None  # how it was trained is not what is tested
    return model


INNER = (
    Guide(weight=2.0, drop={"video"}),
    Guide(weight=3.0, drop={"text"}, interval=(0.4, 1.0), instead={"text": "quite another and much longer sentence"}),
    Guide(weight=-1.0, drop={"depth"}, every=3),
    Guide(weight=1.0, drop={"video", "text"}, fill="blank"),
)


@pytest.mark.parametrize("many", [1, 2, 5])
@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=["euler", "heun"])
def test_what_stays_the_same_is_worked_out_once_in_each_branch(
    solver: Solver, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each branch has keys and values of its own, of what it is shown and told; evaluations hold actions alone."""
    model = watching()
    torch.manual_seed(3)
    seen = {n: torch.randn(2, *model.modalities[n].shape) for n in ("video", "depth")}
    how = {"guide_batch": many, "steps": 6, "solver": solver, "text": TEXT, "decode": False, **seen}

    def ask(*guides: Guide | Pull) -> tuple[Tensor, list[int]]:
        lengths: list[int] = []
        hook = model.backbone.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
        out = sample(model, "action | video, depth, text", guides=guides, **how)["action"]
        hook.remove()
        return out, lengths

    pull = Pull(of="action", towards=torch.ones(2, 8, 2), weights=torch.tensor([1.0] * 4 + [0.0] * 4))
    each = [INNER, (INNER[0],), INNER[1:3], (*INNER, pull), ()]
    fast = [ask(*guides) for guides in each]
    monkeypatch.setattr("polyclock.solver.constant_streams", lambda *_: set())
    for guides, (out, lengths) in zip(each, fast, strict=True):
        slow, whole = ask(*guides)
        torch.testing.assert_close(out, slow, atol=2e-5, rtol=1e-4)
        once = [length for length in lengths if length != 4]
        assert 4 not in whole and {length + 4 for length in once} <= set(whole)
        # One by one each branch is passed once; together, once for each set of them that passes together.
        assert 0 < len(once) <= (1 + sum(isinstance(g, Guide) for g in guides) if many == 1 else 5)
        assert lengths.count(4) == len(whole)
    assert not torch.allclose(fast[0][0], fast[-1][0], atol=0.1)


@pytest.mark.parametrize("fill", NULLS)
def test_a_withheld_value_that_stays_the_same_looks_as_ever(fill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = watching("context")
    torch.manual_seed(4)
    how = {"steps": 3, "text": TEXT, "decode": False, "guides": [Guide(weight=2.0, drop={"depth"}, fill=fill)]}
    how |= {n: torch.randn(2, *model.modalities[n].shape) for n in ("video", "depth")}
    fast = sample(model, "action | video, depth, text", **how)["action"]
    plain = sample(model, "action | video, depth, text", **how | {"guides": ()})["action"]
    monkeypatch.setattr("polyclock.solver.constant_streams", lambda *_: set())
    torch.testing.assert_close(
        sample(model, "action | video, depth, text", **how)["action"], fast, atol=1e-5, rtol=1e-4
    )
    assert not torch.allclose(fast, plain, atol=1e-3)


# The solver's times, towards noise.


def test_shifted_times_of_every_solver(model: WorldModel) -> None:
    """3 t / (1 + 2 t), as the published pipelines walk pictures of 480 px; all channels on one clock."""
    pytest.importorskip("diffusers")
    roles = Query.parse(QUERY).roles(model.modalities, model.conditions)
    even = torch.linspace(1, 0, 9)
    for solver in ("euler", "heun"):
        rows = walk(solver, 8, model, QUERY, 3.0)["schedule"].rows(roles, model.modalities)
        for name in model.modalities:
            found = torch.stack([row[name][0] for row in rows])
            torch.testing.assert_close(found, 3 * even / (1 + 2 * even))
    for solver in ("dpm++", "unipc"):
        plain, pushed = (
            torch.stack(
                [
                    row["video"][0]
                    for row in walk(solver, 8, model, QUERY, shift)["solver"].rows(roles, model.modalities)
                ]
            )
            for shift in (1.0, 3.0)
        )
        torch.testing.assert_close(pushed, 3 * plain / (1 + 2 * plain), atol=2e-3, rtol=0)
    assert set(walk("euler", 8, model, QUERY)) == {"steps", "solver"}
    plain, pushed = (
        sample(model, QUERY, text=TEXT, decode=False, **walk("euler", 3, model, QUERY, s)) for s in (1.0, 3.0)
    )
    assert not same(plain, pushed, 0.01)


def test_times_that_cannot_be_shifted(model: WorldModel) -> None:
    with pytest.raises(ValueError, match=r"shift=0\.0 of the solver's times; above 0 is possible"):
        walk("euler", 3, model, QUERY, 0.0)
    table = {"video": replace(VIDEO, path=Discrete())}
    with pytest.raises(ValueError, match="shift=3 of the solver's times: the times of 'video' are those of a table"):
        walk("euler", 3, recipe(modalities=table).build(), "video |", 3.0)
    with pytest.raises(ValueError, match="this model answers in one step; possible: 1"):
        walk("euler", None, recipe(law=Fixed(1.0)).build(), "video |", 3.0)
