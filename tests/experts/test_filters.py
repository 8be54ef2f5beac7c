"""Filters tell clips that are too short, still, blurred, dark or frozen from the others."""

from __future__ import annotations

import numpy as np
import pytest
from moving_clips import shifting

from polyclock.experts.filters import Duration, Motion, Quality, Resolution

pytest.importorskip("cv2")


def test_how_long_and_how_large() -> None:
    clip = shifting(20, (1, 0))
    short = Duration(rate=10.0)
    assert short(clip) == pytest.approx([2.0]) and short.why(short(clip)) == "2 seconds long, at least 5 wanted"
    assert Duration(rate=4.0).why(Duration(rate=4.0)(clip)) == ""
    assert "at most 3" in Duration(most=3, least=0, rate=4.0).why(np.array([5.0]))
    with pytest.raises(ValueError, match="frames a second are needed"):
        Duration()(clip)
    assert Resolution()(clip) == 48 and "at least 512" in Resolution().why(Resolution()(clip))
    assert Resolution(side=720).why(Resolution(side=720)(clip)) == ""


@pytest.mark.parametrize(("step", "size"), [(2.0, (48, 64)), (8.0, (192, 256))])
def test_motion_is_measured_in_widths_a_second(step: float, size: tuple[int, int]) -> None:
    motion = Motion(rate=5.0)
    clip = shifting(5, (step, 0), size) if size[0] < 100 else shifting(5, (2.0, 0)).repeat(4, 1).repeat(4, 2)
    (found,) = motion(clip)
    assert found == pytest.approx(2 / 64 * 5, rel=0.1), "the same at any resolution"
    assert motion.why(np.array([found])) == ""
    wide = Motion(rate=5.0)(shifting(5, (40.0, 0), (24, 1280)))
    assert wide == pytest.approx(40 / 1280 * 5, rel=0.3), "a flat picture has room enough for the search"
    still = np.repeat(clip[:1], 5, 0)
    assert "at least 0.005 wanted" in motion.why(motion(still)), "a still picture"


def test_quality() -> None:
    quality, clip = Quality(), shifting(6, (2, 1), (96, 128))
    sharp, bright, clipped, repeated = quality(clip)
    assert sharp > 100 and 0.3 < bright < 0.7 and clipped < 0.3 and repeated == 0
    assert quality.why(quality(clip)) == ""
    import cv2

    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 8) for f in clip])
    assert "sharpness, at least 20 wanted" in quality.why(quality(blurred))
    assert "brightness" in quality.why(quality(clip // 30))
    frozen = quality(np.repeat(clip[:1], 6, 0))
    assert frozen[3] == 1 and "share of frames repeated" in quality.why(frozen)
    assert Quality(sharp=1).fingerprint != quality.fingerprint
