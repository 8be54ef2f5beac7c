"""The golden numbers of the authors' code: they are what the formulas of `uwm_reference` say, to 1e-5.

So the fixtures are whole and understood, and whoever builds a model against them can look up what differs. The files
come from `tools/make_uwm_golden.py`; what fed the authors' code comes from `uwm_weights`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import uwm_reference as reference
from safetensors import safe_open
from torch import Tensor

import uwm_weights as numbers
from polyclock.interop import uwm_names
from polyclock.path import squared_cosine

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "uwm"
SIZES = ("narrow", "three", pytest.param("full", marks=pytest.mark.slow))
QUICK = ("narrow", "three")  # "full" ran in evaluation alone, where nothing is cropped or jittered at random
CLOSE = 1e-5


class Golden:
    """One file of numbers, what fed it, and its random draws; `double`: that of float64."""

    def __init__(self, name: str, double: bool = False) -> None:
        self.name, self.sizes = name, numbers.GOLDEN[name]
        with safe_open(FOLDER / f"{name}{'_double' if double else ''}.safetensors", "pt") as file:
            self.tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
            self.notes = {n: json.loads(v) for n, v in file.metadata().items()}
        parts = [numbers.state(self.sizes, p) for p in ("noise_pred_net", "obs_encoder.img", "obs_encoder.text")]
        self.weights = {n: v for part in parts for n, v in part.items()}
        self.now, self.later = (numbers.observation(name, self.sizes, when) for when in ("now", "later"))
        self.action = numbers.actions(name, self.sizes)
        self.sentence = numbers.sentence(name, self.sizes) if self.sizes.language else None

    def draws(self, case: str) -> reference.Draw:
        """The draws of a case, one after another, each checked against what theirs asked for at that point."""
        order, at = self.notes["draws"][case], iter(range(1000))

        def draw(kind: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
            place = next(at)
            bounds = [] if kind.startswith("randn") else [low, high]
            assert order[place] == [kind, list(shape), *bounds], f"draw {place} of {case}"
            return numbers.draw(f"{self.name}/{case}", place, kind, shape, low, high)

        return draw

    def features(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        return reference.features(weights or self.weights, images, self.now, self.sizes, self.sentence)

    def meets(self, name: str, value: Tensor, bound: float = CLOSE) -> None:
        """`value` is the golden number of this name, or has its sketch."""
        if f"{name}.projection" in self.tensors:
            apart = float((numbers.projection(name, value) - self.tensors[f"{name}.projection"]).abs())
            assert apart <= bound, f"{name}, projected: {apart:.2e}"
        if name in self.tensors:
            want = self.tensors[name]
        else:
            want, value = self.tensors[f"{name}.sketch"], numbers.sketch(value)
        assert value.shape == want.shape and value.dtype == want.dtype, name
        assert float((value - want).abs().max()) <= bound, f"{name}: {float((value - want).abs().max()):.2e}"


@pytest.fixture(scope="module", params=SIZES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


@pytest.fixture(scope="module", params=QUICK)
def quick(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_the_numbers_behind_the_numbers_do_not_change() -> None:
    """A hash, so that nobody edits the functions of `uwm_weights` without making the fixtures anew."""
    assert numbers.uniform("a", (3,)).tolist() == [-0.5454881191253662, -0.35872602462768555, 0.23154890537261963]
    assert numbers.draw("case", 0, "randint", (4,), 0, 100).tolist() == [7, 30, 5, 77]
    assert numbers.draw("case", 1, "randperm", (1,), 0, 4).tolist() == [2, 1, 0, 3]
    assert numbers.pictures("p", (1, 9, 9, 3)).sum().item() == 36890


@pytest.mark.parametrize("name", list(numbers.GOLDEN))
def test_names_and_shapes_are_those_of_the_authors(name: str) -> None:
    """The tool compared `numbers.shapes` with their state dict; `interop.uwm_names` says the same in its own words."""
    sizes, notes = numbers.GOLDEN[name], notes_of(name)
    shapes = numbers.shapes(sizes)
    assert len(shapes) == notes["names"] and numbers.fingerprint(shapes) == notes["fingerprint"]
    ours = uwm_names.network(
        embed=sizes.embed,
        depth=sizes.depth,
        action=sizes.action,
        registers=sizes.registers,
        places=sizes.horizon + sizes.image_tokens + sizes.registers,
        latent=4,
        patch=sizes.patch,
        time=sizes.time,
        condition=sizes.features + sizes.time,
    )
    ours |= uwm_names.eye(sizes.embed) | uwm_names.latents(4) | uwm_names.autoencoder(sizes.vae, 2, 4)
    text = {n: s for n, s in shapes.items() if n.startswith(uwm_names.TEXT)}
    assert ours | text == shapes


def notes_of(name: str) -> dict:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return {n: json.loads(v) for n, v in file.metadata().items()}


def test_the_table_and_the_rows(golden: Golden) -> None:
    assert torch.equal(golden.tensors["alpha_bar"], squared_cosine(100)[1:])
    assert golden.tensors["rows"].tolist() == list(range(90, -1, -10))
    rows = reference.PATH.rows(10)
    assert (reference.PATH.stamp(rows[:-1]) * 100).round().long().tolist() == golden.tensors["rows"].tolist()


def test_features_in_evaluation(golden: Golden) -> None:
    (images,) = reference.transformed([golden.now], golden.sizes, None)
    golden.meets("encode.features", golden.features(images))


def test_transforms_and_features_in_training(quick: Golden) -> None:
    golden = quick
    (images,) = reference.transformed([golden.now], golden.sizes, None)
    golden.meets("encode.images", images.movedim(3, 2))
    now, later = reference.transformed([golden.now, golden.later], golden.sizes, golden.draws("transform"))
    golden.meets("transform.now", now.movedim(3, 2))
    golden.meets("transform.later", later.movedim(3, 2))
    now, _ = reference.transformed([golden.now, golden.later], golden.sizes, golden.draws("encode_train"))
    golden.meets("encode_train.features", golden.features(now))


def test_the_network(golden: Golden) -> None:
    sizes, seen = golden.sizes, golden.tensors["encode.features"]
    action = numbers.noise(f"{golden.name}/network/action", (sizes.batch, sizes.horizon, sizes.action))
    video = numbers.noise(f"{golden.name}/network/video", (sizes.batch, *sizes.latent))
    asked = {f"{a}.{o}": (torch.tensor([a] * sizes.batch), torch.tensor([o] * sizes.batch)) for a, o in numbers.PLACES}
    asked["each"] = (torch.tensor([3, 34]), torch.tensor([97, 52]))
    kept = {name: places for name, places in asked.items() if f"network.{name}.action" in golden.tensors}
    assert len(kept) == (3 if golden.name == "full" else 7)
    for name, (t_action, t_video) in kept.items():
        out = reference.network(golden.weights, sizes, seen, action, t_action, video, t_video)
        golden.meets(f"network.{name}.action", out[0])
        golden.meets(f"network.{name}.video", out[1])


def check_losses(golden: Golden, case: str, seen: Tensor, latents: Tensor, weights: dict, draw: reference.Draw) -> None:
    """Loss and every parameter's gradient, from features (B, condition) that depend on `weights`."""
    has = numbers.present(golden.sizes) if case == "loss_absent" else None
    parts = reference.losses(weights, golden.sizes, seen, latents, golden.action, has, draw)
    total = sum(parts)
    want = golden.tensors[f"{case}.parts"]
    assert torch.allclose(torch.stack([total, *parts]).detach().double(), want, rtol=1e-5)
    gradients = torch.autograd.grad(total, [weights[n] for n in golden.notes["parameters"]])
    norms, kept = golden.tensors[f"{case}.norms"], golden.tensors[f"{case}.gradients"]
    for name, gradient, norm, some in zip(golden.notes["parameters"], gradients, norms, kept, strict=True):
        assert abs(float(gradient.double().norm() - norm)) <= 1e-4 * float(norm), name
        bound = 1e-5 + 1e-4 * float(norm) / gradient.numel() ** 0.5
        assert float((numbers.sketch(gradient, len(some))[2:] - some).abs().max()) <= bound, name


@pytest.mark.parametrize("case", ["loss", "loss_absent"])
def test_losses_and_gradients_in_training(quick: Golden, case: str) -> None:
    weights = {n: v.clone().requires_grad_() for n, v in quick.weights.items()}
    draw = quick.draws(case)
    now, _ = reference.transformed([quick.now, quick.later], quick.sizes, draw)
    seen = quick.features(now, weights)
    quick.meets(f"{case}.features", seen.detach())
    latents = quick.tensors[f"{case}.latents"]
    draw("randn", tuple(latents.movedim(3, 2).flatten(0, 2).shape))  # the autoencoder's posterior
    check_losses(quick, case, seen, latents, weights, draw)


@pytest.mark.slow
def test_losses_and_gradients_at_the_published_size() -> None:
    golden = Golden("full")
    weights = {n: v.requires_grad_() for n, v in golden.weights.items()}
    (now,) = reference.transformed([golden.now], golden.sizes, None)
    seen = golden.features(now, weights)
    check_losses(golden, "loss", seen, golden.tensors["encode.latents"], weights, golden.draws("loss"))


@pytest.mark.parametrize(
    ("case", "moving", "still"),
    [
        ("marginal_action", "action", 90),
        ("marginal_video", "video", 90),
        ("forward", "video", 0),
        ("inverse", "action", 0),
        ("joint", "action video", 0),
    ],
)
def test_samplers(golden: Golden, case: str, moving: str, still: int) -> None:
    """Which noise is drawn, in what order, and where what stands still is said to be."""
    sizes, draw = golden.sizes, golden.draws(case)
    video = golden.tensors["encode.latents"]  # drawn below where it is not given; in "inverse" with another posterior
    if case == "inverse" and golden.name != "full":
        draw("randn", tuple(video.movedim(3, 2).flatten(0, 2).shape))  # the autoencoder's posterior
        video = golden.tensors["inverse.latents"]
    action = golden.action if case == "forward" else draw("randn", tuple(golden.action.shape))
    if case != "inverse":
        video = draw("randn", tuple(video.shape))
    out = reference.sampled(golden.weights, sizes, golden.tensors["encode.features"], action, video, moving, still)
    for name, value in zip(("action", "video"), out, strict=True):
        if name in moving:
            golden.meets(f"{case}.{name}", value, 2 * CLOSE)


def test_with_torch_own_generator(quick: Golden) -> None:
    """The order of draws is also that of `torch.manual_seed`: action first, then video."""
    golden = quick
    sizes = golden.sizes
    torch.manual_seed(7)
    action, video = torch.randn(golden.action.shape), torch.randn(sizes.batch, *sizes.latent)
    seen = golden.tensors["encode.features"]
    out, _ = reference.sampled(golden.weights, sizes, seen, action, video, "action", 90)
    golden.meets("seeded.marginal_action", out, 2 * CLOSE)
