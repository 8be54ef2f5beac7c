"""Dense modalities end to end: recorded, read at another size, learnt, asked for, given, saved; where none has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyclock import Dice, DiT, Layout, Local, Modality, PerFrame, Recipe, Stream, from_pretrained, loss, sample
from polyclock.codecs import (
    Chain,
    DepthColor,
    DepthPlane,
    FlowColor,
    FlowPlanes,
    Identity,
    LabelPlanes,
    Palette,
    SkeletonPicture,
    SurfaceColor,
    SurfacePlanes,
)
from polyclock.codecs.codec import Codec
from polyclock.data import dense
from polyclock.data.collate import collate
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.source import Sample
from polyclock.data.window import Windows
from polyclock.pretrained import save_pretrained

STORED, SIDE, FRAMES = 24, 16, 2
JOINTS = ("hand", "finger", "thumb")
SKELETON = SkeletonPicture(size=(SIDE, SIDE), joints=3, frame=(STORED, STORED), limbs=((0, 1), (0, 2)), radius=1.5)
PICTURES = {
    "depth": DepthColor(near=0.5, far=3.0),
    "flow": FlowColor(reach=8.0),
    "segmentation": Palette(of="instance"),
    "surface": SurfaceColor(count=5),
    "skeleton": SKELETON,
}
PLANES = {
    "depth": DepthPlane(near=0.5, far=3.0, scale="inverse"),
    "flow": FlowPlanes(reach=8.0, knee=1.0),
    "segmentation": LabelPlanes(classes=6),
    "surface": SurfacePlanes(count=5),
    "skeleton": Chain(SKELETON, Identity()),
}
KINDS = {"depth": "video", "flow": "video", "segmentation": "video", "surface": "video", "skeleton": "vector"}


def recorded(folder: Path) -> dict[str, np.ndarray]:
    """One episode of 6 frames in which a square moves 3 px to the right in each."""
    n = 6
    values = {
        "depth": np.full((n, STORED, STORED, 1), 2.0, np.float32),
        "flow": np.zeros((n, STORED, STORED, 3), np.float32),
        "segmentation": np.zeros((n, STORED, STORED, 2), np.int32),
        "surface": np.zeros((n, STORED, STORED, 3), np.float32),
        "skeleton": np.ones((n, 3, 3), np.float32),
    }
    for t in range(n):
        here = (t, slice(6, 18), slice(3 * t, 3 * t + 9))
        values["depth"][here] = 1.0
        values["flow"][here] = (3.0, 0.0, 0.0)
        values["segmentation"][here] = (2, 4)
        values["surface"][here] = (5.0, 0.25, 0.75)
        values["skeleton"][t, :, :2] = [(3 * t + 4.5, 12), (3 * t + 4.5, 4), (3 * t + 4.5, 20)]
    values["depth"][:, :3] = 0
    features = {
        f"observation.{k}": dense.feature(k, (STORED, STORED), joints=JOINTS if k == "skeleton" else None)
        for k in values
    }
    with LeRobotWriter(folder, fps=10, features=features) as writer:
        writer.add_episode({f"observation.{k}": v for k, v in values.items()}, "move")
    return values


def recipe(codecs: dict[str, Codec]) -> Recipe:
    modalities = {}
    for name, codec in codecs.items():
        channels = getattr(codec, "channels", 3)
        modalities[name] = Modality(
            key=f"observation.{name}", shape=(FRAMES, SIDE, SIDE, channels), patch=(1, 8, 8), rate=10.0, codec=codec
        )
    return Recipe(
        name="dense",
        modalities=modalities,
        layout=Layout(Stream(*modalities)),
        law=PerFrame(),
        modulation=Local(),
        backbone=DiT(width=32, depth=1, heads=2),
    )


@pytest.mark.parametrize("codecs", [PICTURES, PLANES], ids=["pictures", "planes"])
def test_from_the_recording_to_the_answer(tmp_path: Path, codecs: dict[str, Codec]) -> None:
    true = recorded(tmp_path / "set")
    data = open_lerobot(tmp_path / "set")
    whole = recipe(codecs).fit(data)
    signals = whole.signals()
    assert {n: s.kind for n, s in signals.items()} == KINDS
    windows = Windows(data, signals)
    some = [windows[i] for i in (0, 2)]
    # A sample without depth and skeleton stands between the others; later no sample has them.
    lacking = Sample({n: v for n, v in windows[1].values.items() if n not in ("depth", "skeleton")}, {}, "lacking")
    batch = collate([some[0], lacking, some[1]], range(3), signals)
    assert batch.rows["depth"].tolist() == [0, 2] and batch.rows["flow"].tolist() == [0, 1, 2]

    model = whole.build()
    raw = {n: batch.tensor(n) for n in codecs}
    for name, codec in codecs.items():
        latent = codec.encode(raw[name])
        assert latent.shape[1:] == whole.modalities[name].shape and latent.dtype == torch.float32
    back = PICTURES["depth"].decode(PICTURES["depth"].encode(raw["depth"]))
    assert (
        float((back - raw["depth"]).abs().max()) < 2e-3
    )  # the read size is another; nearest pixels stay what they are
    assert float(raw["flow"][..., 0].max()) == pytest.approx(3 * SIDE / STORED)
    joints = SKELETON.decode(SKELETON.encode(raw["skeleton"]))
    np.testing.assert_allclose(joints[0, 0], true["skeleton"][0], atol=0.8)

    for samples in ([some[0], lacking, some[1]], [lacking, lacking, lacking]):
        one = collate(samples, range(3), signals)
        total, parts = loss(model, model.encode(one), whole.law, Dice(0, 0, range(3)))
        assert bool(torch.isfinite(total)) and set(parts) == set(codecs)
        total.backward()
    assert all(p.grad is not None for p in model.parameters())

    save_pretrained(model, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert dict(again.recipe.modalities) == dict(whole.modalities)
    asked = "skeleton, surface[1:] | depth, flow, segmentation, surface[:1]"
    given = {n: raw[n][:1] for n in ("depth", "flow", "segmentation")} | {"surface": raw["surface"][:1]}
    answers = [sample(m, asked, steps=2, seed=3, **given) for m in (model, again)]
    for name, value in answers[0].items():
        assert value.shape[1:] == signals[name].shape or value.shape[1] == 1, name
        assert torch.equal(value, answers[1][name])


def test_a_wrong_number_of_channels_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"makes latents \(T, H, W, 3\); the modality has shape \(2, 16, 16, 1\)"):
        Modality(shape=(2, 16, 16, 1), patch=(1, 8, 8), codec=DepthColor(range="clip")).signal("depth")
