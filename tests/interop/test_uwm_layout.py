"""Checkpoints in the layouts that were released: what is read off them, what is asked, what is refused and how."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import foreign_writer as foreign
import numpy as np
import pytest
import torch
from torch import Tensor

import uwm_weights as numbers
from polyclock import sample
from polyclock.interop import uwm
from polyclock.interop.uwm_checkpoint import Scaling, Scalings, read_checkpoint
from polyclock.interop.uwm_layout import inspect, part_of

LIBERO = ("agentview_rgb", "eye_in_hand_rgb")
DROID = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
PUBLISHED = numbers.GOLDEN["full"]
RELEASED = {
    "libero_90": replace(PUBLISHED, registers=24),
    "book_caddy": PUBLISHED,
    "droid": replace(PUBLISHED, views=DROID, action=10, resize=(240, 320), raw=(180, 320)),
}
NET, EYE = "noise_pred_net.", "obs_encoder.img_encoder.model."


def hollow(sizes: numbers.Sizes) -> dict[str, Tensor]:
    """A state dict of real names and shapes that holds no numbers."""
    return {n: torch.empty(s, device="meta") for n, s in numbers.shapes(sizes).items()}


@pytest.mark.parametrize(
    ("name", "pictures", "condition", "length"),
    [("libero_90", 4, 3584, 138), ("book_caddy", 4, 3584, 122), ("droid", 6, 5120, 171)],
)
def test_released_layouts(name: str, pictures: int, condition: int, length: int) -> None:
    sizes = RELEASED[name]
    facts = inspect(hollow(sizes))
    assert (facts.pictures, facts.action, facts.registers) == (pictures, sizes.action, sizes.registers)
    assert (facts.embed, facts.depth, facts.time, facts.feature) == (768, 12, 512, 768)
    assert facts.condition == condition and facts.tokens + facts.registers == length
    assert (facts.patch, facts.latent, facts.widths, facts.layers) == ((2, 4, 4), 4, (128, 256, 512, 512), 2)
    assert not facts.state and not facts.language
    settled = facts.settle(views=sizes.views, resize=sizes.resize)
    assert (settled.frames, settled.horizon, settled.heads, settled.volume) == (2, 16, 12, (2, 28, 28))
    assert settled.views == sizes.views


def test_shapes_sum_up_to_the_published_number_of_weights() -> None:
    """As counted in a run of their code: the transformer 297.6 M, the eye 11.6 M, the autoencoder 83.7 M."""
    count: dict[str, int] = {}
    for name, shape in numbers.shapes(RELEASED["book_caddy"]).items():
        count[part_of(name)] = count.get(part_of(name), 0) + math.prod(shape)
    assert {n: round(c / 1e6, 1) for n, c in count.items()} == {
        **{"network": 297.6, "eye": 11.6, "autoencoder": 83.7},
        "scaling": 0.0,
    }


def test_state_and_language_are_seen() -> None:
    sizes = numbers.GOLDEN["three"]
    state = hollow(sizes) | {"obs_encoder.text_encoder.language_model.logit_scale": torch.empty((), device="meta")}
    facts = inspect(state)
    assert facts.language and facts.state == 14 and facts.pictures == 6
    asked = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": 4}
    settled = facts.settle(**asked, state=sizes.low_dim)
    assert settled.horizon == 16 and settled.state == {"cartesian_position": 6, "gripper_position": 1}
    with pytest.raises(ValueError, match="14 numbers of low-dimensional state and does not say which"):
        facts.settle(**asked)
    with pytest.raises(ValueError, match=r"2 frames of \{'pose': 6\} are 12"):
        facts.settle(**asked, state={"pose": 6})
    with pytest.raises(ValueError, match="how many heads share its width 48"):
        facts.settle(**{**asked, "heads": None}, state=sizes.low_dim)
    with pytest.raises(ValueError, match="5 heads cannot share"):
        facts.settle(**{**asked, "heads": 5}, state=sizes.low_dim)


def test_what_no_file_says_is_asked_for() -> None:
    facts = inspect(hollow(RELEASED["libero_90"]))
    with pytest.raises(ValueError, match=r"which cameras its 4 pictures come from: give views="):
        facts.settle(resize=(240, 240))
    with pytest.raises(ValueError, match=r"resized before they were cropped to 224 x 224: give resize="):
        facts.settle(views=LIBERO)
    with pytest.raises(ValueError, match="4 pictures cannot come from the 3 cameras"):
        facts.settle(views=DROID, resize=(240, 240))
    with pytest.raises(ValueError, match="4 pictures cannot come from the 2 cameras"):
        facts.settle(views=("a", "a"), resize=(240, 240))
    with pytest.raises(ValueError, match="200 x 240 cannot be cropped to 224 x 224"):
        facts.settle(views=LIBERO, resize=(200, 240))
    with pytest.raises(ValueError, match="pos_embed has 114 places .* take 162: give the crop"):
        facts.settle(views=LIBERO, resize=(320, 320), crop=(288, 288))
    with pytest.raises(ValueError, match=r"latents of \(2, 27, 27\)"):
        facts.settle(views=LIBERO, resize=(240, 240), crop=(216, 216))
    with pytest.raises(ValueError, match=r"latents of \(1, 28, 28\)"):
        facts.settle(views=("a", "b", "c", "d"), resize=(240, 240))


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n: v for n, v in state.items() if n != name}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda s: without(s, f"{NET}pos_embed"), "no weight 'noise_pred_net.pos_embed'"),
        (lambda s: without(s, f"{NET}blocks.1.mlp.fc2.bias"), "no weight 'noise_pred_net.blocks.1.mlp.fc2.bias'"),
        (lambda s: without(s, f"{NET}blocks.0.attn.qkv.weight"), r"numbered \[1\]"),
        (lambda s: without(s, f"{EYE}layer2.0.downsample.0.weight"), "layer2.0.downsample.0.weight"),
        (lambda s: without(s, "obs_encoder.vae.scale"), "obs_encoder.vae.scale must have 4 numbers"),
        (lambda s: without(s, "obs_encoder.vae.vae.quant_conv.bias"), "'obs_encoder.vae.vae.quant_conv.bias'"),
        (lambda s: s | {"ema.x": s[f"{NET}pos_embed"]}, "'ema.x' is of no part"),
        (lambda s: s | {f"{NET}extra": s[f"{NET}pos_embed"]}, "'noise_pred_net.extra' is not known here"),
        (lambda s: s | {f"{EYE}bn1.running_mean": torch.zeros(64)}, "bn1.running_mean' is not known here"),
        (lambda s: s | {f"{EYE}class_token": torch.zeros(1)}, "vision transformer"),
        (lambda s: s | {f"{EYE}conv1.weight": torch.zeros(32, 3, 7, 7)}, r"conv1.weight has shape \(32, 3, 7, 7\)"),
        (lambda s: s | {f"{NET}head.linear.weight": torch.zeros(48, 47)}, r"the rest of the file asks for \(48, 48\)"),
        (lambda s: s | {f"{NET}registers": torch.zeros(24, 48)}, "registers has shape .* 3 axes"),
        (lambda s: s | {f"{NET}action_decoder.2.bias": torch.zeros(6)}, r"action_decoder.2.bias has shape \(6,\)"),
        (
            lambda s: s | {f"{NET}blocks.0.adaLN_modulation.1.weight": torch.zeros(288, 70)},
            "reads 70 numbers, of which 32 are times: not one picture of 48 is left",
        ),
        (lambda s: s | {f"{EYE}fc.weight": torch.zeros(0, 512)}, "not one picture of 0 is left"),
        (lambda s: s | {f"{NET}pos_embed": torch.zeros(1, 122, 0)}, "an axis of length 0"),
        (
            lambda s: s | {f"{NET}blocks.0.adaLN_modulation.1.weight": torch.zeros(288, 225)},
            r"blocks.1.adaLN_modulation.1.weight has shape \(288, 224\); the rest of the file asks for \(288, 225\)",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        inspect(change(hollow(numbers.GOLDEN["narrow"])))


# ---------------------------------------------------------------- whole files


def save(sizes: numbers.Sizes, path: Path, small: bool = True) -> None:
    """A whole models.pt as their code writes it: with normalisers, as for DROID, where there is low-dimensional state.

    `small`: all weights are views of one stretch of numbers, as the eye cannot be made smaller, but the file can.
    """
    pool = numbers.uniform("pool", (1 << 22,))
    state = torch.nn.Module().state_dict()
    for name, shape in numbers.shapes(sizes).items():
        own = not small or name.startswith("obs_encoder.vae.s")
        state[name] = numbers.weight(name, shape) if own else pool[: math.prod(shape)].view(shape)
    low = foreign.NestedDictLinearNormalizer()
    for name, width in sizes.low_dim.items():
        low[name] = foreign.LinearNormalizer(
            numbers.uniform(name, (width,)).numpy() + 2.0, np.arange(width, dtype=float)
        )
    scale = np.float32(numbers.uniform("scale", (sizes.action,)) + 1.5)
    action = foreign.LinearNormalizer(scale, np.linspace(-1, 1, sizes.action, dtype=np.float32))
    content = {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": pool}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "scheduler": {"last_epoch": 3, "lr_lambdas": [None]},
        "scaler": {},
        "action_normalizer": action if low else None,
        "lowdim_normalizer": low if low else None,
        "step": 99999,
    }
    with foreign.their_module():
        torch.save(content, path)


@pytest.fixture(scope="module", params=["narrow", "three"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(which sizes, a models.pt in their layout): as for LIBERO without normalisers, and as for DROID with them."""
    path = tmp_path_factory.mktemp(request.param) / "models.pt"
    save(numbers.GOLDEN[request.param], path)
    return request.param, path


def test_a_whole_file(file: tuple[str, Path]) -> None:
    name, path = file
    sizes = numbers.GOLDEN[name]
    found = read_checkpoint(path)
    assert found.step == 99999 and found.facts == inspect(found.state)
    assert found.facts.shift == (0.0,) * 4 and found.facts.scale == (3.0,) * 4
    assert {n: tuple(v.shape) for n, v in found.state.items()} == numbers.shapes(sizes)
    assert torch.equal(found.state[f"{NET}pos_embed"].flatten()[:3], numbers.uniform("pool", (1 << 22,))[:3])
    settled = found.facts.settle(
        views=sizes.views, resize=sizes.resize, crop=sizes.crop, heads=4, state=dict(sizes.low_dim)
    )
    assert settled.horizon == 16
    if name == "narrow":
        assert found.action is None and found.low_dim == {}
        return
    scale = np.float32(numbers.uniform("scale", (10,)) + 1.5)
    offset = np.linspace(-1, 1, 10, dtype=np.float32)
    assert found.action is not None and np.array_equal(found.action.scale, scale)
    raw = torch.randn(4, 16, 10, generator=torch.Generator().manual_seed(0))
    theirs = (raw.numpy() - offset) / scale
    codec = found.action.codec()
    assert np.abs(codec.encode(raw).numpy() - theirs).max() < 1e-6
    assert (codec.decode(codec.encode(raw)) - raw).abs().max() < 1e-6
    assert list(found.low_dim) == ["cartesian_position", "gripper_position"]
    assert found.low_dim["cartesian_position"].offset.tolist() == [0, 1, 2, 3, 4, 5]


def test_normalisers_in_the_file_are_the_codecs_of_the_model(tmp_path: Path) -> None:
    """As for DROID: it takes and gives numbers as the data have them."""
    sizes = numbers.GOLDEN["three"]
    save(sizes, tmp_path / "models.pt", small=False)
    state = tuple(sorted(sizes.low_dim.items()))
    asked = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": 4}
    model = uwm.load(tmp_path / "models.pt", **asked, state=state)
    case, sees = "layout", ("camera", *(f"camera.{v}" for v in sizes.views[1:]))
    now = numbers.observation(case, sizes, "now")
    given = dict(zip(sees, (now[v] for v in sizes.views), strict=True)) | {n: now[n] for n in sizes.low_dim}
    given["sentence"] = numbers.sentence(case, sizes)[:, None]
    raw, latent = (sample(model, "action |", steps=1, decode=d, **given)["action"].numpy() for d in (True, False))
    scale = np.float32(numbers.uniform("scale", (sizes.action,)) + 1.5)
    offset = np.linspace(-1, 1, sizes.action, dtype=np.float32)
    assert raw.std() > 0.1 and np.abs(raw - (latent * scale + offset)).max() < 1e-5
    for name, width in state:
        theirs = (now[name].numpy() - np.arange(width)) / (numbers.uniform(name, (width,)).numpy() + 2.0)
        assert np.abs(model.codec(name).encode(now[name]).numpy() - theirs).max() < 1e-5


def test_a_state_that_the_file_does_not_scale_is_refused(tmp_path: Path) -> None:
    sizes = numbers.GOLDEN["three"]
    save(sizes, tmp_path / "models.pt")
    found = read_checkpoint(tmp_path / "models.pt")
    asked = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": 4}
    for state, part in (
        ({"cartesian_pose": 6, "gripper_position": 1}, "unknown state of .*Did you mean 'cartesian_position'"),
        ({"cartesian_position": 5, "gripper_position": 2}, "scales 6 numbers of the state 'cartesian_position', not 5"),
    ):
        with pytest.raises(ValueError, match=part):
            uwm.recipe_of(found, found.facts.settle(**asked, state=state), Path("nowhere"), 20.0)


@pytest.mark.parametrize("change", [{"scale": (0.0,) * 4}, {"scale": (3.0, 3.0, 3.0, 2.0)}, {"shift": (0.1,) * 4}])
def test_latents_scaled_as_in_no_file_that_exists_are_refused(file: tuple[str, Path], change: dict) -> None:
    name, path = file
    sizes, found = numbers.GOLDEN[name], read_checkpoint(path)
    asked = {"views": sizes.views, "resize": sizes.resize, "crop": sizes.crop, "heads": 4, "state": sizes.low_dim}
    settled = replace(found.facts, **change).settle(**asked)
    with pytest.raises(ValueError, match=r"latents are shifted by .* and divided by .*; possible: no shift"):
        uwm.recipe_of(found, settled, Path("nowhere"), 20.0)


def test_a_constant_dimension_of_theirs_has_scale_one() -> None:
    scaling = Scaling()
    scaling.restore({"scale": np.array([0.0, 2.0]), "offset": np.array([0.5, 1.0])})
    offset, scale = scaling.codec().offset_scale()
    assert offset.tolist() == [0.5, 1.0] and scale.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "state",
    [
        {"scale": np.ones(2)},
        {"scale": np.ones(2), "offset": np.ones(3)},
        {"scale": np.ones((2, 2)), "offset": np.ones((2, 2))},
        {"scale": np.array([1.0, np.nan]), "offset": np.ones(2)},
        {"scale": np.array([1.0, -1.0]), "offset": np.ones(2)},
        {"scale": [1.0], "offset": [1.0]},
        None,
    ],
)
def test_normalisers_that_make_no_sense_are_refused(state: object) -> None:
    with pytest.raises(ValueError, match="normaliser"):
        Scaling().restore(state)


def test_entries_that_do_not_belong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "models.pt"
    for content, part in (
        ([1, 2], "no entry 'model'"),
        ({"state_dict": {}}, "no entry 'model'"),
        ({"model": {}, "ema": {}}, "unknown entry of .* 'ema'"),
        ({"model": {"x": 1}}, "'x' of the entry 'model' is no named tensor"),
        ({"model": {f"{NET}x": torch.zeros(1)}}, r"models\.pt: there is no weight 'noise_pred_net.pos_embed'"),
        ({"model": {}, "action_normalizer": {}}, "no weight"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=part):
            read_checkpoint(path)


def test_an_action_scaling_of_another_width_is_refused(file: tuple[str, Path], monkeypatch) -> None:
    name, path = file
    wrong = Scaling()
    wrong.restore({"scale": np.ones(3), "offset": np.ones(3)})
    import polyclock.interop.uwm_checkpoint as checkpoint

    plain = checkpoint.read
    for entry, value, part in (
        ("action_normalizer", wrong, "no normaliser of"),
        ("action_normalizer", {}, "no normaliser of"),
        ("lowdim_normalizer", {}, "no table of normalisers"),
        ("lowdim_normalizer", Scalings(a=1), "'a' of lowdim_normalizer"),
    ):
        monkeypatch.setattr(checkpoint, "read", lambda *a, e=entry, v=value: plain(*a) | {e: v})
        with pytest.raises(ValueError, match=part):
            read_checkpoint(path)


@pytest.mark.slow
def test_the_autoencoder_s_config_fits_its_weights() -> None:
    """diffusers builds from it what the file holds: names and shapes."""
    diffusers = pytest.importorskip("diffusers")
    for sizes in (numbers.GOLDEN["narrow"], PUBLISHED):
        config = inspect(hollow(sizes)).autoencoder()
        config.pop("_class_name")
        with torch.device("meta"):
            theirs = diffusers.AutoencoderKL(**config).state_dict()
        prefix = "obs_encoder.vae.vae."
        ours = {n.removeprefix(prefix): s for n, s in numbers.shapes(sizes).items() if n.startswith(prefix)}
        assert {n: tuple(v.shape) for n, v in theirs.items()} == ours
