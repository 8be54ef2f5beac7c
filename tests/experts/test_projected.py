"""Features that are projected before they are stored: fitted once, and known to whoever reads."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_clips import shifting

from polyclock import DiT, Layout, Local, Modality, Recipe, Shared, Stream, from_pretrained, save_pretrained
from polyclock.codecs import Chain, Projection, Resample
from polyclock.data import Loader, Windows, open_dataset, projections
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.dice import Dice
from polyclock.experts.annotate import annotate
from polyclock.experts.expert import FEATURES
from polyclock.experts.projected import Projected
from polyclock.objective import loss

SIDE = 8
ASKED: list[int] = []


@dataclass(frozen=True, kw_only=True)
class Patches:
    """uint8 (T, H, W, 3) -> what a patch of 8 px holds, (T, H / 8, W / 8, 192)."""

    gain: float = 1.0
    modality = FEATURES
    note = {"kind": FEATURES}
    after = 0

    @property
    def fingerprint(self) -> str:
        return f"patches {self.gain}"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        ASKED.append(len(frames))
        if frames.max() == 0:
            raise ValueError("a black clip")
        t, height, width, _ = frames.shape
        x = frames.reshape(t, height // SIDE, SIDE, width // SIDE, SIDE, 3).swapaxes(2, 3)
        return self.gain * x.reshape(t, height // SIDE, width // SIDE, -1).astype(np.float32) / 255


def write(folder: Path, name: str, clip: np.ndarray) -> None:
    encode_video(folder / f"{name}.mp4", clip, 10.0, VideoCodec(encoder="h264", group=4, crf=4))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for i in range(4):
        write(tmp_path / "clips", f"{i}", shifting(9, (i, 1), (32, 48)))
    return tmp_path / "clips"


def asked(clips: Path, out: Path, expert: object, **settings):
    return annotate(open_dataset(clips), str(clips), out, {"semantics": expert}, **settings)


def test_a_column_of_components(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked(clips, out, Projected(expert=Patches(), components=4))
    found = open_dataset(out)
    assert found.facts.columns["semantics"] == (4, 6, 4)
    by = found.made_by("semantics")
    assert isinstance(by, Projection) and by.components == 4 and found.made_by("video") is None
    whole = np.stack([Patches()(found.read(e, "video", range(9))) for e in range(4)])
    stored = np.stack([found.read(e, "semantics", range(9)) for e in range(4)])
    np.testing.assert_allclose(stored, by.encode(torch.from_numpy(whole)), atol=0.02, rtol=1e-3)
    direct = Projection(components=4, rows=8192).fit(whole)
    torch.testing.assert_close(by.basis, direct.basis, atol=1e-5, rtol=0)
    note = json.loads((out / "annotations.json").read_text())["columns"]["semantics"]
    assert note["note"]["projection"] == note["expert"]["file"] and note["expert"]["expert"]["is"] == "Patches"
    assert open_dataset(f"{out}?rename=semantics:meaning").made_by("meaning").digest == by.digest


def test_a_hundred_times_smaller_on_the_disk(clips: Path, tmp_path: Path) -> None:
    """Of 192 numbers two are kept; files have a head of 128 bytes."""
    asked(clips, tmp_path / "few", Projected(expert=Patches(), components=2))
    asked(clips, tmp_path / "all", Patches())
    sizes = [sum(p.stat().st_size for p in (tmp_path / n).rglob("columns/**/*.npy")) for n in ("few", "all")]
    assert sizes == [4 * (128 + 9 * 4 * 6 * 2 * 2), 4 * (128 + 9 * 4 * 6 * 192 * 2)] and sizes[1] / sizes[0] > 80


def test_it_is_fitted_once_and_serves_clips_that_come_later(clips: Path, tmp_path: Path) -> None:
    out, expert = tmp_path / "out", Projected(expert=Patches(), components=4, clips=2)
    ASKED.clear()
    asked(clips, out, expert, shard=(0, 2))
    assert ASKED == [9, 9, 9, 9], "two clips to fit, the two of the shard"
    by = open_dataset(out).made_by("semantics").digest
    asked(clips, out, expert, shard=(1, 2))
    assert len(ASKED) == 6
    write(clips, "4", shifting(9, (0, 2), (32, 48)))
    assert asked(clips, out, expert).episodes == 1 and open_dataset(out).made_by("semantics").digest == by
    asked(clips, out, Projected(expert=Patches(gain=2.0), components=4))
    assert open_dataset(out).made_by("semantics").digest != by
    assert len(list((out / projections.FOLDER).iterdir())) == 2


def test_clips_that_fail_are_left_out_of_the_fit(clips: Path, tmp_path: Path) -> None:
    write(clips, "1", np.zeros((9, 32, 48, 3), np.uint8))
    found = asked(clips, tmp_path / "out", Projected(expert=Patches(), components=4))
    assert found.failed == 1 and [open_dataset(tmp_path / "out").has(e, "semantics") for e in range(4)] == [1, 0, 1, 1]
    for name in "023":
        write(clips, name, np.zeros((9, 32, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="no clip of which features could be projected: ValueError: a black clip"):
        asked(clips, tmp_path / "none", Projected(expert=Patches(), components=4))


def test_each_video_by_itself(clips: Path, tmp_path: Path) -> None:
    expert = Projected(expert=Patches(), components=4, per="video")
    assert expert.after is None and Projected(expert=Patches()).after == 0
    asked(clips, tmp_path / "out", expert)
    found = open_dataset(tmp_path / "out")
    own = Projection(components=4, rows=8192).fit([Patches()(found.read(2, "video", range(9)))])
    wanted = own.encode(torch.from_numpy(Patches()(found.read(2, "video", range(9))))[None])[0]
    np.testing.assert_allclose(found.read(2, "semantics", range(9)), wanted, atol=0.02, rtol=1e-3)
    assert found.made_by("semantics").per == "video"


def recipe(components: int = 4) -> Recipe:
    semantics = Modality(
        shape=(3, 8, 12, components), patch=(1, 2, 2), key="semantics", rate=10.0,
        codec=Chain(Projection(components=components), Resample(size=(8, 12))),
    )  # fmt: skip
    return Recipe(
        name="features",
        modalities={"semantics": semantics},
        layout=Layout(Stream("semantics")),
        law=Shared(),
        modulation=Local(),
        backbone=DiT(width=48, depth=1, heads=2),
    )


def test_a_model_learns_the_stored_and_the_whole_alike(clips: Path, tmp_path: Path) -> None:
    asked(clips, tmp_path / "few", Projected(expert=Patches(), components=4))
    asked(clips, tmp_path / "all", Patches())
    losses = []
    for name in ("few", "all"):
        dataset = open_dataset(tmp_path / name)
        made = recipe().fit(dataset)
        assert made.modalities["semantics"].codec.codecs[0].stored == (name == "few")
        model = made.build()
        batch = Loader(Windows(dataset, made.signals()), made.signals(), 2, 0).batch(0)
        latent = model.encode(batch)
        assert latent.values["semantics"].shape == (2, 3, 8, 12, 4)
        total, _ = loss(model, latent, made.law, Dice(0, 0, range(2)))
        losses.append(float(total.detach()))
        save_pretrained(model, tmp_path / f"model-{name}")
        again = from_pretrained(tmp_path / f"model-{name}")
        assert (
            again.recipe.modalities["semantics"].codec.codecs[0].digest
            == made.modalities["semantics"].codec.codecs[0].digest
        )
    assert math.isclose(*losses, rel_tol=0.02), "float16 lies between them"


def test_a_model_is_not_shown_what_another_projection_made(clips: Path, tmp_path: Path) -> None:
    asked(clips, tmp_path / "one", Projected(expert=Patches(), components=4))
    asked(clips, tmp_path / "two", Projected(expert=Patches(gain=3.0), components=4))
    asked(clips, tmp_path / "raw", Patches())
    made = recipe().fit(open_dataset(tmp_path / "one"))
    assert len(Windows(open_dataset(tmp_path / "one"), made.signals())) == 36
    for name, message in (("two", "is by Projection/"), ("raw", "is raw")):
        with pytest.raises(ValueError, match=f"the model was fitted to a column that Projection/.* {message}"):
            Windows(open_dataset(tmp_path / name), made.signals())
    with pytest.raises(ValueError, match="the column was made by Projection"):
        recipe(components=2).fit(open_dataset(tmp_path / "one"))


def test_a_damaged_projection_is_named(clips: Path, tmp_path: Path) -> None:
    asked(clips, tmp_path / "out", Projected(expert=Patches(), components=4))
    (path,) = (tmp_path / "out" / projections.FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{path.name} holds no projection that can be read"):
        open_dataset(tmp_path / "out").made_by("semantics")
    with pytest.raises(ValueError, match="fitted to clips first"):
        Projected(expert=Patches())(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="clips=0"):
        Projected(expert=Patches(), clips=0)
