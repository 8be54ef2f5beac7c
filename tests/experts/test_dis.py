"""Dense inverse search on textures whose motion is known, and the check of occlusion."""

from __future__ import annotations

import numpy as np
import pytest
from moving_clips import shifting, texture

from polyclock.experts.dis import Dis
from polyclock.experts.flow import occluded, sampled

pytest.importorskip("cv2")


@pytest.mark.parametrize("step", [(3.0, 0.0), (-1.5, 2.0)])
def test_the_flow_of_a_texture_that_moves(step: tuple[float, float]) -> None:
    flow = Dis()(shifting(4, step))
    assert flow.shape == (4, 48, 64, 3) and flow.dtype == np.float32
    inner = flow[:3, 8:-8, 8:-8]
    off = np.linalg.norm(inner[..., :2] - np.array(step, np.float32), axis=-1)
    assert off.mean() < 0.15 and inner[..., 2].mean() < 0.02
    assert (flow[3] == 0).all(), "the last frame leads to itself"


def test_flow_may_span_several_frames_and_ends_at_the_last() -> None:
    flow = Dis(steps=3)(shifting(5, (1.0, 0.0)))[:, 8:-8, 8:-8, 0].mean((1, 2))
    assert np.allclose(flow, [3, 3, 2, 1, 0], atol=0.1)


@pytest.mark.parametrize(("preset", "size"), [("fast", (20, 256)), ("ultrafast", (12, 128)), ("medium", (14, 64))])
def test_flat_pictures_do_not_crash_the_search(preset, size: tuple[int, int]) -> None:
    """OpenCV ends the process at these sizes."""
    flow = Dis(preset=preset)(shifting(2, (2.0, 0.0), size))
    assert flow.shape == (2, *size, 3) and abs(np.median(flow[0, ..., 0]) - 2) < 0.3


def test_what_is_covered_or_leaves_is_occluded() -> None:
    clip = np.repeat(shifting(1, (0, 0), (96, 128)), 2, 0)
    thing = texture((48, 48), seed=5).astype(np.uint8)
    clip[0, 24:72, 30:78], clip[1, 24:72, 38:86] = thing, thing  # moves 8 px to the right, over what stands still
    hidden = Dis()(clip)[0, ..., 2]
    covered, still, front = hidden[30:66, 78:86].mean(), hidden[:16].mean(), hidden[36:60, 42:66].mean()
    assert covered > 0.4 and still < 0.02 and front < 0.1
    leaving = Dis()(shifting(2, (4.0, 0.0)))[0, ..., 2]
    assert leaving[12:36, -3:].mean() > 0.9 and leaving[12:36, 8:48].mean() < 0.1, "leaves to the right"
    assert (Dis(occlusion=False)(clip)[..., 2] == 0).all()


def test_a_flow_and_its_way_back_agree() -> None:
    ahead = np.full((20, 30, 2), (2.0, -1.0), np.float32)
    hidden = occluded(ahead, -ahead)
    inside = np.zeros((20, 30), bool)
    inside[1:, :-2] = True
    assert (hidden == ~inside).all()
    assert occluded(ahead, ahead)[5, 5], "the way back leads elsewhere"
    ramp = np.mgrid[:20, :30].astype(np.float32).transpose(1, 2, 0)
    assert np.allclose(sampled(ramp, np.array([[3.25]]), np.array([[7.5]])), [[[7.5, 3.25]]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dis(preset="slow"), "unknown preset of dense inverse search 'slow'"),
        (lambda: Dis(steps=0), "flow over 0 frames"),
        (lambda: Dis()(np.zeros((3, 8, 8, 3), np.uint8)), "frames of 8 x 8 px"),
        (lambda: Dis()(np.zeros((3, 16, 16, 3))), "frames are float64"),
    ],
)
def test_what_it_cannot_do_is_said(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_fingerprint_is_that_of_the_settings() -> None:
    prints = {Dis().fingerprint, Dis(preset="fast").fingerprint, Dis(steps=2).fingerprint}
    assert len(prints) == 3 and Dis().fingerprint == Dis(preset="medium").fingerprint
    assert Dis(steps=8).note == {"kind": "flow", "unit": "px", "scale": 1 / 64, "steps": 8}
