"""A checkpoint in the released layout against the release written down anew: both predictions, in all three tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from polyclock import Dice, from_pretrained, loss, sample
from polyclock.batch import Batch
from polyclock.commands import import_
from polyclock.interop.expanded import Base
from polyclock.interop.unityvideo import load, original
from polyclock.modality import Modality
from polyclock.recipes import unityvideo_released
from polyclock.train.job import recipe_job

pytest.importorskip("diffusers")
from test_restricted import archive  # noqa: E402
from unityvideo_reference import NAMES, Released, by_authors  # noqa: E402
from wan_folders import CHANNELS, WORDS, pipeline, transformer  # noqa: E402

MINE = {
    "depth": "depth",
    "raft": "flow",
    "segmentation": "segmentation",
    "skeleton": "skeleton",
    "densepose": "surface",
}
SIZE = {"image": (6, 8), "frames": 3}  # latent cells and frames: the base here brings no autoencoder


@pytest.fixture(scope="module")
def released() -> Released:
    torch.manual_seed(7)
    return Released(transformer()).eval()


@pytest.fixture(scope="module")
def base(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    released.base.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(released: Released, base: Path, tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("released") / "step-15000.safetensors"
    released.save(file)
    return load(file, base=str(base), **SIZE)


def values(seed: int = 0):
    """Latents of both, (B, T, H, W, C), and features of both texts, each of its own kind, so that they can be told."""
    g = torch.Generator().manual_seed(seed)
    video, other = torch.randn(2, 2, 3, 6, 8, CHANNELS, generator=g).unbind(0)
    text, prompt = torch.randn(2, 2, 1, WORDS, generator=g) * 2 + torch.randn(2, 2, 512, WORDS, generator=g) / 2
    return video, other, text, prompt


@pytest.mark.parametrize("task", ["estimate", "control", "joint"])
@pytest.mark.parametrize("name", NAMES)
def test_both_predictions_are_theirs(released: Released, model, task: str, name: str) -> None:
    video, other, text, prompt = values()
    t = torch.tensor([0.3, 0.875])
    mine = MINE[name]
    times = {
        "video": torch.zeros(2) if task == "estimate" else t,
        mine: torch.zeros(2) if task == "control" else t,
    }
    rows = {n: torch.arange(2) for n in ("text", "prompt", "video", mine)}
    with torch.no_grad():
        given = model.conditioner({"text": text, "prompt": prompt}, rows, 2)
        spread = {n: v[:, None].expand(-1, 3) for n, v in times.items()}
        out = model({"video": video, mine: other}, spread, given)
        expected = released(video.movedim(-1, 1), other.movedim(-1, 1), name, t, text, prompt)
    for value, want in zip((out["video"], out[mine]), expected, strict=True):
        torch.testing.assert_close(value, want.movedim(1, -1), atol=1e-5, rtol=0)


def test_the_texts_the_time_and_the_modality_matter(released: Released) -> None:
    video, other, text, prompt = (v.movedim(-1, 1) if v.ndim == 5 else v for v in values())
    t = torch.tensor([0.3, 0.875])
    with torch.no_grad():
        plain = released(video, other, "depth", t, text, prompt)
        for changed in (
            released(video, other, "raft", t, text, prompt),
            released(video, other, "depth", t / 2, text, prompt),
            released(video, other, "depth", t, prompt, prompt),
            released(video, other, "depth", t, text, text),
        ):
            assert max((a - b).abs().max() for a, b in zip(plain, changed, strict=True)) > 1e-2


def test_sampling_walks_as_the_release_does(released: Released, model) -> None:
    """20 Euler steps from pure noise at times evenly spread; the clean stream is shown clean in each."""
    video, noise, text, prompt = values(3)
    asked = {"text": text, "prompt": prompt, "decode": False, "steps": 20}
    found = sample(model, "depth | video, text", video=video, noise={"depth": noise}, **asked)["depth"]
    z, times = noise.movedim(-1, 1), torch.linspace(1, 0, 21)
    with torch.no_grad():
        for now, then in zip(times[:-1], times[1:], strict=True):
            v = released(video.movedim(-1, 1), z, "depth", now.expand(2), text, prompt)[1]
            z = z + (then - now) * v
    torch.testing.assert_close(found, z.movedim(1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("suffix", "authors"), [(".pt", True), (".safetensors", False)])
def test_other_files_of_the_same_weights(
    released: Released, base: Path, model, tmp_path: Path, suffix, authors
) -> None:
    file = tmp_path / f"model{suffix}"
    released.save(file, authors)
    again = load(file, base=str(base), folder=tmp_path / "out", **SIZE).state_dict()
    assert all(torch.equal(v, again[n]) for n, v in model.state_dict().items())
    assert from_pretrained(tmp_path / "out").recipe == model.recipe


def test_every_name_of_a_wan_has_its_author_s(released: Released) -> None:
    for name in released.base.state_dict():
        assert original(name) == by_authors(name)


def test_some_of_the_modalities(released: Released, base: Path, tmp_path: Path) -> None:
    state = {n: v for n, v in released.checkpoint(True).items() if "skeleton" not in n and "raft" not in n}
    save_file(state, tmp_path / "some.safetensors")
    assert set(load(tmp_path / "some.safetensors", base=str(base), **SIZE).modalities) == {
        "video", "depth", "segmentation", "surface",
    }  # fmt: skip


def test_what_is_wrong_is_named(released: Released, base: Path, tmp_path: Path) -> None:
    file, state = tmp_path / "model.safetensors", released.checkpoint(True)

    def refused(sentence: str, **change) -> None:
        save_file({n: v for n, v in (state | change).items() if v is not None}, file)
        with pytest.raises(ValueError, match=sentence):
            load(file, base=str(base), **SIZE)

    refused("lacks 'flow_in.weight'", **{"flow_in.weight": None})
    refused("lacks 'base.blocks.1.cross_attn.q.weight'", **{"base.blocks.1.cross_attn.q.weight": None})
    refused("unknown weight in the checkpoint: 'extra'", extra=torch.zeros(1))
    refused("unknown modality of the checkpoint 'normals'", **{"modality_embeddings.normals": torch.zeros(64)})
    refused(r"flow_head.head.weight makes 'head.depth.weight' of shape \(3, 3\)",
            **{"flow_head.head.weight": torch.zeros(3, 3)})  # fmt: skip
    save_file(state, file)
    loop = archive(tmp_path / "loop.pt", b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")  # a dict that holds itself alone
    with pytest.raises(ValueError, match=r"loop\.pt holds no weights by name"):
        load(loop, base=str(base), **SIZE)
    with pytest.raises(ValueError, match="name the Wan that it was made from with base="):
        load(file)
    with pytest.raises(ValueError, match="is a folder, and so the base itself"):
        load(base, base=str(base))


# ---------------------------------------------------------------- what a training begins with, and whole pipelines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with autoencoder and text encoder."""
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline(folder)
    return folder


def test_it_begins_as_the_base_with_copies(base: Path, released: Released) -> None:
    model = load(base, **SIZE)
    assert torch.equal(model.embed["depth"][0].weight, model.embed["video"].weight)
    assert not model.embed["depth"][2].weight.any() and not model.view["flow"].any()
    assert torch.equal(model.head["depth"].weight, model.head["video"].weight)
    theirs = released.base.state_dict()["patch_embedding.weight"]
    assert torch.equal(model.embed["video"].weight, theirs.movedim(1, -1).flatten(1))
    assert "modulation.last.skeleton" in model.newcomers() and "view.surface" in model.newcomers()


def test_the_recipe_says_what_its_training_begins_with(base: Path) -> None:
    """The base's weights, and copies of them: what an import of the base makes, to the bit."""
    recipe = unityvideo_released(base=str(base), **SIZE)
    model, imported = recipe.build(), load(base, **SIZE)
    Base(recipe.base)(model)
    assert imported.recipe == recipe
    state = imported.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in model.state_dict().items())
    with pytest.raises(ValueError, match="begins as the network in .*, which nothing reads"):
        recipe_job(recipe, [], data={})


def test_a_pipeline_is_trained_and_asked_with_words_alone(whole: Path, tmp_path: Path, capsys) -> None:
    import_.run(["unityvideo", str(whole), "--out", str(tmp_path), "--image", "32,48", "--frames", "5"])
    assert "modelled: video, depth, surface, flow, segmentation, skeleton" in capsys.readouterr().out
    model = from_pretrained(tmp_path)
    clip = torch.randint(0, 256, (1, 5, 32, 48, 3), dtype=torch.uint8)
    depth = sample(model, "depth | video", video=clip, steps=1, strict=True)["depth"]
    assert depth.shape == (1, 5, 32, 48, 1) and depth.dtype == torch.float32
    both = sample(model, "video, skeleton | text", text=["a dog"], steps=1, strict=True)
    assert both["video"].shape == (1, 5, 32, 48, 3) and both["skeleton"].shape == (1, 5, 34, 3)


def test_the_sampled_clip_has_the_size_that_was_asked_for(whole: Path) -> None:
    """The release samples joint clips at the wrong number of latent cells: here these are read off the autoencoder."""
    recipe = unityvideo_released(base=str(whole), image=(32, 48), frames=5)
    factor = recipe.modalities["video"].codec.factor
    assert recipe.modalities["video"].shape == (2, 32 // factor, 48 // factor, CHANNELS)
    assert {m.shape for m in recipe.modalities.values()} == {recipe.modalities["video"].shape}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image": (40, 48)}, r"image=\(40, 48\): a token is 16 pixels wide, so 40 is not possible; 32 is"),
        ({"frames": 6}, "frames=6; the autoencoder takes 4 k \\+ 1, such as 5"),
        ({"maps": ("normals",)}, "unknown map 'normals'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_recipe_is_made(whole: Path, settings, sentence: str) -> None:
    """The release checks pixels against the autoencoder alone, and not against what a token holds besides."""
    with pytest.raises(ValueError, match=sentence):
        unityvideo_released(base=str(whole), **({"image": (32, 48), "frames": 5} | settings))


def test_pictures_of_the_authors_data_are_taken_as_they_are(whole: Path) -> None:
    recipe = unityvideo_released(base=str(whole), image=(32, 48), frames=5, drawn=True)
    signals = recipe.signals()
    assert {s.key for s in signals.values()} >= {"depth", "densepose", "raft", "segmentation", "skeleton"}
    assert {s.shape for n, s in signals.items() if n in recipe.modalities} == {(5, 32, 48, 3)}


def test_a_step_of_one_task_for_all_and_only_the_caption_dropped(model) -> None:
    recipe: object = model.recipe
    assert recipe.law.whole and [w for w, _ in recipe.law.entries] == [0.25, 0.25, 0.5]
    small = unityvideo_released(image=(16, 16), frames=2)
    assert (small.conditions["text"].drop, small.conditions["prompt"].drop) == (0.1, 0.0)
    built = small.build()
    rows = {n: torch.tensor([i]) for i, n in enumerate(("depth", "surface", "flow", "segmentation", "skeleton"))}
    rows |= {"video": torch.arange(5), "text": torch.arange(5), "prompt": torch.tensor([], dtype=torch.long)}
    x = {n: torch.randn(len(r), *shape.shape) for n, r in rows.items()
         if isinstance(shape := small.modalities.get(n), Modality)}  # fmt: skip
    latent = Batch(index=torch.arange(5), values=x | {"text": ["a"] * 5, "prompt": []}, rows=rows)
    total, _ = loss(built, latent, small.law, Dice(0, 0, range(5)))
    total.backward()
    assert torch.isfinite(total) and all(p.grad is not None for p in built.parameters())


def test_weights_as_they_lie_in_the_file(released: Released, base: Path, tmp_path: Path) -> None:
    save_file({n: v.bfloat16() for n, v in released.checkpoint(True).items()}, tmp_path / "half.safetensors")
    half = load(tmp_path / "half.safetensors", base=str(base), **SIZE)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert load_file(tmp_path / "half.safetensors")["flow_in.weight"].equal(half.embed["depth"][2].weight)
    config = json.loads((base / "config.json").read_text())
    assert config["num_layers"] == 3
