"""Model folders: everything comes back, nothing in them is executed, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from polyclock import from_pretrained, sample, save_pretrained
from polyclock.adapter import Adapter
from polyclock.codecs import Chain, Quantile
from polyclock.codecs.codec import FrameByFrame
from polyclock.density import LogitNormal, Places
from polyclock.encoders import Numbers, ResNet, Vector
from polyclock.layout import Layout, Stream, after, one_of
from polyclock.modality import Condition, Modality
from polyclock.nn.modulation import Joint, JointLocal
from polyclock.path import Cosine, Discrete
from polyclock.plain import PATH
from polyclock.timesteps import Drop, Independent, Mixture, Shared, Task
from worlds import BACKBONE, CONDITIONS, awake, recipe


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
    config = tmp_path / "config.json"
    for text, message in (("{", "is damaged: config.json is no JSON"), ("[]", "not written"), ("{}", "not written")):
        config.write_text(text)
        with pytest.raises(ValueError, match=message):
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


def test_every_option_comes_back(tmp_path):
    adapter = Adapter(hidden=1, ratio=2, activation="mish")
    eye = Condition(encoder=ResNet(size="mini", per_group=16, colours="imagenet", width=8), shape=(1, 32, 32, 3))
    conditions = {
        "eye": replace(eye, route="beside"),
        "eye.left": replace(eye, route="beside", share="eye"),
        "state": Condition(encoder=Numbers(linear=4), shape=(1, 3), route="beside", required=True),
        "goal": Condition(encoder=Vector(width=8), shape=(1, 3)),
    }
    options = {"frequencies": 32, "scale": 50.0, "closed": True, "whole": True, "hidden": 24, "width": 16}
    model = awake(
        recipe(
            modalities={"action": Modality(shape=(8, 2), patch=(2,), adapter=adapter, absent="noise", path=Discrete())},
            layout=Layout(Stream("action", positions=True)),
            conditions=conditions,
            law=Independent(Places(50), ends=0.0),
            modulation=JointLocal(**options, activation="mish"),
            backbone=replace(BACKBONE, rope=False, eps=1e-6, out=True),
            init="normal",
        ).build()
    )
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    for part in ("modalities", "layout", "conditions", "law", "modulation", "backbone", "init"):
        assert getattr(again.recipe, part) == getattr(model.recipe, part), part
    values = {"state": torch.randn(2, 1, 3), "eye": torch.randint(0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8)}
    one, two = (sample(m, "action | state, eye", steps=2, **values)["action"] for m in (model, again))
    assert torch.equal(one, two)


@dataclass(frozen=True)
class Tabled(FrameByFrame):
    """A codec that has something in a folder."""

    folder: str = field(metadata=PATH)

    def encode(self, raw, generator=None):
        return raw * self.factor

    def decode(self, x):
        return x / self.factor

    @property
    def factor(self) -> float:
        file = Path(self.folder) / "factor.txt"
        if not file.is_file():
            raise ValueError(f"{file} is not there")
        return float(file.read_text())


def tabled(folder, model):
    """A model folder whose codec reads `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "factor.txt").write_text("3")
    modalities = {"x": Modality(shape=(4, 2), patch=(1,), codec=Tabled(str(folder)))}
    save_pretrained(recipe(modalities=modalities).build(), model)
    return model


def written(model):
    """The folder as config.json has it."""
    return json.loads((model / "config.json").read_text())["recipe"]["modalities"]["map"]["x"]["codec"]["folder"]


def factor(model):
    return from_pretrained(model, classes=[Tabled]).codec("x").factor


def test_a_model_folder_with_a_folder_inside_can_be_moved(tmp_path):
    model = tabled(tmp_path / "model" / "inside" / "table", tmp_path / "model")
    assert written(model) == "inside/table" and factor(model) == 3
    moved = Path(shutil.move(model, tmp_path / "elsewhere"))
    assert factor(moved) == 3
    loaded = from_pretrained(moved, classes=[Tabled])
    assert loaded.codec("x").folder == str(moved / "inside" / "table")
    # Saved anew somewhere else, it still means the one that there is.
    save_pretrained(loaded, tmp_path / "again")
    assert written(tmp_path / "again") == str(moved / "inside" / "table") and factor(tmp_path / "again") == 3


@pytest.mark.parametrize("given", ["table", "../here/table", "{root}/here/table"])
def test_a_folder_outside_is_written_from_the_top(tmp_path, monkeypatch, given):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = tabled(given.format(root=tmp_path), Path("model")).absolute()
    assert Path(written(model)).is_absolute() and Path(written(model)).resolve() == tmp_path / "here" / "table"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").mkdir()  # not this one
    assert factor(model) == 3 and factor(Path("here/model")) == 3
    moved = Path(shutil.move(model, tmp_path / "elsewhere"))
    assert factor(moved) == 3


def test_a_folder_that_is_gone_is_named_when_it_is_needed(tmp_path, monkeypatch):
    model = tabled(tmp_path / "model" / "table", tmp_path / "model")
    shutil.rmtree(model / "table")
    monkeypatch.chdir(tmp_path)
    for path in (model, Path("model")):
        loaded = from_pretrained(path, classes=[Tabled])  # what needs no codec can still be asked
        with pytest.raises(ValueError, match=f"{tmp_path}/model/table/factor.txt is not there"):
            sample(loaded, "x |", steps=1)
        assert sample(loaded, "x |", steps=1, decode=False)["x"].shape == (1, 4, 2)
