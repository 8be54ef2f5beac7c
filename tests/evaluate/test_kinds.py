"""Which measures fit which signal, and what each counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mapped import NOTES, Mapped, recipe

from polyclock.codecs import Chain, DepthColor, DepthPlane, FlowColor, Identity, LabelPlanes, Palette, SurfaceColor
from polyclock.evaluate.intervals import pooled
from polyclock.evaluate.kinds import (
    MEASURES,
    About,
    about,
    cosine_of,
    explained_of,
    iou_of,
    kinds_of,
    measure,
    unmeasured,
)
from polyclock.modality import Signal


@pytest.fixture(scope="module")
def model():
    return recipe().fit(Mapped()).build()


def test_a_kind_is_what_the_data_set_notes_or_the_codec_says(model) -> None:
    maps = {n: n for n in ("depth", "flow", "segmentation", "skeleton")}
    rest = {"action": "numbers", "state": "numbers", "video": "picture", "camera": "picture"}
    assert kinds_of(model, Mapped()) == maps | rest
    # Without data only codecs speak; nothing here is told apart by its name.
    assert kinds_of(model) == rest | dict.fromkeys(("depth", "flow", "segmentation"), "picture") | {
        "skeleton": "numbers"
    }
    named = recipe().fit(Mapped())
    stated = replace(named.modalities["depth"], codec=DepthPlane(near=0.5, far=3.0))
    named = replace(named, modalities=named.modalities | {"depth": stated})
    assert kinds_of(named.build())["depth"] == "depth"
    wrong = replace(named.modalities["flow"], shape=(2, 16, 16, 1), codec=DepthPlane(near=0.5, far=3.0))
    named = replace(named, modalities=named.modalities | {"flow": wrong})
    with pytest.raises(ValueError, match="flow: its codec is for depth, but the column 'observation.flow.top' holds"):
        kinds_of(named.build(), Mapped())


def test_what_is_known_of_a_signal_comes_from_the_notes() -> None:
    key = "observation.segmentation.top"
    found = about(Signal(key=key, kind="video", shape=(2, 16, 16, 2)), "segmentation", Mapped())
    assert found.classes == (1, 2) and found.camera == "top" and NOTES[key]["kind"] == found.kind
    joints = Signal(key="observation.skeleton.top", kind="vector", shape=(2, 4, 3))
    assert about(joints, "skeleton", Mapped()).joints == 2

    class Two(Mapped):
        dense = {joints.key: {"kind": "skeleton", "joints": ["a.left", "a.right", "b.left", "b.right"]}}

    assert about(joints, "skeleton", Two()).joints == 2
    # A figure of two joints is measured by its own box, not by that of both.
    true = torch.tensor([[0.0, 0, 1], [10, 0, 1], [100, 0, 1], [110, 0, 1]])[None, None]
    guess = true + torch.tensor([5.0, 0, 0])
    assert measure(guess, true, about(joints, "skeleton", Two()))["pck"].item() == 0
    assert measure(guess, true, About(kind="skeleton"))["pck"].item() == 1


def test_every_measure_is_in_the_table() -> None:
    maps = torch.ones(2, 1, 16, 16, 3)
    moving = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    pictures = torch.zeros(2, 1, 16, 16, 3, dtype=torch.uint8)
    numbers = torch.zeros(2, 3, 2)
    found = {
        **measure(pictures, pictures, About(kind="picture"), moving),
        **measure(numbers, numbers, About(kind="numbers", scale=torch.ones(2))),
        **measure(maps[..., :1], maps[..., :1], About(kind="depth"), moving),
        **measure(maps[..., :1], maps[..., :1], About(kind="depth", align="inverse"), moving),
        **measure(maps, maps, About(kind="flow"), moving),
        **measure(maps[..., :2], maps[..., :2], About(kind="segmentation", classes=(0, 1)), moving),
        **measure(maps, maps, About(kind="surface"), moving),
        **measure(maps[:, :, 0, :2], maps[:, :, 0, :2], About(kind="skeleton")),
    }
    probes = {"coverage", "width", "cosine", "explained", "permanence", "place_error", "place_error_moving"}
    probes |= {"object_error", "flicker", "warp_error", "warp_explained", "depth_warp", "edge_agreement"}
    probes |= {"edge_agreement_moving"}
    assert set(found) | probes == set(MEASURES)
    assert all(v.shape[0] == 2 for v in found.values())
    up = {"delta", "delta_aligned", "delta_fitted", "pck", "part_accuracy", "part_accuracy_moving", "part_agreement"}
    up |= {"delta_disparity", "map", "map_half", "psnr", "ssim", "miou", "miou_moving"}
    assert {n for n in found if MEASURES[n].better == "higher"} == up


def test_the_page_defines_every_measure() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("|")]
    assert {name for name in MEASURES if not any(f"`{name}`" in row for row in rows)} == set()


def test_planes_that_nobody_explains_are_measured_as_numbers() -> None:
    planes = torch.zeros(2, 3, 4, 4, 1)
    assert measure(planes + 2, planes, About(kind="picture"))["rmse"].tolist() == [2.0, 2.0]


def test_only_moving_pixels_count_where_that_is_said() -> None:
    true = torch.ones(1, 1, 4, 4, 1)
    guess, moving = true.clone(), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    guess[0, 0, 0, 0], moving[0, 0, 0, :2] = 1.5, True
    found = measure(guess, true, About(kind="depth"), moving)
    assert found["absrel"].item() == pytest.approx(0.5 / 16) and found["absrel_moving"].item() == pytest.approx(0.25)
    labels, told = torch.ones(1, 1, 4, 4, 2), torch.ones(1, 1, 4, 4, 2)
    told[0, 0, 0, 0], told[0, 0, 3] = 2, 2
    found = measure(told, labels, About(kind="segmentation", classes=(1, 2)), moving)
    assert pooled(found["miou"].numpy(), iou_of) == pytest.approx((11 / 16 + 0) / 2)
    assert pooled(found["miou_moving"].numpy(), iou_of) == pytest.approx((1 / 2 + 0) / 2)
    part = torch.ones(1, 1, 4, 4, 3)
    said = part.clone()
    said[0, 0, 0, 0, 0] = 2
    found = measure(said, part, About(kind="surface"), moving)
    assert (found["part_accuracy"].item(), found["part_accuracy_moving"].item()) == (15 / 16, 0.5)
    nothing = measure(guess, true, About(kind="depth"), torch.zeros_like(moving))
    assert nothing["absrel_moving"].isnan().all()


def test_depth_that_is_right_up_to_scale_and_shift_has_no_fitted_error() -> None:
    true = torch.rand(1, 1, 8, 8, 1) + 1
    found = measure(0.5 * true + 0.2, true, About(kind="depth"))
    assert found["absrel_fitted"].item() < 1e-6 < 0.2 < found["absrel"].item()
    assert found["delta_fitted"].item() == 1


DEPTH = Signal(key="observation.depth.top", kind="video", shape=(2, 16, 16, 1))


@pytest.mark.parametrize("scale", ["linear", "inverse"])
@pytest.mark.parametrize("range", ["fixed", "clip", "frame"])
def test_depth_is_aligned_as_its_codec_states(range: str, scale: str) -> None:
    """What a codec decodes from the truth itself is right, in whatever range it draws depth."""
    torch.manual_seed(0)
    true = torch.rand(2, 2, 16, 16, 1) * torch.tensor([1.0, 6.0]).view(1, 2, 1, 1, 1) + 1
    ends = {"near": 0.5, "far": 8.0} if range == "fixed" else {}
    codec = DepthColor(range=range, scale=scale, **ends)
    known = about(DEPTH, "depth", Mapped(), codec=Chain(codec, Identity()))
    found = measure(codec.decode(codec.encode(true)), true, known, torch.ones(2, 2, 16, 16, dtype=torch.bool))
    if range == "fixed":
        assert found["absrel"].max() < 1e-3 and "absrel_aligned" not in found and unmeasured("depth", known) == []
    else:
        assert set(found) == {"absrel_aligned", "delta_aligned"}
        assert found["absrel_aligned"].max() < 1e-3 and found["delta_aligned"].min() == 1
        (note,) = unmeasured("depth", known)
        assert note.startswith(f"depth: its codec keeps relative depth, so each {range} is fitted")
        # Another shape is still wrong.
        assert measure(codec.decode(codec.encode(true.flip(2))), true, known)["absrel_aligned"].min() > 0.1


@pytest.mark.parametrize(
    ("kind", "codec", "gone"),
    [
        ("flow", FlowColor(range="clip"), "epe epe_moving fl"),
        ("flow", FlowColor(range="frame"), "epe epe_moving fl"),
        ("flow", FlowColor(reach=9.0), ""),
        ("segmentation", Palette(of="instance"), "miou miou_moving"),
        ("segmentation", LabelPlanes(classes=4, of="instance"), "miou miou_moving"),
        ("segmentation", Palette(cycle=True), "miou miou_moving map map_half"),
        ("segmentation", Palette(), "map map_half"),
        ("surface", SurfaceColor(style="viridis"), "uv_error"),
        ("surface", SurfaceColor(), ""),
    ],
    ids=lambda v: None if isinstance(v, str) else str(v)[:40],
)
def test_what_a_codec_loses_is_not_measured(kind: str, codec, gone: str) -> None:
    maps = torch.ones(1, 2, 16, 16, len(codec.parts))
    moving = torch.ones(1, 2, 16, 16, dtype=torch.bool)
    signal = Signal(key=f"observation.{kind}.top", kind="video", shape=(2, 16, 16, len(codec.parts)))
    every, rest = about(signal, kind, Mapped()), about(signal, kind, Mapped(), codec=Chain(codec, Identity()))
    assert set(measure(maps, maps, every, moving)) - set(measure(maps, maps, rest, moving)) == set(gone.split())
    said = unmeasured("it", rest)
    assert bool(said) == bool(gone) and all(name in " ".join(said) for name in gone.split())


def test_what_is_pooled() -> None:
    """Two windows of three classes, one of which never occurs; changes that are parallel, absent and opposite."""
    counts = np.array([[1.0, 2, 0, 3, 2, 0], [1, 0, 0, 1, 2, 0]])
    assert pooled(counts, iou_of) == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert np.isnan(pooled(np.zeros((1, 6)), iou_of))
    assert pooled(np.array([[2.0, 4, 1]]), cosine_of) == 1 and pooled(np.array([[-2.0, 4, 1]]), cosine_of) == -1
    assert pooled(np.array([[0.0, 0, 1]]), cosine_of) == 0
    assert pooled(np.array([[0.0, 2], [1, 2]]), explained_of) == 0.75
