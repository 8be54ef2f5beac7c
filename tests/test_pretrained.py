"""Model folders: everything comes back, nothing in them is executed, and what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors.torch
import torch

from polyclock import from_pretrained, sample, save_pretrained
from polyclock.codecs import Chain, Quantile
from polyclock.codecs.codec import FrameByFrame
from polyclock.density import LogitNormal
from polyclock.layout import Layout, Stream, after, one_of
from polyclock.modality import Modality
from polyclock.nn.modulation import Joint
from polyclock.path import Cosine, Discrete
from polyclock.timesteps import Drop, Mixture, Shared, Task
from worlds import CONDITIONS, awake, recipe


class Data:
    def column(self, key):
        g = np.random.default_rng(0)
        return iter([g.normal(3, 2, (50, 5)).astype(np.float32) for _ in range(2)])


def rich_recipe():
    modalities = {
        "action": Modality(shape=(8, None), patch=(2,), codec=Chain(Quantile()), path=Cosine(predict="noise")),
        "a": Modality(shape=(4, 2), patch=(1,), path=Discrete(steps=50, spacing="trailing")),
        "b": Modality(shape=(4, 2), patch=(1,), null="zero"),
        "c": Modality(shape=(4, 2), patch=(1,)),
    }
    layout = Layout(
        Stream("action"), Stream("a"), Stream(one_of("b", "c"), at=after("a", axis="W")), sees={"a": ("action",)}
    )
    law = Mixture((0.5, Drop(("a", "text"), 0.2, Shared(LogitNormal(shift=3.0)))), (0.5, Task("a | action")))
    return recipe(
        modalities=modalities, layout=layout, law=law, modulation=Joint(), conditions={"text": CONDITIONS["text"]}
    ).fit(Data())


def test_a_model_comes_back_whole(tmp_path):
    model = awake(rich_recipe().build())
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.recipe.layout == model.recipe.layout and again.recipe.law == model.recipe.law
    assert again.modalities["action"].shape == (8, 5)
    action = torch.randn(2, 8, 5) + 3
    one, two = (sample(m, "a | action", action=action, steps=2)["a"] for m in (model, again))
    assert torch.equal(one, two)
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "codecs.safetensors",
        "README.md",
    }


def test_statistics_travel_as_tensors(tmp_path):
    model = rich_recipe().build()
    save_pretrained(model, tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "codecs.safetensors")
    assert all(v.shape == (5,) for v in tensors.values()) and len(tensors) >= 2
    raw = torch.randn(1, 8, 5)
    assert torch.equal(from_pretrained(tmp_path).codec("action").encode(raw), model.codec("action").encode(raw))


def change(folder, edit):
    config = json.loads((folder / "config.json").read_text())
    edit(config["recipe"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["law"].update({"is": "Mixtures"}), "config.law: unknown class 'Mixtures'. Did you mean 'Mixture'"),
        (lambda r: r["law"].update({"is": "os.system"}), "unknown class 'os.system'"),
        (lambda r: r["modulation"].update({"frequency": 3}), "unknown field of Joint 'frequency'"),
        (lambda r: r["backbone"].update({"width": 64}), "has shape"),
        (lambda r: r.update({"registers": 5}), "has shape"),
    ],
)
def test_faults_of_a_config_are_named(tmp_path, edit, message):
    save_pretrained(rich_recipe().build(), tmp_path)
    change(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)


def test_missing_files_and_weights_are_named(tmp_path):
    save_pretrained(rich_recipe().build(), tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    state.pop("registers")
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 'registers'"):
        from_pretrained(tmp_path)
    (tmp_path / "codecs.safetensors").unlink()
    with pytest.raises(ValueError, match=r"codecs.safetensors is missing"):
        from_pretrained(tmp_path)


@dataclass(frozen=True)
class Halved(FrameByFrame):
    """A user's own codec."""

    by: float = 2.0

    def encode(self, raw, generator=None):
        return raw / self.by

    def decode(self, x):
        return x * self.by


def test_a_users_own_part_is_passed_not_imported(tmp_path):
    modalities = {"x": Modality(shape=(4, 2), patch=(1,), codec=Halved(by=4.0))}
    save_pretrained(recipe(modalities=modalities).build(), tmp_path)
    with pytest.raises(ValueError, match=r"unknown class 'Halved'.*classes="):
        from_pretrained(tmp_path)
    assert from_pretrained(tmp_path, classes=[Halved]).codec("x").by == 4.0
