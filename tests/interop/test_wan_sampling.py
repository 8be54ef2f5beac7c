"""Whole pipelines of diffusers beside our questions: same weights, noise and scheduler, tiny random parts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from polyclock import Guide, sample
from polyclock.interop import wan
from polyclock.model import WorldModel
from polyclock.schedule import Asynchronous
from polyclock.schedulers import Diffusers

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from wan_folders import CHANNELS, pipeline  # noqa: E402

STEPS, TEXT = 5, "a cat runs"
SIZES = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": STEPS, "output_type": "latent"}
Pair = tuple[Any, WorldModel]


@pytest.fixture(scope="module")
def from_text(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("t2v")
    return pipeline(folder), wan.load(folder)


@pytest.fixture(scope="module")
def from_image(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("ti2v")
    return pipeline(folder, image=True), wan.load(folder)


def noise() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(1, 3, 4, 6, CHANNELS)


def scheduler(name: str) -> Any:
    if name == "unipc":  # the pipelines' own
        return diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)


def guides(scale: float) -> tuple[Guide, ...]:
    return (Guide(weight=scale - 1, drop={"text"}),) if scale > 1 else ()


@pytest.mark.parametrize("name", ["unipc", "euler"])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_video_from_text(from_text: Pair, name: str, scale: float) -> None:
    theirs, model = from_text
    theirs.scheduler = scheduler(name)
    expected = theirs(prompt=TEXT, guidance_scale=scale, latents=noise().movedim(-1, 1), **SIZES)[0].movedim(1, -1)
    solver = Diffusers({"video": scheduler(name)}, steps=STEPS)
    out = sample(model, "video | text", text=[TEXT], noise={"video": noise()}, guides=guides(scale), solver=solver,
                 decode=False)["video"]  # fmt: skip
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["unipc", "euler"])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_video_from_its_first_frame(from_image: Pair, name: str, scale: float) -> None:
    """Their `expand_timesteps`, the first latent frame at time 0 beside noisy ones, is a question of ours."""
    from PIL import Image

    theirs, model = from_image
    theirs.scheduler = scheduler(name)
    torch.manual_seed(6)
    picture = torch.randint(0, 256, (32, 48, 3), dtype=torch.uint8)
    words = model.conditioner.encoder["text"]([TEXT, ""])[0]
    expected = theirs(
        image=Image.fromarray(picture.numpy()), prompt_embeds=words[:1], negative_prompt_embeds=words[1:],
        guidance_scale=scale, latents=noise().movedim(-1, 1), **SIZES,
    )[0].movedim(1, -1)  # fmt: skip
    first = model.codec("video").encode(picture[None, None])
    solver = Diffusers({"video": scheduler(name)}, steps=STEPS)
    out = sample(model, "video[1:] | video[:1], text", video=first, text=[TEXT], noise={"video": noise()},
                 guides=guides(scale), solver=solver, decode=False, strict=True)["video"]  # fmt: skip
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert torch.equal(out[:, :1], first), "what is given does not move"


def test_our_own_euler_at_their_sigmas(from_image: Pair) -> None:
    """Without any of their schedulers: a loop of their network and x + (u - t) v against our step rule."""
    theirs, model = from_image
    sigmas = scheduler("euler")
    sigmas.set_timesteps(STEPS)
    x = noise()
    x[:, 0] = torch.randn_like(x[:, 0])
    first = x[:, :1].clone()
    words = model.conditioner.encoder["text"]([TEXT])[0]
    with torch.no_grad():
        for t, u in zip(sigmas.sigmas[:-1], sigmas.sigmas[1:], strict=True):
            times = torch.tensor([0.0, t, t]).repeat_interleave(2 * 3)[None]
            v = theirs.transformer(x.movedim(-1, 1), 1000 * times, words, return_dict=False)[0].movedim(1, -1)
            x[:, 1:] += (u - t) * v[:, 1:]

    class Rows(Asynchronous):
        def rows(self, roles, modalities):
            return [{"video": torch.tensor([0.0, t, t])} for t in sigmas.sigmas]

    out = sample(model, "video[1:] | video[:1], text", video=first, text=[TEXT], noise={"video": noise()},
                 schedule=Rows(steps={}), decode=False)["video"]  # fmt: skip
    torch.testing.assert_close(out, x, atol=1e-5, rtol=0)


def test_pixels_in_pixels_out(from_text: Pair) -> None:
    """Through the autoencoder of the folder, as many frames as are asked for."""
    theirs, model = from_text
    theirs.scheduler = scheduler("euler")
    arguments = SIZES | {"output_type": "pt"}
    expected = theirs(prompt=TEXT, guidance_scale=1.0, latents=noise().movedim(-1, 1), **arguments)[0]
    solver = Diffusers({"video": scheduler("euler")}, steps=STEPS)
    out = sample(model, "video | text", text=[TEXT], noise={"video": noise()}, solver=deepcopy(solver))["video"]
    assert out.shape == (1, 9, 32, 48, 3) and out.dtype == torch.uint8
    assert (out.float() / 255 - expected.movedim(2, -1)).abs().max() < 0.6 / 255
    longer = sample(model, "video | text", text=[TEXT], shapes={"video": (4, 2, 2, CHANNELS)}, steps=1)["video"]
    assert longer.shape == (1, 13, 16, 16, 3)
    with pytest.raises(ValueError, match="the number of frames of 'video' is open: say it with shapes"):
        sample(model, "video | text", text=[TEXT])


def test_which_questions_a_folder_was_trained_for(from_text: Pair, from_image: Pair) -> None:
    question, shapes = "video[1:] | video[:1], text", {"video": (3, 2, 2, CHANNELS)}
    first = torch.zeros(1, 1, 2, 2, CHANNELS)
    with pytest.raises(ValueError, match="lies outside what this model was trained for"):
        sample(from_text[1], question, video=first, text=[""], shapes=shapes, decode=False, strict=True)
    out = sample(from_image[1], question, video=first, text=[""], shapes=shapes, decode=False, strict=True, steps=1)
    assert out["video"].shape == (1, 3, 2, 2, CHANNELS)
