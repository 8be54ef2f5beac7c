"""A checkpoint of the authors' as a model of ours: features, outputs, losses, gradients and samplers are theirs.

The golden numbers are what their own code said (`tools/make_uwm_golden.py`); `test_uwm_golden` says how to read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_uwm_golden import CLOSE, QUICK, SIZES, Golden
from torch import Tensor, nn

import uwm_weights as numbers
from polyclock import sample
from polyclock.batch import Batch
from polyclock.codecs import vae as vae_module
from polyclock.conditioning import Given
from polyclock.dice import Dice
from polyclock.intake import fill_given
from polyclock.interop import uwm
from polyclock.interop.uwm_checkpoint import read_checkpoint
from polyclock.interop.uwm_layout import Settled
from polyclock.model import WorldModel
from polyclock.objective import loss
from polyclock.query import Query
from polyclock.views import Look


class Imported:
    """A golden case, the checkpoint that its weights make, and the model read from it."""

    def __init__(self, name: str, folder: Path, double: bool = False) -> None:
        self.golden = Golden(name, double)
        sizes = self.golden.sizes
        self.path = folder / f"{name}.pt"
        torch.save({"model": numbers.state(sizes), "step": 3}, self.path)
        self.known = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": sizes.heads}
        self.state = dict(sorted(sizes.low_dim.items()))
        self.model = uwm.load(self.path, **self.known, state=tuple(self.state.items()))
        if double:  # a register and its place are one vector of ours, which float32 rounds
            self.model = self.model.double()
            self.model.load_state_dict(uwm.weights(*self.read()))
        self.seen = numbers.looked(name, sizes) if double else self.golden.now
        self.videos = ["video", *(f"video.{v}" for v in sizes.views[1:])]
        self.cameras = [n.replace("video", "camera") for n in self.videos]

    def read(self) -> tuple[dict[str, Tensor], Settled]:
        """Their weights, as wide as our model, and what was settled about them."""
        checkpoint = read_checkpoint(self.path)
        state = {n: v.to(self.model.dtype, copy=True) for n, v in checkpoint.state.items()}
        return state, checkpoint.facts.settle(**self.known, state=self.state)

    def conditions(self) -> dict[str, Tensor]:
        """What the model is given of the present: pictures, state and sentence."""
        golden, seen = self.golden, self.seen
        out = {c: seen[v] for c, v in zip(self.cameras, golden.sizes.views, strict=True)}
        out |= {n: golden.now[n] for n in sorted(golden.sizes.low_dim)}
        return out | ({} if golden.sentence is None else {"sentence": golden.sentence[:, None]})

    def given(self) -> Given:
        """The same, encoded on the way that a user's values take."""
        query = Query.parse(f"action | {', '.join(self.model.conditions)}")
        roles = query.roles(self.model.modalities, self.model.conditions)
        dice = Dice(0, 0, range(self.golden.sizes.batch))
        return fill_given(self.model, query, roles, self.conditions(), self.golden.sizes.batch, dice)[1]

    def ours(self, video: Tensor) -> dict[str, Tensor]:
        """Their latents (B, V, C, T, h, w) -> (B, T, h, w, C) by name."""
        return {n: video[:, i].permute(0, 2, 3, 4, 1) for i, n in enumerate(self.videos)}

    def theirs(self, values: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([values[n].permute(0, 4, 1, 2, 3) for n in self.videos], 1)


@dataclass(frozen=True)
class Bounds:
    """How far ours may be from theirs: of outputs and, as a share, of losses; of samples; of gradients, as a share of
    their norm or of their root mean square.

    In float32 each side rounds on its own. Ten steps from row 90 multiply what is rounded: theirs lie up to 1.04e-5
    from exact arithmetic themselves. And a gradient sums up thousands of rounded numbers. That nothing but rounding
    differs is what `test_uwm_double` says.
    """

    output: float = CLOSE
    sample: float = 2 * CLOSE
    gradient: float = 10 * CLOSE


ROUNDED = Bounds()


@pytest.fixture(scope="module", params=SIZES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(request.param, tmp_path_factory.mktemp("uwm"))


@pytest.fixture(scope="module", params=QUICK)
def quick(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(request.param, tmp_path_factory.mktemp("uwm"))


def test_features_in_evaluation(case: Imported) -> None:
    check_features(case)


def check_features(case: Imported, bounds: Bounds = ROUNDED) -> None:
    sizes = case.golden.sizes
    with torch.no_grad():
        found = case.model.conditioner.together(case.given())
    assert found is not None
    seen, width = len(sizes.views) * sizes.frames * sizes.embed, sum(sizes.low_dim.values())
    state = found[:, seen : seen + sizes.frames * width]
    parts = state.split([sizes.frames * w for _, w in sorted(sizes.low_dim.items())], 1) if width else []
    frames = [part.unflatten(1, (sizes.frames, -1)) for part in parts]  # theirs is frame by frame
    state = torch.cat(frames, 2).flatten(1) if frames else state
    found = torch.cat([found[:, :seen], state, found[:, seen + sizes.frames * width :]], 1)
    case.golden.meets("encode.features", found, bounds.output)


def test_the_network(case: Imported) -> None:
    check_network(case)


def check_network(case: Imported, bounds: Bounds = ROUNDED) -> None:
    golden, sizes = case.golden, case.golden.sizes
    action = numbers.noise(f"{golden.name}/network/action", (sizes.batch, sizes.horizon, sizes.action))
    video = numbers.noise(f"{golden.name}/network/video", (sizes.batch, *sizes.latent))
    asked = {f"{a}.{o}": (torch.tensor([a] * sizes.batch), torch.tensor([o] * sizes.batch)) for a, o in numbers.PLACES}
    asked["each"] = (torch.tensor([3, 34]), torch.tensor([97, 52]))
    action, video = action.to(case.model.dtype), video.to(case.model.dtype)
    for name, (place, later) in asked.items():
        if f"network.{name}.action" not in golden.tensors:
            continue
        t = {"action": ((place + 1) / 100)[:, None].expand(-1, sizes.horizon)}
        t |= dict.fromkeys(case.videos, ((later + 1) / 100)[:, None])
        with torch.no_grad():
            out = case.model({"action": action, **case.ours(video)}, t, case.given(), size=sizes.batch)
        golden.meets(f"network.{name}.action", out["action"], bounds.output)
        golden.meets(f"network.{name}.video", case.theirs(out), bounds.output)


SAMPLERS = {
    "marginal_action": "action | {seen}",
    "marginal_video": "{video} | {seen}",
    "forward": "{video} | action, {seen}",
    "inverse": "action | {video}, {seen}",
    "joint": "{video}, action | {seen}",
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(case: Imported, name: str) -> None:
    golden, draw = case.golden, case.golden.draws(name)
    latents = golden.tensors["encode.latents"]
    if name == "inverse" and golden.name != "full":
        draw("randn", tuple(latents.movedim(3, 2).flatten(0, 2).shape))  # the autoencoder's posterior
        latents = golden.tensors["inverse.latents"]
    check_sampler(case, name, latents, draw)


def check_sampler(case: Imported, name: str, latents: Tensor, draw, bounds: Bounds = ROUNDED) -> None:
    """What is drawn is drawn in their order; "inverse" is given the latents of the future."""
    golden, values = case.golden, case.conditions()
    query = SAMPLERS[name].format(video="video", seen=", ".join(case.model.conditions))
    if name == "inverse":
        values |= case.ours(latents)
    noise: dict[str, Tensor] = {}
    if name == "forward":
        values["action"] = golden.action
    else:
        noise["action"] = draw("randn", tuple(golden.action.shape))
    if name != "inverse":
        noise |= case.ours(draw("randn", tuple(latents.shape)))

    out = sample(case.model, query, steps=10, noise=noise, decode=False, **values)
    if "action" in out:
        golden.meets(f"{name}.action", out["action"], bounds.sample)
    if "video" in out:
        golden.meets(f"{name}.video", case.theirs(out), bounds.sample)


class Scripted:
    """Dice that throw what stands in a script, by purpose."""

    device = "cpu"

    def __init__(self, script: Mapping[str, Tensor], rows: Tensor | None = None) -> None:
        self.script, self.rows = script, rows

    def _throw(self, purpose: str, *shape: int) -> Tensor:
        value = self.script[purpose] if self.rows is None else self.script[purpose][self.rows]
        assert value.shape[1:] == shape, purpose
        return value

    uniform = normal = _throw

    def at(self, rows: Tensor) -> Scripted:
        return Scripted(self.script, rows)


class Lossy(nn.Module):
    """The loss as a function of the weights."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, dice: Scripted) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(self.model, batch, self.model.recipe.law, dice)  # type: ignore[arg-type, union-attr]


def looked_at(case: Imported, draw) -> dict[str, Tensor]:
    """The present pictures of every view as theirs were cropped and coloured in training."""
    sizes, model = case.golden.sizes, case.model
    seen = {}
    for camera, view in zip(case.cameras, sizes.views, strict=True):
        free = [a - b for a, b in zip(sizes.resize, sizes.crop, strict=True)]
        corner = [int(draw("randint", (1,), 0, n + 1)) for n in free] if any(free) else [0, 0]
        order = draw("randperm", (1,), 0, 4)
        factors = [float(draw("uniform_", (1,), 0.8, 1.2)) for _ in range(3)]
        factors.append(float(draw("uniform_", (1,), -0.2, 0.2)))
        one = [torch.full((sizes.batch,), n) for n in corner]
        look = Look(*one, order.expand(sizes.batch, -1), torch.tensor(factors).expand(sizes.batch, -1))
        seen[camera] = model.views[camera](case.golden.now[view], look)
    return seen


def check_loss(
    case: Imported, name: str, seen: dict[str, Tensor], latents: Tensor, draw, bounds: Bounds = ROUNDED
) -> None:
    """Parts of the loss, and the gradient of every weight of theirs, through the map to ours."""
    golden, sizes = case.golden, case.golden.sizes
    noise_action = draw("randn_like", tuple(golden.action.shape))
    place = draw("randint", (sizes.batch,), 0, 100)
    if name == "loss_absent":
        place = torch.where(numbers.present(sizes), place, 99)
    noise_video = draw("randn_like", tuple(latents.shape))
    later = draw("randint", (sizes.batch,), 0, 100)
    script = {"eps.action": noise_action, "t.action": ((place + 0.5) / 100)[:, None]}
    script |= {f"eps.{n}": v for n, v in case.ours(noise_video).items()} | {"t.video": ((later + 0.5) / 100)[:, None]}
    values = {**case.conditions(), **seen, **case.ours(latents), "action": golden.action}
    batch = Batch(torch.arange(sizes.batch), values, {n: torch.arange(sizes.batch) for n in values})

    names = golden.notes["parameters"]
    state, settled = case.read()
    state = {n: v.requires_grad_(n in names) for n, v in state.items()}
    ours = {f"model.{n}": v for n, v in uwm.weights(state, settled).items()}
    total, parts = torch.func.functional_call(Lossy(case.model), ours, (batch, Scripted(script)))
    found = torch.stack([total, parts["action"], sum(parts[n] for n in case.videos) / len(case.videos)])
    assert torch.allclose(found.detach().double(), golden.tensors[f"{name}.parts"], rtol=bounds.output, atol=0.0)
    gradients = torch.autograd.grad(total, [state[n] for n in names])
    norms, kept = golden.tensors[f"{name}.norms"], golden.tensors[f"{name}.gradients"]
    for weight, gradient, norm, some in zip(names, gradients, norms, kept, strict=True):
        assert abs(float(gradient.double().norm() - norm)) <= bounds.gradient * float(norm), weight
        bound = bounds.output + bounds.gradient * float(norm) / gradient.numel() ** 0.5
        assert float((numbers.sketch(gradient, len(some))[2:] - some).abs().max()) <= bound, weight
    for weight, gradient, projected in zip(
        names, gradients, golden.tensors.get(f"{name}.projections", ()), strict=False
    ):
        bound = bounds.output + bounds.gradient * float(gradient.norm())
        assert abs(float(numbers.projection(weight, gradient) - projected)) <= bound, weight


@pytest.mark.parametrize("name", ["loss", "loss_absent"])
def test_losses_and_gradients_in_training(quick: Imported, name: str) -> None:
    draw = quick.golden.draws(name)
    seen = looked_at(quick, draw)
    latents = quick.golden.tensors[f"{name}.latents"]
    draw("randn", tuple(latents.movedim(3, 2).flatten(0, 2).shape))  # the autoencoder's posterior
    check_loss(quick, name, seen, latents, draw)


@pytest.mark.slow
def test_losses_and_gradients_at_the_published_size(tmp_path: Path) -> None:
    case = Imported("full", tmp_path)
    raw = {c: case.golden.now[v] for c, v in zip(case.cameras, case.golden.sizes.views, strict=True)}
    seen = {c: case.model.views[c](pictures, case.model.views[c].draw(None, pictures)) for c, pictures in raw.items()}
    check_loss(case, "loss", seen, case.golden.tensors["encode.latents"], case.golden.draws("loss"))


def test_pictures_become_latents_and_back(quick: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the autoencoder that lies in the file; its posterior is drawn with the noise of theirs."""
    golden, sizes, model = quick.golden, quick.golden.sizes, quick.model
    shape = golden.tensors["encode.latents"].movedim(3, 2).flatten(0, 2).shape
    noise = golden.draws("encode")("randn", tuple(shape)).unflatten(0, (sizes.batch, len(sizes.views), sizes.frames))
    out = {}
    for i, (name, view) in enumerate(zip(quick.videos, sizes.views, strict=True)):
        drawn = noise[:, i].movedim(2, -1)
        monkeypatch.setattr(vae_module.torch, "randn", lambda *_, drawn=drawn, **__: drawn)
        picture = model.views[name](golden.later[view], model.views[name].draw(None, golden.later[view]))
        out[name] = model.codec(name).encode(picture, torch.Generator())
    monkeypatch.undo()
    golden.meets("encode.latents", quick.theirs(out))
